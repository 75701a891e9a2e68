"""Rank fidelity: whether candidates stand at an early rung as they do in the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from compress.search.ranks import kendall, spearman
from compress.search.records import Record, Rung

# Candidates below which a rank correlation says next to nothing.
FEWEST = 4


@dataclass(frozen=True)
class RungFidelity:
    """How the d1 of a rung orders ``n`` candidates, compared with their final d1.

    ``spearman`` and ``kendall`` are None for fewer than ``FEWEST`` candidates, and where all are
    equally accurate. ``size`` and ``share`` are what the rung was spared, as in ``Rung``.
    """

    epoch: int
    spearman: float | None
    kendall: float | None
    n: int
    size: tuple[int, int] | None = None
    share: float = 1.0

    @property
    def spared(self) -> str:
        """What the rung trained on, where that is less than all; "" otherwise."""
        smaller = [f"{self.size[0]}x{self.size[1]}"] if self.size else []
        return ", ".join(smaller + ([f"{self.share:.0%} of the images"] if self.share < 1 else []))

    def describe(self) -> str:
        """As in ``epoch 3: Spearman 0.81, Kendall 0.64 (n 6)``."""
        at = f"epoch {self.epoch}" + (f" ({self.spared})" if self.spared else "")
        if self.n < FEWEST:
            return f"{at}: too few (n {self.n})"
        if self.spearman is None or self.kendall is None:
            return f"{at}: all equal (n {self.n})"
        return f"{at}: Spearman {self.spearman:.2f}, Kendall {self.kendall:.2f} (n {self.n})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values; what was not spared is left out."""
        values = {"epoch": self.epoch, "n": self.n, "spearman": self.spearman}
        values |= {"kendall": self.kendall}
        smaller = {"size": list(self.size)} if self.size else {}
        return values | smaller | ({"share": self.share} if self.share < 1 else {})


def rank_fidelity(rows: Iterable[Record]) -> list[RungFidelity]:
    """Compare each early rung with the end, over the candidates that were trained to the end.

    Those that early stopping took out are missing, mostly the worst; among the rest, which lie
    closer together, ranks tend to agree less than they would among all.
    """
    finished = [row for row in rows if row.state == "complete" and len(row.rungs) > 1]
    early: dict[int, list[tuple[Rung, float]]] = {}
    for row in finished:
        for rung in row.rungs[:-1]:
            early.setdefault(rung.epoch, []).append((rung, row.rungs[-1].delta1))
    return [_compared(epoch, pairs) for epoch, pairs in sorted(early.items())]


def _compared(epoch: int, pairs: Sequence[tuple[Rung, float]]) -> RungFidelity:
    then, last = [rung.delta1 for rung, _ in pairs], [final for _, final in pairs]
    first = pairs[0][0]
    enough = len(pairs) >= FEWEST
    rho, tau = (spearman(then, last), kendall(then, last)) if enough else (math.nan, math.nan)
    return RungFidelity(
        epoch,
        None if math.isnan(rho) else rho,
        None if math.isnan(tau) else tau,
        len(pairs),
        first.size,
        first.share,
    )
