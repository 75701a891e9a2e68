"""Early stopping on NetScore that keeps the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from compress.netscore import netscore
from compress.search.records import Record, best

# Complete candidates that must stand behind an expectation before it stops anything.
EVIDENCE = 3
# What a candidate may gain over the largest gain seen so far, in d1.
MARGIN = 0.01


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

    Its final d1 is at most expected to be its present one plus the largest gain that any complete
    candidate made from the same rung on. It is stopped when even so it would miss the d1 gate; or
    when even so its NetScore would be below the best gated one's and another candidate was better
    at this rung for no more MACs, so that it adds nothing to the front either.
    """
    gains = [
        (row.delta1 or 0.0) - rung.delta1
        for row in rows
        if row.state == "complete"
        for rung in row.rungs
        if rung.epoch == epoch
    ]
    if len(gains) < EVIDENCE:
        return ""
    hoped = min(1.0, delta1 + max(gains) + MARGIN)
    if hoped < gate:
        return f"d1 {delta1:.3f} at epoch {epoch}: at most {hoped:.3f} expected, gate {gate:g}"
    leader = best(rows, gate)
    if leader is None or leader.netscore is None:
        return ""
    bound = netscore(100 * hoped, params, macs, exponents)
    beaten = any(
        rung.epoch == epoch and rung.delta1 >= delta1 and row.macs <= macs
        for row in rows
        for rung in row.rungs
    )
    if bound < leader.netscore and beaten:
        return f"NetScore at most {bound:.2f} expected at epoch {epoch}, best {leader.netscore:.2f}"
    return ""
