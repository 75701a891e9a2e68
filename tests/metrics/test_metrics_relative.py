from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.losses import sample_pairs
from compress.metrics import si_rmse, whdr


def test_whdr_hand_vector() -> None:
    depth = np.array([[1.0, 2.0, 2.0, 3.0]])

    def pair(a: int, b: int) -> list[float]:
        return [0.5, (a + 0.5) / 4, 0.5, (b + 0.5) / 4]

    pairs = [pair(1, 0), pair(0, 1), pair(1, 0), pair(1, 2), pair(2, 1), pair(3, 1)]
    #         right      right       wrong       tie: wrong  tie: wrong  said to be equal: wrong
    order = [1, -1, -1, 1, -1, 0]
    assert whdr(depth, pairs, order) == pytest.approx(4 / 6)
    # 3 and 2 are equal within 50 %, 2 and 1 are not.
    assert whdr(depth, pairs, order, tolerance=0.5) == pytest.approx(3 / 6)
    assert whdr(depth, pairs, order, [True, True, False, False, False, False]) == 0.0


def test_whdr_of_a_batch_is_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    depth, pairs = rng.uniform(1, 5, (3, 6, 8)), rng.random((3, 20, 4))
    order, valid = rng.integers(-1, 2, (3, 20)), rng.random((3, 20)) < 0.6
    wrong = sum(
        whdr(d, p, o, v) * v.sum() for d, p, o, v in zip(depth, pairs, order, valid, strict=True)
    )
    expected = wrong / valid.sum()
    assert whdr(depth, pairs, order, valid) == pytest.approx(expected)
    assert whdr(depth[:, None], pairs, order, valid) == pytest.approx(expected)
    tensors = [torch.from_numpy(x) for x in (depth[:, None], pairs, order, valid)]
    assert whdr(*tensors) == pytest.approx(expected)


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.3])
def test_pairs_drawn_from_a_map_agree_with_it(tolerance: float) -> None:
    g = torch.Generator().manual_seed(0)
    depth = 0.5 + torch.rand(2, 1, 9, 13, generator=g)
    pairs = sample_pairs(depth, depth > 0, 300, g, tolerance)
    assert whdr(depth, *pairs, tolerance=tolerance) == 0.0
    # Upside down or flat, a map is right about equal points alone.
    ordered = float((pairs[1][pairs[2]] != 0).double().mean())
    assert whdr(1 / depth, *pairs, tolerance=tolerance) == pytest.approx(ordered)
    assert whdr(torch.ones_like(depth), *pairs, tolerance=tolerance) == pytest.approx(ordered)


@given(st.floats(1e-3, 1e3))
def test_whdr_knows_no_scale(scale: float) -> None:
    rng = np.random.default_rng(1)
    depth, pairs, order = rng.uniform(1, 5, (6, 8)), rng.random((30, 4)), rng.integers(-1, 2, 30)
    for tolerance in (0.0, 0.1):
        assert whdr(scale * depth, pairs, order, tolerance=tolerance) == whdr(
            depth, pairs, order, tolerance=tolerance
        )


def test_what_no_valid_pair_looks_at_does_not_matter() -> None:
    depth = [[1.0, 2.0, math.nan]]
    pairs = [[0.5, 0.5, 0.5, 0.1], [0.5, 0.9, 0.5, 0.1], [math.nan, 7.0, -1.0, 0.0]]
    assert whdr(depth, pairs, [1, 1, 1], [True, False, False]) == 0.0
    # A point at 1 belongs to the last pixel; without a tolerance any number has an order.
    assert whdr([[-3.0, -5.0]], [[1.0, 1.0, 0.0, 0.0]], [-1]) == 0.0


def test_whdr_refuses() -> None:
    depth, pairs, order = np.ones((4, 5)), np.full((3, 4), 0.5), np.ones(3)
    for bad in (
        (depth[0], pairs, order),
        (depth, pairs[:, :3], order),
        (depth, pairs, order[:2]),
        (depth, pairs[None], order[None]),
        (depth, pairs, order, np.ones(2)),
        (np.ones((2, 3, 4, 5)), pairs[None], order[None]),
    ):
        with pytest.raises(CompressError, match=r"on a map \(H, W\)"):
            whdr(*bad)
    with pytest.raises(CompressError, match="none of the 3 pairs"):
        whdr(depth, pairs, order, np.zeros(3))
    with pytest.raises(CompressError, match=r"outside 0\.\.1"):
        whdr(depth, 5 * pairs, order)
    with pytest.raises(CompressError, match="must be finite; the network has diverged"):
        whdr(depth * math.nan, pairs, order)
    with pytest.raises(CompressError, match="finite and above 0"):
        whdr(-depth, pairs, order, tolerance=0.1)
    with pytest.raises(CompressError, match="tolerance is a share"):
        whdr(depth, pairs, order, tolerance=-0.1)


# Error but for scale.


def test_si_rmse_hand_vector() -> None:
    pred = [1.0, math.e, math.e**2, 9.0, 9.0]
    assert si_rmse(pred, [1.0, 1.0, 1.0, 0.0, math.nan]) == pytest.approx(math.sqrt(2 / 3))
    mask = [True, True, False, True, True]
    assert si_rmse(pred, [1.0, 1.0, 1.0, 0.0, math.nan], mask) == pytest.approx(0.5)


@given(
    st.lists(st.tuples(st.floats(0.1, 80), st.floats(0.1, 80)), min_size=1, max_size=20),
    st.floats(0.1, 1e3),
)
def test_si_rmse_is_the_published_formula_and_knows_no_scale(
    values: list[tuple[float, float]], scale: float
) -> None:
    pred, true = np.array(values).T
    g = np.log(pred) - np.log(true)
    square = (g**2).mean() - g.mean() ** 2
    assert si_rmse(pred, true) ** 2 == pytest.approx(square, abs=1e-9)
    assert si_rmse(scale * pred, true) == pytest.approx(si_rmse(pred, true), abs=1e-9)


def test_si_rmse_refuses() -> None:
    with pytest.raises(CompressError, match="none of the 1 pixels"):
        si_rmse([1.0], [0.0])
    with pytest.raises(CompressError, match="1 of 1 predictions"):
        si_rmse([math.nan], [1.0])
    with pytest.raises(CompressError, match="ground truth has"):
        si_rmse([1.0, 2.0], [1.0])
