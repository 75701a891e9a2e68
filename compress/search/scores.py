"""What slices of a trained supernet scored, and which candidates to train for it.

Some are trained alone, from fresh weights: they say how far the scores can be trusted. The others,
the best by what scores let expect, are cut out of the supernet and trained on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.trial import TrialState

from compress.netscore import netscore
from compress.search.ranks import kendall, spearman
from compress.search.records import CUT, Record, best, records
from compress.search.session import Session

FILE = "supernet.jsonl"
ALONE = 20  # candidates trained alone at most, to compare with
FIRST = 3  # of them come before any that is cut out
SHARE = 0.4  # of all that are trained, until there are so many
SPREAD = 0.015  # of d1 about what is expected, at least: another seed makes as much of a difference


@dataclass(frozen=True)
class Score:
    """One candidate's d1 as a slice of the supernet, and its size."""

    values: dict[str, Any]
    hash: str
    params: int
    macs: int
    delta1: float


def read_scores(path: Path) -> list[Score]:
    """Scores that were kept; a last line that was cut off is dropped from the file too."""
    found: list[Score] = []
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines(keepends=True):
            with contextlib.suppress(ValueError, TypeError):
                found.append(Score(**json.loads(line)))
        if text and not text.endswith("\n"):
            path.write_text("".join(json.dumps(asdict(s)) + "\n" for s in found), encoding="utf-8")
    return found


def queue_next(session: Session) -> None:
    """Queue the candidate to train next, where none waits; the caller holds the study's lock.

    Alone, as long as those are fewer than ``SHARE`` of all that are trained, one of those spread
    over the scores; else the most promising one, to be cut out.
    """
    study = session.study
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return
    rows, scores = records(study), read_scores(session.folder / FILE)
    known = {row.hash for row in rows}
    left = [score for score in scores if score.hash not in known]
    if not left:
        return
    alone = sum(not row.cut for row in rows)
    if alone < min(ALONE, max(FIRST, SHARE * (len(rows) + 1))):
        told = sorted({s.delta1 for s in scores if s.hash in known})
        study.enqueue_trial(telling(left, told).values)
        return
    gate, exponents = session.gates.delta1, session.config.exponents
    score = most_promising(left, pairs(scores, rows), gate, exponents, best(rows, gate))
    study.enqueue_trial(score.values, user_attrs={CUT: True})


def telling(left: Sequence[Score], told: Sequence[float]) -> Score:
    """The one farthest in rank from those whose d1 as slices is ``told``; the best of all first."""
    ranked = sorted(left, key=lambda score: (-score.delta1, score.hash))
    if not told:
        return ranked[0]
    levels = np.array([score.delta1 for score in ranked])
    # Where each known one stands among those left, in ranks.
    places = np.array([(levels > delta1).sum() for delta1 in told])
    gaps = np.abs(np.arange(len(ranked))[:, None] - places[None, :]).min(1)
    return ranked[int(gaps.argmax())]


def pairs(scores: Sequence[Score], rows: Sequence[Record]) -> list[tuple[float, float]]:
    """d1 as a slice and trained, of those cut out; of all, as long as these are few."""
    cut = _both(scores, [row for row in rows if row.cut])
    return cut if len(cut) > 2 else _both(scores, rows)


def most_promising(
    left: Sequence[Score],
    known: Sequence[tuple[float, float]],
    gate: float,
    exponents: str,
    leader: Record | None,
) -> Score:
    """The candidate of the highest gain in NetScore times its probability of passing the gate.

    What a slice's d1 lets expect is a line through what is known of both; its probability is that
    of a normal distribution as wide as what is left of that line.
    """
    expect, spread = expectation(known)
    chance = NormalDist(0.0, spread)
    worths = [
        netscore(100 * max(gate, expect(s.delta1)), s.params, s.macs, exponents) for s in left
    ]
    base = (leader.netscore if leader else None) or min(worths) - 1.0

    def promise(place: int) -> tuple[float, float]:
        probability = chance.cdf(expect(left[place].delta1) - gate)
        return probability * max(0.0, worths[place] - base), probability

    return left[max(range(len(left)), key=promise)]


def expectation(known: Sequence[tuple[float, float]]) -> tuple[Callable[[float], float], float]:
    """A line from a slice's d1 to the trained network's, rising, within 0 and 1; its error.

    That is the standard deviation of d1 about the line, at least ``SPREAD``.
    """
    if not known:
        return (lambda delta1: delta1), SPREAD
    x, y = np.array(known).T
    slope = 1.0
    if len(known) > 2 and x.std() > 1e-6:
        # Between one (an offset alone) and what the data say, the more they are the nearer.
        fitted = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
        slope = max(0.1, 1.0 + (fitted - 1.0) * len(known) / (len(known) + 2))
    offset = float(y.mean() - slope * x.mean())
    spread = max(SPREAD, float((y - slope * x - offset).std()))
    return (lambda delta1: min(1.0, max(1e-3, slope * delta1 + offset))), spread


def correlation(scores: Sequence[Score], rows: Sequence[Record]) -> dict[str, Any]:
    """Rank correlation of the supernet's d1 with that of the same candidates trained alone."""
    alone = _both(scores, [row for row in rows if not row.cut])
    mine, theirs = [pair[0] for pair in alone], [pair[1] for pair in alone]
    ranks = (spearman(mine, theirs), kendall(mine, theirs)) if len(alone) > 2 else (np.nan,) * 2
    return {
        "scored": len(scores),
        "trained": len(alone),
        "cut": sum(row.cut and row.state == "complete" for row in rows),
        "spearman": None if np.isnan(ranks[0]) else ranks[0],
        "kendall": None if np.isnan(ranks[1]) else ranks[1],
    }


def _both(scores: Sequence[Score], rows: Sequence[Record]) -> list[tuple[float, float]]:
    """d1 as a slice and trained, of the candidates that were both."""
    known = {score.hash: score.delta1 for score in scores}
    return [
        (known[row.hash], row.delta1 or 0.0)
        for row in rows
        if row.state == "complete" and row.hash in known
    ]


def describe(found: dict[str, Any]) -> str:
    """One line on how far the supernet's scores can be trusted."""
    text = f"{found['scored']:,} candidates scored as slices of one network"
    if found["spearman"] is None:
        return f"{text}; too few trained alone ({found['trained']}) to compare"
    return (
        f"{text}; against {found['trained']} trained alone: Spearman {found['spearman']:.2f}, "
        f"Kendall {found['kendall']:.2f}"
    )
