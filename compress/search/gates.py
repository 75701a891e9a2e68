"""Gates: what a candidate must pass, size before any training and d1 after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from compress.cost import Cost, cost
from compress.errors import CompressError
from compress.search.config import human
from compress.space import SearchSpace


@dataclass(frozen=True)
class Gates:
    """Limits of a study; ``size`` is the network input at which MACs are counted."""

    max_params: float | None
    max_macs: float | None
    delta1: float
    size: tuple[int, int]

    def refusal(self, candidate: Cost) -> str | None:
        """Name the first gate that the size alone fails: "params", "macs" or None."""
        if self.max_params is not None and candidate.params > self.max_params:
            return "params"
        if self.max_macs is not None and candidate.macs > self.max_macs:
            return "macs"
        return None

    def check_feasible(self, space: SearchSpace) -> None:
        """Raise ``CompressError`` when even the smallest network of the space is too large."""
        size = cost(space.smallest, self.size)
        gate = self.refusal(size)
        if gate is None:
            return
        flag, limit, least = (
            ("--budget", self.max_params, size.params)
            if gate == "params"
            else ("--max-macs", self.max_macs, size.macs)
        )
        assert limit is not None
        raise CompressError(
            f"{flag} {human(limit)} is below the smallest network of space {space.name}, which has "
            f"{size.params:,} params and {size.macs:,} MACs at {self.size[0]}x{self.size[1]}; "
            f"give {flag} {least} or more"
        )


@dataclass
class Refusals:
    """Counts of candidates refused before training, by gate."""

    by_gate: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Refusals:
        """Go on from stored counts."""
        return cls(Counter(counts))

    @property
    def total(self) -> int:
        """All refusals."""
        return sum(self.by_gate.values())

    def describe(self) -> str:
        """As in ``params 120, duplicate 3``; "none" when nothing was refused."""
        return ", ".join(f"{gate} {n:,}" for gate, n in self.by_gate.most_common()) or "none"
