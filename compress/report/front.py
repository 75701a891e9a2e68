"""The front of d1 against a cost as figures: the area that it covers, and its knee."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compress.errors import CompressError
from compress.report.findings import Findings
from compress.report.words import number
from compress.search.records import Record, undominated

# A cost, to be small, and d1, to be large.
Point = tuple[float, float]

# The gate that limits each cost.
LIMITS = {"macs": "max_macs", "params": "max_params", "latency_ms": "max_latency_ms"}
WORST_DELTA1 = 0.0


@dataclass(frozen=True)
class FrontFigures:
    """A study's front against one cost.

    ``hypervolume`` is in the cost's unit times d1, ``hypervolume_log`` in decades of cost times
    d1, both up to ``reference`` (cost, d1). ``knee`` is None where the front has none.
    """

    cost: str
    front: tuple[Record, ...]
    reference: Point
    hypervolume: float
    hypervolume_log: float
    knee: Record | None


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both, cheapest first; of equal ones one is kept.

    What is not finite is left out.

    >>> pareto([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.8)])
    [(1, 0.5), (2, 0.8), (3, 0.9)]
    """
    known = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    return undominated(known, lambda point: point)


def hypervolume(points: Iterable[Point], reference: Point, *, log_cost: bool = False) -> float:
    """The area that points dominate: exactly, by the staircase of their front.

    Args:
        points: (cost, d1).
        reference: the worst cost and d1 that count; what is no better adds nothing.
        log_cost: measure costs in decades, log10 of them, so that going from 100 M to 10 M counts
            as much as from 10 M to 1 M.

    Returns:
        unit of cost (or decades) times d1; 0 where no point is better than the reference.

    Raises:
        CompressError: a cost of 0 or less with ``log_cost``.

    Source: Zitzler and Thiele, "Multiobjective Optimization Using Evolutionary Algorithms", PPSN
    1998, section 3: the size of the space covered.

    >>> hypervolume([(1, 0.5), (2, 0.8)], (4, 0.0))
    2.1
    """
    worst, least = reference
    inside = [p for p in pareto(points) if p[0] < worst and p[1] > least]
    costs = [cost for cost, _ in inside] + [worst]
    if log_cost and inside:
        costs = [_log(cost) for cost in costs]
    return math.fsum(
        (after - cost) * (delta1 - least)
        for cost, after, (_, delta1) in zip(costs, costs[1:], inside, strict=False)
    )


def knee(points: Sequence[Point]) -> Point | None:
    """The point of a front from which going on in either direction pays least.

    The front is drawn with log10 of cost and with d1, both from 0 to 1 between its two ends; the
    knee lies furthest above the straight line between them. Of equal ones the cheapest counts.

    Args:
        points: (cost, d1) with costs above 0; dominated ones change nothing.

    Returns:
        None where the front has fewer than three points, or none above the line.

    Raises:
        CompressError: a cost of 0 or less.

    Source: Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary
    intersection", Structural Optimization 18, 1999: the greatest distance from the line (there
    the convex hull of the single optima).

    >>> knee([(1, 0.1), (10, 0.8), (100, 0.9)])
    (10, 0.8)
    """
    line = pareto(points)
    if len(line) < 3:
        return None
    (first, low), (last, high) = line[0], line[-1]
    start, width = _log(first), _log(last) - _log(first)
    if not width:  # costs that differ by less than their logarithms can tell
        return None
    # In the unit square the distance from the diagonal is this over the root of 2.
    above = [(d1 - low) / (high - low) - (_log(cost) - start) / width for cost, d1 in line]
    best = max(range(len(line)), key=lambda i: (round(above[i], 9), -i))
    return line[best] if above[best] > 1e-9 else None


def reference_point(found: Findings, cost: str) -> Point:
    """The worst that counts: the gate's limit of a cost, or else the largest one trained; d1 0.

    Areas of two studies can be compared where both are taken with one reference point.
    """
    limit = number(found.gates.get(LIMITS[cost]))
    trained = [getattr(row, cost) for row in found.rows if row.state == "complete"]
    worst = limit if limit is not None else max((c for c in trained if c is not None), default=0.0)
    return float(worst), WORST_DELTA1


def summary(found: Findings, cost: str = "macs", reference: Point | None = None) -> FrontFigures:
    """A study's front against "macs", "params" or "latency_ms", with its area and knee."""
    front = [row for row in found.front(cost) if getattr(row, cost) > 0]
    points = [(float(getattr(row, cost)), row.delta1 or 0.0) for row in front]
    worst = reference or reference_point(found, cost)
    best = knee(points)
    return FrontFigures(
        cost,
        tuple(front),
        worst,
        hypervolume(points, worst),
        hypervolume(points, worst, log_cost=True),
        None if best is None else front[points.index(best)],
    )


def _log(cost: float) -> float:
    if cost <= 0:
        raise CompressError(f"cost {cost:g}: has no logarithm; give costs above 0")
    return math.log10(cost)
