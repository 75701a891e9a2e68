from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.losses import Rebalancer, rebalanced
from compress.losses.rebalance import lam

THIRD = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
ONE = {"a": 1.0, "b": 1.0, "c": 1.0}
FELL = {"a": 0.5, "b": 1.0, "c": 1.0}


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (3.0, (0.6667, 0.1667, 0.1667)),
        (1.5, (0.6667, 0.25, 0.25)),
        (0.0, (0.3333, 0.3333, 0.3333)),
        (-1.5, (0.1667, 0.4167, 0.4167)),
        (-3.0, (0.1667, 0.5, 0.5)),
    ],
)
def test_published_vectors(strength: float, expected: tuple[float, ...]) -> None:
    moved = rebalanced(THIRD, FELL, ONE, strength)
    assert list(moved) == ["a", "b", "c"]
    assert tuple(moved.values()) == pytest.approx(expected, abs=5e-5)
    assert THIRD["a"] == 1 / 3


def test_the_previous_sum_takes_the_present_weights() -> None:
    weights, before, now = {"a": 0.6, "b": 0.2}, {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 0.8}
    ratio = (0.6 * 1.0 + 0.2 * 0.8) / (0.6 * 2.0 + 0.2 * 1.0)
    expected = {
        "a": 0.6 * (1 + 1.5 * (ratio * 2.0 / 1.0 - 1)),
        "b": 0.2 * max(1 + 1.5 * (ratio * 1.0 / 0.8 - 1), 0.5),
    }
    assert rebalanced(weights, now, before, 1.5) == pytest.approx(expected)


def test_strength_over_epochs() -> None:
    assert [lam(e) for e in (0, 0.2, 2, 4, 100)] == pytest.approx([3, 2.7, 0, -3, -3])
    assert [lam(e, "hard-to-easy") for e in (0, 2, 4)] == pytest.approx([-3, 0, 3])
    with pytest.raises(CompressError, match="did you mean easy-to-hard"):
        lam(0, "easy-hard")


positive = st.floats(1e-6, 1e6)


@given(st.lists(st.tuples(positive, positive, positive), min_size=1, max_size=6), st.floats(-3, 3))
def test_weights_stay_positive_and_move_by_two_at_most(
    rows: list[tuple[float, float, float]], strength: float
) -> None:
    weights, now, before = (
        dict(enumerate(map(float, column))) for column in zip(*rows, strict=True)
    )
    named = [{str(k): v for k, v in column.items()} for column in (weights, now, before)]
    moved = rebalanced(*named, strength)
    for name, weight in moved.items():
        assert 0.5 * (1 - 1e-12) <= weight / named[0][name] <= 2 * (1 + 1e-12)


@given(st.floats(0.01, 100.0), st.floats(-3, 3))
def test_losses_that_fall_alike_keep_their_weights(factor: float, strength: float) -> None:
    before = {"a": 3.0, "b": 0.1, "c": 7.0}
    now = {name: factor * loss for name, loss in before.items()}
    assert rebalanced(THIRD, now, before, strength) == pytest.approx(THIRD)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("period", [0, 1])
def test_a_loss_without_a_ratio_keeps_its_weight_and_disturbs_none(bad: float, period: int) -> None:
    periods = [FELL | {"d": 1.0}, ONE | {"d": 1.0}]
    periods[period]["d"] = bad
    moved = rebalanced(THIRD | {"d": 9.0}, *periods, 1.5)
    assert moved == rebalanced(THIRD, FELL, ONE, 1.5) | {"d": 9.0}


def test_nothing_to_compare_changes_nothing() -> None:
    assert rebalanced(THIRD, {}, {}, 3.0) == THIRD
    assert rebalanced(THIRD, FELL, {}, 3.0) == THIRD


def test_a_period_ends_with_the_means_of_its_steps() -> None:
    easy, hard = Rebalancer("abc", "easy-to-hard"), Rebalancer("abc")
    for rebalancer in (easy, hard):
        assert rebalancer.weights == THIRD
        for factor in (0.5, 1.5):
            rebalancer.record({name: factor * loss for name, loss in ONE.items()})
        rebalancer.update(1.0)
        assert rebalancer.weights == THIRD  # the first period is only remembered
        for factor in (0.25, 1.75):
            rebalancer.record({name: factor * loss for name, loss in FELL.items()})
        rebalancer.update(1.0)
    assert tuple(easy.weights.values()) == pytest.approx((0.6667, 0.25, 0.25), abs=5e-5)
    assert tuple(hard.weights.values()) == pytest.approx((0.1667, 0.4167, 0.4167), abs=5e-5)


def test_what_a_period_lacks_is_left_alone() -> None:
    rebalancer = Rebalancer({"a": 1.0, "b": 2.0, "c": 4.0}, "easy-to-hard")
    rebalancer.record(ONE)
    rebalancer.update(0.0)
    rebalancer.update(0.2)  # an empty period
    rebalancer.record({"a": 1.0, "b": 0.5})
    rebalancer.update(0.4)
    assert rebalancer.weights["c"] == 4.0
    assert rebalancer.weights["b"] > 2.0
    before = rebalancer.weights["c"]
    rebalancer.record(FELL)  # c compares with the last mean there was
    rebalancer.update(0.6)
    assert rebalancer.weights["c"] != before


def test_weights_are_a_copy() -> None:
    rebalancer = Rebalancer(["a", "b"])
    rebalancer.weights["a"] = 7.0
    assert rebalancer.weights == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("stop", range(12))
def test_a_resumed_training_goes_on_to_the_bit(stop: int) -> None:
    def step(rebalancer: Rebalancer, at: int) -> None:
        rebalancer.record({"a": 1 / (1 + at), "b": 1 / (1 + at) ** 0.3, "c": math.cos(at) + 2})
        if at % 3 == 2:
            rebalancer.update(at / 6)

    whole = Rebalancer({"a": 0.1, "b": 0.7, "c": 0.2})
    for at in range(12):
        step(whole, at)
    first = Rebalancer({"a": 0.1, "b": 0.7, "c": 0.2})
    for at in range(stop):
        step(first, at)
    state = json.loads(json.dumps(first.state_dict()))
    step(first, 0)  # what was saved is a copy
    second = Rebalancer({"c": 1.0, "a": 1.0, "b": 1.0})
    second.load_state_dict(state)
    for at in range(stop, 12):
        step(second, at)
    assert second.weights == whole.weights
    assert second.state_dict() == whole.state_dict()


def test_refuses() -> None:
    with pytest.raises(CompressError, match="unknown direction of rebalancing 'up'"):
        Rebalancer("ab", "up")
    with pytest.raises(CompressError, match="name at least one"):
        Rebalancer([])
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(CompressError, match=r"weight of loss 'a' must be a finite number"):
            Rebalancer({"a": bad})
    rebalancer = Rebalancer(["depth", "pixel"])
    with pytest.raises(CompressError, match="'pixels'; did you mean pixel"):
        rebalancer.record({"depth": 1.0, "pixels": 1.0})
    rebalancer.update(0.0)
    assert rebalancer.state_dict()["before"] == {}  # nothing was recorded
    with pytest.raises(CompressError, match="start it anew"):
        rebalancer.load_state_dict(Rebalancer(["depth"]).state_dict())
