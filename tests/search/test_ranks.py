"""Rank correlations against vectors worked by hand and against their definitions."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.search.ranks import kendall, spearman

values = st.one_of(st.integers(-3, 3), st.floats(-1e6, 1e6), st.just(float("-inf")))
pairs = st.lists(st.tuples(values, values), min_size=2, max_size=14)


@pytest.mark.parametrize(
    ("a", "b", "rho", "tau"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0, 1.0),
        ([1, 2, 3], [9, 5, 1], -1.0, -1.0),
        # Rank differences 0 0 0 1 -1: rho = 1 - 6 * 2 / (5 * 24); one of ten pairs discordant.
        ([1, 2, 3, 4, 5], [1, 2, 3, 5, 4], 0.9, 0.8),
        # Ranks 1 2.5 2.5 4 and 1 3 2 4: sums of squares 4.5 and 5, of products 4.5. Five pairs
        # are not tied in a, all five in the same order in b: 5 / sqrt(5 * 6).
        ([1, 2, 2, 3], [1, 3, 2, 4], 4.5 / math.sqrt(4.5 * 5), 5 / math.sqrt(30)),
        # Both sides have ties: ranks 1.5 1.5 3 4 and 1 2.5 2.5 4, sums of squares 4.5, of products
        # 1.5 + 2.25; four pairs agree, one is tied in a, another in b.
        ([0, 0, 1, 2], [0, 1, 1, 2], 3.75 / 4.5, 4 / 5),
    ],
)
def test_vectors_worked_by_hand(a, b, rho, tau):
    assert spearman(a, b) == pytest.approx(rho)
    assert kendall(a, b) == pytest.approx(tau)


@pytest.mark.parametrize(
    ("a", "b"), [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2], [math.nan, 2])]
)
def test_where_there_is_no_order_there_is_no_figure(a, b):
    assert math.isnan(spearman(a, b))
    assert math.isnan(kendall(a, b))


@given(pairs)
def test_kendall_is_its_definition(drawn):
    a, b = zip(*drawn, strict=True)
    order = [((x > y) - (x < y), (u > v) - (u < v)) for (x, u), (y, v) in combinations(drawn, 2)]
    one, two = sum(s != 0 for s, _ in order), sum(t != 0 for _, t in order)
    if not one or not two:
        assert math.isnan(kendall(a, b))
        return
    wanted = sum(s * t for s, t in order) / math.sqrt(one * two)
    assert kendall(a, b) == pytest.approx(wanted)


@given(pairs)
def test_spearman_is_pearson_of_mean_ranks(drawn):
    def ranks(side):
        return [sum(y < x for y in side) + sum(y == x for y in side) / 2 for x in side]

    a, b = zip(*drawn, strict=True)
    one, two = ranks(a), ranks(b)
    mean = len(drawn) / 2
    one, two = [x - mean for x in one], [x - mean for x in two]
    scale = math.sqrt(sum(x * x for x in one) * sum(y * y for y in two))
    if not scale:
        assert math.isnan(spearman(a, b))
        return
    wanted = sum(x * y for x, y in zip(one, two, strict=True)) / scale
    assert spearman(a, b) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("correlation", [spearman, kendall])
@given(drawn=pairs)
def test_only_order_counts(correlation, drawn):
    a, b = zip(*drawn, strict=True)
    found = correlation(a, b)
    if math.isnan(found):
        assert math.isnan(correlation(b, a))
        return
    assert -1 <= found <= 1
    assert correlation(b, a) == pytest.approx(found)
    assert correlation(a, [-v for v in b]) == pytest.approx(-found)
    place = {value: at**3 for at, value in enumerate(sorted(set(a)))}
    assert correlation([place[v] for v in a], b) == pytest.approx(found)
