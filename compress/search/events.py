"""What a running study tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.cost import Cost
from compress.search.records import Record
from compress.train.fit import Epoch


@dataclass(frozen=True)
class Status:
    """Where a study stands: ``seconds_left`` and ``trials_wanted`` are None without a bound."""

    trials: int
    trials_wanted: int | None
    refused: str
    best: Record | None
    seconds_left: float | None


class Events:
    """Does nothing at every event; a display overrides what it shows."""

    def reading(self, what: str) -> Callable[[int, int], None] | None:
        """Data is about to be read or rendered: return a callback for (done, of), or None."""
        return None

    def note(self, text: str) -> None:
        """Something worth a line."""

    def status(self, status: Status) -> None:
        """The study moved on."""

    def began(self, number: int, size: Cost) -> None:
        """A candidate's training begins."""

    def epoch(self, number: int, epoch: Epoch) -> None:
        """An epoch of candidate ``number`` ended."""

    def finished(self, record: Record, records: Sequence[Record]) -> None:
        """A candidate is done: complete, stopped early or failed."""

    def final(self, record: Record, epochs: int) -> None:
        """The winner's training at full budget begins."""
