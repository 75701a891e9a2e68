"""Early stopping on NetScore that keeps the Pareto front."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compress.netscore import netscore
from compress.search.records import Record, best

# Complete candidates that must stand behind an expectation before it stops anything.
EVIDENCE = 3
# What a candidate may gain over the largest gain seen so far, in d1.
MARGIN = 0.01
# One of so many that reached a rung goes on, where halving decides: a rung is twice the one before.
ETA = 2


@dataclass(frozen=True)
class Reached:
    """A candidate at one of its rungs, and where that rung stands among those before the last."""

    hash: str
    params: int
    macs: int
    epoch: int
    delta1: float
    netscore: float
    place: int = 0
    rungs: int = 1


@dataclass(frozen=True)
class Aim:
    """What a study is after: its d1 gate and the NetScore that it maximises."""

    gate: float
    exponents: str


def out_of_reach(rows: Sequence[Record], epoch: int, delta1: float, gate: float) -> str:
    """Say why a candidate will not pass the d1 gate, or "".

    Its final d1 is at most expected to be its present one plus the largest gain that any complete
    candidate made from the same rung on, plus a margin.
    """
    hoped = _hoped(rows, epoch, delta1)
    if hoped is None or hoped >= gate:
        return ""
    return f"d1 {delta1:.3f} at epoch {epoch}: at most {hoped:.3f} expected, gate {gate:g}"


def stop_reason(
    rows: Sequence[Record],
    params: int,
    macs: int,
    epoch: int,
    delta1: float,
    gate: float,
    exponents: str,
) -> str:
    """Say why a candidate need not be trained past this rung, or "".

    It is stopped when the gate is out of its reach; or when even its expected d1 would leave its
    NetScore below the best gated one's and another candidate was better at this rung for no more
    MACs, so that it adds nothing to the front either.
    """
    hoped = _hoped(rows, epoch, delta1)
    if hoped is None:
        return ""
    reason = out_of_reach(rows, epoch, delta1, gate)
    if reason:
        return reason
    leader = best(rows, gate)
    if leader is None or leader.netscore is None:
        return ""
    bound = netscore(100 * hoped, params, macs, exponents)
    if bound < leader.netscore and _beaten(rows, macs, epoch, delta1):
        return f"NetScore at most {bound:.2f} expected at epoch {epoch}, best {leader.netscore:.2f}"
    return ""


def _expected(rows: Sequence[Record], at: Reached, aim: Aim) -> str:
    return stop_reason(rows, at.params, at.macs, at.epoch, at.delta1, aim.gate, aim.exponents)


def halving(rows: Sequence[Record], at: Reached, aim: Aim) -> str:
    """Asynchronous successive halving, in the form that stops candidates rather than pauses them.

    One of ``ETA`` that reached a rung goes on, by NetScore; and, whatever its NetScore, one that
    nobody beats there in both d1 and MACs, so that the front is kept. Nobody is stopped by fewer
    than ``ETA``, nor for being equal to one that went on. What cannot pass the d1 gate is stopped
    as by the default: halving alone would go on with the best of candidates that all miss it.

    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934.
    """
    return out_of_reach(rows, at.epoch, at.delta1, aim.gate) or _halved(rows, rows, at)


def brackets(rows: Sequence[Record], at: Reached, aim: Aim) -> str:
    """Hyperband: candidates are divided over brackets, of which some begin to halve later.

    A bracket compares its own candidates alone, and stops nothing, for whatever reason, before the
    rung at which it begins; so some candidates are trained to the end however they began, and show
    whether early rungs mislead.

    Source: Li et al., "Hyperband", arXiv 1603.06560.
    """
    own = bracket(at.hash, at.rungs)
    if at.place < own:
        return ""
    peers = [row for row in rows if bracket(row.hash, at.rungs) == own]
    return out_of_reach(rows, at.epoch, at.delta1, aim.gate) or _halved(peers, rows, at)


def bracket(hash_: str, rungs: int) -> int:
    """The early rung, from 0, at which a candidate's bracket begins to halve; ``rungs``: at none.

    Brackets are as large as Hyperband makes them: with two early rungs, 4, 3 and 3 of ten. The
    candidate itself decides, so that it is in the same one after an interruption.
    """
    sizes = [math.ceil((rungs + 1) / (s + 1) * ETA**s) for s in range(rungs, -1, -1)]
    drawn = zlib.crc32(hash_.encode()) % sum(sizes)
    for place, size in enumerate(sizes):
        if drawn < size:
            return place
        drawn -= size
    raise AssertionError("drawn below the sum of all sizes")


def _halved(peers: Sequence[Record], rows: Sequence[Record], at: Reached) -> str:
    scores = [rung.netscore for row in peers for rung in row.rungs if rung.epoch == at.epoch]
    reached = len(scores) + 1
    place = 1 + sum(score > at.netscore for score in scores)
    kept = reached // ETA
    if reached < ETA or place <= kept or not _beaten(rows, at.macs, at.epoch, at.delta1):
        return ""
    return (
        f"NetScore {at.netscore:.2f} at epoch {at.epoch}: place {place} of {reached}, of which "
        f"{kept} {'goes' if kept == 1 else 'go'} on"
    )


def _hoped(rows: Sequence[Record], epoch: int, delta1: float) -> float | None:
    """The most that d1 is expected to become; None while too few stand behind an expectation."""
    gains = [
        (row.delta1 or 0.0) - rung.delta1
        for row in rows
        if row.state == "complete"
        for rung in row.rungs
        if rung.epoch == epoch
    ]
    return None if len(gains) < EVIDENCE else min(1.0, delta1 + max(gains) + MARGIN)


def _beaten(rows: Sequence[Record], macs: int, epoch: int, delta1: float) -> bool:
    """Whether another candidate was at least as accurate at this rung for no more MACs."""
    return any(
        rung.epoch == epoch and rung.delta1 >= delta1 and row.macs <= macs
        for row in rows
        for rung in row.rungs
    )


# Each says, from all other candidates, why one need not be trained past a rung, or "".
PRUNERS: dict[str, Callable[[Sequence[Record], Reached, Aim], str]] = {
    "expected": _expected,
    "asha": halving,
    "hyperband": brackets,
    "none": lambda rows, at, aim: "",
}
