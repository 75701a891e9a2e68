"""Areas and knees against hand-worked fronts, brute force and Optuna's own hypervolume."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from report_studies import add, four, make_study

from compress.errors import CompressError
from compress.report.findings import read
from compress.report.front import hypervolume, knee, pareto, reference_point, summary

POINTS = st.lists(
    st.tuples(st.integers(1, 60).map(float), st.integers(0, 20).map(lambda k: k / 20)), max_size=25
)
# Where rounding decides which of two is further from the line, either is right.
SPREAD = st.lists(
    st.tuples(st.floats(1, 1e6, width=32), st.floats(0, 1, width=32)), min_size=3, max_size=12
)


def test_a_hand_worked_front():
    # (2, .4) is beaten by (2, .8), (5, .8) by (2, .8), (9, .1) by all.
    points = [(5.0, 0.8), (1.0, 0.5), (2.0, 0.4), (2.0, 0.8), (4.0, 0.9), (9.0, 0.1), (1.0, 0.5)]
    assert pareto(points) == [(1.0, 0.5), (2.0, 0.8), (4.0, 0.9)]
    # Strips up to the reference of 10: 1 wide x .5, 2 wide x .8, 6 wide x .9.
    assert hypervolume(points, (10.0, 0.0)) == pytest.approx(1 * 0.5 + 2 * 0.8 + 6 * 0.9)
    # From d1 .6 up the first point counts no more: 2 x .2 and 6 x .3.
    assert hypervolume(points, (10.0, 0.6)) == pytest.approx(2 * 0.2 + 6 * 0.3)
    # Up to a cost of 3 the last one counts no more: 1 x .5 and 1 x .8.
    assert hypervolume(points, (3.0, 0.0)) == pytest.approx(0.5 + 0.8)


def test_decades_of_cost():
    points = [(1e6, 0.5), (1e7, 0.8), (1e8, 0.9)]
    area = hypervolume(points, (1e9, 0.0), log_cost=True)
    assert area == pytest.approx(0.5 + 0.8 + 0.9)
    assert hypervolume([(1e3 * c, d) for c, d in points], (1e12, 0.0), log_cost=True) == (
        pytest.approx(area)
    )


def test_nothing_covers_nothing():
    assert hypervolume([], (10.0, 0.0)) == 0
    assert hypervolume([(10.0, 0.9), (12.0, 1.0)], (10.0, 0.0)) == 0
    assert hypervolume([(1.0, 0.3)], (10.0, 0.3)) == 0
    assert hypervolume([(1.0, math.nan), (math.inf, 0.9), (-math.inf, 0.9)], (10.0, 0.0)) == 0
    assert knee([]) is None and knee([(1.0, 0.2), (2.0, 0.3)]) is None


def test_a_cost_without_logarithm_is_told():
    with pytest.raises(CompressError, match="cost 0: has no logarithm"):
        hypervolume([(0.0, 0.5)], (10.0, 0.0), log_cost=True)
    with pytest.raises(CompressError, match="cost -3: has no logarithm"):
        knee([(-3.0, 0.5), (1.0, 0.6), (2.0, 0.7)])


@settings(max_examples=50)
@given(POINTS, st.integers(1, 60), st.integers(0, 20))
def test_area_is_that_of_the_cells_counted_one_by_one(points, worst, least):
    cells = sum(
        any(cost <= i and 20 * delta1 >= k + 1 for cost, delta1 in points)
        for i in range(1, worst)
        for k in range(least, 20)
    )
    assert hypervolume(points, (worst, least / 20)) == pytest.approx(cells / 20)


@settings(max_examples=50)
@given(POINTS.filter(len), st.booleans())
def test_area_is_optunas(points, log_cost):
    losses = np.array([(math.log10(c) if log_cost else c, -d1) for c, d1 in points])
    corner = np.array([math.log10(61) if log_cost else 61.0, 0.0])
    wanted = compute_hypervolume(losses, corner)
    assert hypervolume(points, (61.0, 0.0), log_cost=log_cost) == pytest.approx(wanted)


@settings(max_examples=50)
@given(POINTS)
def test_front_is_what_no_other_beats(points):
    kept = [
        p for p in set(points) if not any(o != p and o[0] <= p[0] and o[1] >= p[1] for o in points)
    ]
    assert pareto(points) == sorted(kept)


def test_a_hand_worked_knee():
    # With log cost and d1 from 0 to 1: (0, 0), (1/3, .5), (2/3, .9), (1, 1): .167, .233 above.
    points = [(1.0, 0.4), (10.0, 0.65), (100.0, 0.85), (1000.0, 0.9)]
    assert knee(points) == (100.0, 0.85)
    assert knee([*points, (500.0, 0.1)]) == (100.0, 0.85)  # dominated: changes nothing
    # All on the line, or below it: there is no knee.
    assert knee([(1.0, 0.1), (10.0, 0.2), (100.0, 0.3)]) is None
    assert knee([(1.0, 0.1), (10.0, 0.15), (100.0, 0.3)]) is None
    # Equally far: the cheaper one.
    assert knee([(1.0, 0.0), (10.0, 0.5), (100.0, 0.75), (10000.0, 1.0)]) == (10.0, 0.5)


@settings(max_examples=50)
@given(SPREAD)
def test_knee_is_furthest_from_the_line(points):
    front = pareto(points)
    found = knee(points)
    if len(front) < 3:
        assert found is None
        return
    x = np.log10([p[0] for p in front])
    y = np.array([p[1] for p in front])
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[0]) / (y[-1] - y[0])
    # The signed distance by the cross product with the line's direction.
    line = np.array([x[-1] - x[0], y[-1] - y[0]])
    far = (line[0] * (y - y[0]) - line[1] * (x - x[0])) / np.hypot(*line)
    if found is None:
        assert far.max() < 1e-8
    else:
        assert far[front.index(found)] == pytest.approx(far.max(), abs=1e-8)


@settings(max_examples=50)
@given(SPREAD, st.floats(1e-3, 1e3))
def test_knee_does_not_depend_on_the_unit_of_cost(points, unit):
    front = pareto(points)
    far = knee(front)
    scaled = knee([(unit * cost, delta1) for cost, delta1 in front])
    if far is not None and scaled is not None and len({d1 for _, d1 in front}) == len(front):
        index = [d1 for _, d1 in front].index(far[1])
        other = [d1 for _, d1 in front].index(scaled[1])
        assert index == other or _above(front)[index] == pytest.approx(_above(front)[other])


def _above(front):
    x, y = np.log10([p[0] for p in front]), np.array([p[1] for p in front])
    return (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])


def test_a_studys_front():
    # By hand, from report_studies.four: 5 M .60, 20 M .75, 40 M .85; 30 M .70 is dominated.
    study = four(max_macs=80_000_000)
    found = summary(read(study), "macs")
    assert [row.number for row in found.front] == [0, 1, 2]
    assert found.reference == (80e6, 0.0)
    assert found.hypervolume == pytest.approx(15e6 * 0.60 + 20e6 * 0.75 + 40e6 * 0.85)
    decades = 0.60 * math.log10(4) + 0.75 * math.log10(2) + 0.85 * math.log10(2)
    assert found.hypervolume_log == pytest.approx(decades)
    # log10: 2/3 of the way from 5 M to 40 M; d1: .6 of the way. Below the line.
    assert found.knee is None
    add(study, (0.7, 0.75, 0.80), params=95_000, macs=10_000_000)
    assert summary(read(study), "macs").knee.number == 6


def test_the_reference_without_a_gate_is_the_largest_network():
    found = read(four())
    assert reference_point(found, "macs") == (40e6, 0.0)
    assert reference_point(found, "params") == (5e5, 0.0)  # its gate
    own = summary(found, "macs", (100e6, 0.5))
    assert own.hypervolume == pytest.approx(15e6 * 0.10 + 20e6 * 0.25 + 60e6 * 0.35)
    empty = summary(read(make_study()), "latency_ms")
    assert (empty.front, empty.hypervolume, empty.knee) == ((), 0.0, None)


def test_the_searchs_own_front_is_this_one():
    study = make_study()
    rng = np.random.default_rng(0)
    for _ in range(40):
        add(study, (float(rng.uniform()),), macs=int(rng.integers(1, 15)))
    found = read(study)
    points = [(row.macs, row.delta1) for row in found.rows]
    assert [(row.macs, row.delta1) for row in found.front("macs")] == pareto(points)
