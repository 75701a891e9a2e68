"""Rank correlations: whether one list of figures puts candidates in the order of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = Sequence[float] | npt.NDArray[np.float64]


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rho: Pearson's correlation of ranks, where ties share the mean of their ranks.

    NaN for fewer than two pairs, where a side is all equal, and where a value is NaN.

    Source: C. Spearman, "The proof and measurement of association between two things", 1904.

    >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
    0.8
    """
    first, second = _pairs(a, b)
    if _undefined(first, second):
        return float("nan")
    one, two = _ranks(first), _ranks(second)
    one, two = one - one.mean(), two - two.mean()
    rho = float((one @ two) / np.sqrt((one @ one) * (two @ two)))
    return min(1.0, max(-1.0, rho))


def kendall(a: Floats, b: Floats) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in the other, corrected for ties.

    NaN for fewer than two pairs, where a side is all equal, and where a value is NaN.

    Source: M. G. Kendall, "The treatment of ties in ranking problems", 1945.

    >>> round(kendall([1, 2, 3, 4], [10, 20, 40, 30]), 6)  # one pair of six the other way round
    0.666667
    """
    first, second = _pairs(a, b)
    if _undefined(first, second):
        return float("nan")
    same, untied_first, untied_second = 0.0, 0, 0
    for at in range(len(first) - 1):  # a row at a time: all pairs at once would take n² memory
        one = _order(first[at], first[at + 1 :])
        two = _order(second[at], second[at + 1 :])
        same += float(one @ two)
        untied_first += int(np.count_nonzero(one))
        untied_second += int(np.count_nonzero(two))
    tau = same / (np.sqrt(float(untied_first)) * np.sqrt(float(untied_second)))
    return min(1.0, max(-1.0, float(tau)))


def _pairs(a: Floats, b: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert first.ndim == 1 and first.shape == second.shape
    return first, second


def _undefined(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> bool:
    if len(first) < 2 or np.isnan(first).any() or np.isnan(second).any():
        return True
    return bool((first == first[0]).all() or (second == second[0]).all())


def _order(value: float, others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 where a later value is higher, -1 where lower, 0 where equal; infinities compare too."""
    return (others > value).astype(np.float64) - (others < value)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    ranks: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks
