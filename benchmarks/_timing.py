"""What the benchmarks share: interleaved repetitions, medians, intervals and a plain table."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A median and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """As in ``1.52 [1.48, 1.57]``; the format holds for each of the three."""
        return f"{self.median:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values: Sequence[float], draws: int = 1000) -> Interval:
    """Median of ``values`` with a bootstrap interval, the same for the same values."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return Interval(
        statistics.median(values), medians[round(0.025 * draws)], medians[round(0.975 * draws) - 1]
    )


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time each variant once a round, in alternating order, after one round that does not count.

    Whatever else the machine does then falls on all variants alike: compare them by ``ratio``,
    round by round. No round starts after ``seconds``, but three are always run. With
    ``clock=time.process_time`` only this process's own work counts; use it with one thread.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    began = time.perf_counter()
    for number in range(rounds + 1):
        if number > 3 and time.perf_counter() - began > seconds:
            break
        names = list(variants) if number % 2 else list(reversed(variants))
        for name in names:
            start = clock()
            variants[name]()
            if number:
                taken[name].append(clock() - start)
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Interval:
    """How many times longer ``slow`` took than ``fast``, round by round."""
    return interval([a / b for a, b in zip(slow, fast, strict=True)])


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows under the first one, columns aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
