from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compress import losses
from compress.errors import CompressError
from compress.losses import (
    LOSSES,
    edge_aware_smoothness,
    ranking,
    relative_loss,
    sample_pairs,
    scale_invariant_mse,
)

Pairs = tuple[Tensor, Tensor, Tensor]
# A is the second pixel of three in a row, B the first.
SECOND_FIRST = [0.5, 0.5, 0.5, 1 / 6]


def scene(seed: int = 0, size: tuple[int, int] = (9, 11), images: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return 0.2 + 5 * torch.rand((images, 1, *size), generator=g, dtype=torch.float64)


def some_pairs(seed: int, images: int = 2, count: int = 40) -> Pairs:
    g = torch.Generator().manual_seed(seed)
    pairs = torch.rand((images, count, 4), generator=g)
    order = torch.randint(-1, 2, (images, count), generator=g)
    return pairs, order, torch.rand((images, count), generator=g) < 0.7


def slow_ranking(z: Tensor, pairs: Tensor, order: Tensor, valid: Tensor) -> float:
    height, width = z.shape[-2:]
    kept = []
    for n in range(len(z)):
        for p in range(pairs.shape[1]):
            if not valid[n, p]:
                continue
            y_a, x_a, y_b, x_b = pairs[n, p].tolist()
            a = float(z[n, 0, min(int(y_a * height), height - 1), min(int(x_a * width), width - 1)])
            b = float(z[n, 0, min(int(y_b * height), height - 1), min(int(x_b * width), width - 1)])
            r = int(order[n, p])
            kept.append((a - b) ** 2 if r == 0 else math.log(1 + math.exp(-r * (a - b))))
    return sum(kept) / len(kept)


# Ranking.


@pytest.mark.parametrize(
    ("order", "expected"),
    [(1, math.log(1 + math.exp(-2))), (-1, math.log(1 + math.exp(2))), (0, 4.0)],
)
def test_ranking_hand_vector(order: int, expected: float) -> None:
    z = torch.tensor([1.0, 3.0, 100.0]).view(1, 1, 1, 3)
    pairs = torch.tensor([[SECOND_FIRST]])
    loss = ranking(z, pairs, torch.tensor([[order]]), torch.tensor([[True]]))
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.float32])
def test_ranking_against_a_loop(seed: int, kind: torch.dtype) -> None:
    z, (pairs, order, valid) = scene(seed), some_pairs(seed + 5)
    loss = ranking(z, pairs, order.to(kind), valid)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(slow_ranking(z, pairs, order, valid))


@given(order=st.sampled_from([-1, 1]), apart=st.floats(-50, 50))
def test_ranking_pulls_the_right_way(order: int, apart: float) -> None:
    z = torch.tensor([0.0, apart, 0.0]).view(1, 1, 1, 3).requires_grad_()
    arguments = torch.tensor([[SECOND_FIRST]]), torch.tensor([[order]]), torch.tensor([[True]])
    loss = ranking(z, *arguments)
    loss.backward()
    assert z.grad is not None
    b, a, other = z.grad.flatten().tolist()
    assert other == 0
    assert a == pytest.approx(-b)
    assert -order * a >= 0  # descent moves A up where it is farther
    if -order * apart > -20:
        assert a != 0


def test_ranking_of_equal_points_pulls_them_together() -> None:
    z = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2).requires_grad_()
    pairs = torch.tensor([[[0.5, 0.75, 0.5, 0.25]]])
    ranking(z, pairs, torch.tensor([[0]]), torch.tensor([[True]])).backward()
    assert z.grad is not None
    assert z.grad.flatten().tolist() == [-4.0, 4.0]


def test_ranking_stays_finite_where_the_exponential_does_not() -> None:
    z = torch.tensor([0.0, 1e4]).view(1, 1, 1, 2).requires_grad_()
    pairs = torch.tensor([[[0.5, 0.75, 0.5, 0.25]]])
    loss = ranking(z, pairs, torch.tensor([[-1]]), torch.tensor([[True]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1e4)
    assert z.grad is not None
    assert z.grad.flatten().tolist() == [-1.0, 1.0]


@given(
    seed=st.integers(0, 1000),
    junk=st.sampled_from([0.0, -7.0, 1e30, math.nan, math.inf, -math.inf]),
)
def test_what_invalid_pairs_hold_does_not_matter(seed: int, junk: float) -> None:
    z, (pairs, order, valid) = scene(seed).float(), some_pairs(seed)
    counts = valid[..., None]
    # Only invalid pairs look at the first row, half of them; the others lie anywhere.
    pairs = torch.where(counts & (pairs < 1 / 9), 0.5, pairs)
    results = []
    for value in (1.0, junk):
        leaf = z.clone()
        leaf[:, :, 0] = value
        leaf.requires_grad_()
        points = torch.where(counts, pairs, value)
        points[:, ::2] = torch.where(counts, pairs, 0.0)[:, ::2]
        loss = ranking(leaf, points, order, valid)
        loss.backward()
        assert leaf.grad is not None
        results.append((loss.detach(), leaf.grad))
    (clean, clean_grad), (dirty, dirty_grad) = results
    assert torch.isfinite(clean_grad).all()
    assert torch.equal(clean, dirty)
    assert torch.equal(clean_grad, dirty_grad)
    assert (clean_grad[:, :, 0] == 0).all()


def test_points_outside_the_image_do_not_count_and_borders_do() -> None:
    z = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    pairs = torch.tensor(
        [[[1.0, 1.0, 0.0, 0.0], [1.1, 0.5, 0.5, 0.5], [0.5, -0.1, 0.5, 0.5], [math.nan] * 4]]
    )
    loss = ranking(z, pairs, torch.zeros(1, 4), torch.ones(1, 4).bool())
    assert float(loss) == 4.0


def test_no_valid_pair_gives_zero_and_a_graph() -> None:
    z = torch.full((2, 1, 4, 4), math.nan, requires_grad=True)
    pairs, order, valid = some_pairs(1)
    loss = ranking(z, pairs, order, torch.zeros_like(valid))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert z.grad is not None
    assert (z.grad == 0).all()
    assert float(ranking(z.detach(), pairs[:, :0], order[:, :0], valid[:, :0])) == 0.0


def test_ranking_gradcheck_and_low_precision() -> None:
    z, (pairs, order, valid) = scene(3), some_pairs(4)
    assert torch.autograd.gradcheck(
        lambda x: ranking(x, pairs, order, valid), (z.requires_grad_(),)
    )
    half = z.detach().bfloat16()
    loss = ranking(half, pairs, order, valid)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(ranking(half.float(), pairs, order, valid)))


def test_a_diverged_map_is_not_hidden_from_ranking() -> None:
    pairs, order, _ = some_pairs(5)
    z = torch.full((2, 1, 4, 4), math.nan)
    assert math.isnan(ranking(z, pairs, order, torch.ones_like(order).bool()))


def test_ranking_shapes_must_fit() -> None:
    z, (pairs, order, valid) = scene(), some_pairs(0)
    for bad in (
        (z[0], pairs, order, valid),
        (z, pairs[:1], order[:1], valid[:1]),
        (z, pairs[..., :2], order, valid),
        (z, pairs, order[:, :1], valid),
        (z, pairs, order, valid[:, :1]),
    ):
        with pytest.raises(CompressError, match=r"\(N, P, 4\)"):
            ranking(*bad)


# Pairs drawn from dense depth.


def drawn(seed: int, depth: Tensor, valid: Tensor, count: int = 200, **more: float) -> Pairs:
    return sample_pairs(depth, valid, count, torch.Generator().manual_seed(seed), **more)


def looked_up(depth: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    height, width = depth.shape[-2:]
    index = (pairs * torch.tensor([height, width, height, width])).long()
    image = torch.arange(len(depth))[:, None]
    return (
        depth[image, 0, index[..., 0], index[..., 1]],
        depth[image, 0, index[..., 2], index[..., 3]],
    )


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.5])
def test_drawn_pairs_say_what_the_depth_says(tolerance: float) -> None:
    depth = scene(1)
    mask = depth > 1
    pairs, order, valid = drawn(0, depth, mask, tolerance=tolerance)
    assert (pairs.shape, order.dtype, valid.dtype) == ((2, 200, 4), torch.int8, torch.bool)
    a, b = looked_up(depth, pairs)
    assert (a > 1).all()
    assert (b > 1).all()
    ratio = torch.maximum(a / b, b / a)
    expected = torch.where(ratio <= 1 + tolerance, 0.0, torch.sign(a - b))
    assert torch.equal(order.double(), expected)
    assert valid.float().mean() > 0.9
    # A loss on the true map itself finds every order right.
    scaled = ranking(1e4 * depth.log(), pairs, order, valid & (order != 0))
    assert float(scaled) < 0.1


def test_drawing_depends_on_the_generator_alone() -> None:
    depth = scene(2)
    mask = depth > 2
    first, again, other = (drawn(seed, depth, mask) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    # In any unit the pairs are the same.
    rescaled = drawn(3, 2 * depth, mask)
    assert all(torch.equal(a, b) for a, b in zip(first, rescaled, strict=True))


def test_every_valid_pixel_is_drawn_alike() -> None:
    depth = torch.arange(1.0, 13.0).view(1, 1, 3, 4)
    mask = depth > 4
    pairs, _, valid = drawn(0, depth, mask, count=8000)
    counts = torch.stack(looked_up(depth, pairs)).flatten().long().bincount(minlength=13)
    assert counts[:5].sum() == 0
    assert counts[5:].min() > 1800  # 16000 / 8, deviation 42
    assert counts[5:].max() < 2200
    assert float(valid.float().mean()) == pytest.approx(7 / 8, abs=0.02)  # not with itself


def test_depth_that_is_none_is_never_drawn() -> None:
    depth = scene(3).float()
    depth[:, :, ::2] = torch.tensor([0.0, -1.0, math.nan, math.inf, -math.inf]).repeat(3)[:11]
    pairs, order, valid = drawn(0, depth, torch.ones_like(depth).bool())
    a, b = looked_up(depth, pairs)
    assert (torch.isfinite(a) & torch.isfinite(b) & (a > 0) & (b > 0)).all()
    assert valid.any()
    assert (order[valid] != 0).any()


def test_images_without_enough_pixels_give_no_pair() -> None:
    depth = scene(4, images=3)
    mask = torch.ones_like(depth).bool()
    mask[0] = False
    mask[1] = False
    mask[1, 0, 2, 3] = True  # one pixel makes no pair
    pairs, order, valid = drawn(0, depth, mask)
    assert valid.any(dim=1).tolist() == [False, False, True]
    assert torch.isfinite(pairs).all()
    assert float(ranking(depth, pairs, order, valid)) > 0


def test_drawing_refuses() -> None:
    depth = scene()
    with pytest.raises(CompressError, match=r"one shape \(N, 1, H, W\)"):
        drawn(0, depth, depth[:1] > 0)
    with pytest.raises(CompressError, match="at least 1"):
        drawn(0, depth, depth > 0, count=0)
    with pytest.raises(CompressError, match="tolerance at least 0"):
        drawn(0, depth, depth > 0, tolerance=-0.1)


# Ratios of depth. What all named losses promise is in test_losses_dense.


def test_si_mse_hand_vector() -> None:
    true = torch.ones(1, 1, 1, 4)
    pred = torch.tensor([1.0, math.e, math.e**2, 50.0]).view(1, 1, 1, 4)
    mask = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    assert float(scale_invariant_mse(pred, true, mask)) == pytest.approx(2 / 3)  # of 0, 1, 2


def test_si_mse_is_silog_with_lambda_one() -> None:
    pred, true = scene(5), scene(6)
    mask = scene(7) > 2
    expected = losses.silog(pred, true, mask, lam=1.0)
    assert float(scale_invariant_mse(pred, true, mask)) == pytest.approx(float(expected))


@given(scales=st.tuples(*[st.floats(0.2, 1000.0)] * 4), seed=st.integers(0, 100))
@pytest.mark.parametrize("name", ["si-mse", "si-mse-grad"])
def test_scales_of_prediction_and_truth_do_not_matter(
    name: str, scales: tuple[float, ...], seed: int
) -> None:
    pred, true = scene(seed), scene(seed + 1)
    mask = scene(seed + 2) > 1
    s = torch.tensor(scales, dtype=torch.float64).view(2, 2, 1, 1, 1)  # each image's own
    before = LOSSES[name](pred, true, mask)
    after = LOSSES[name](s[0] * pred, s[1] * true, mask)
    assert float(after) == pytest.approx(float(before), abs=1e-9)


def test_si_mse_keeps_its_digits_at_a_far_scale() -> None:
    true = scene(8).float()
    pred = 1e6 * true * (1 + 1e-3 * scene(9).float())
    exact = scale_invariant_mse(pred.double(), true.double(), true > 0)
    assert float(scale_invariant_mse(pred, true, true > 0)) == pytest.approx(float(exact), rel=0.01)


def test_relative_loss_is_its_parts() -> None:
    pred, true = scene(10), scene(11)
    mask = scene(12) > 1
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    parts = scale_invariant_mse(pred, true, mask) + 0.5 * losses.log_gradient(pred, true, mask)
    assert float(relative_loss(pred, true, mask)) == pytest.approx(float(parts))
    whole = parts + 0.1 * edge_aware_smoothness(pred, image)
    assert float(relative_loss(pred, true, mask, image)) == pytest.approx(float(whole))


# Smoothness.


def test_smoothness_hand_vector() -> None:
    pred = torch.tensor([[1.0, math.e], [1.0, math.e**3]]).view(1, 1, 2, 2)
    image = torch.zeros(1, 3, 2, 2)
    image[:, :, :, 1] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1)  # differs by 2 on average
    down = (0 * 1 + 2 * 1) / 2
    across = (1 + 3) * math.exp(-2) / 2
    assert float(edge_aware_smoothness(pred, image)) == pytest.approx(down + across)


def test_smoothness_knows_no_scale_and_no_flat_map() -> None:
    pred = scene(13)
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    value = edge_aware_smoothness(pred, image)
    assert float(edge_aware_smoothness(7 * pred, image)) == pytest.approx(float(value))
    assert float(edge_aware_smoothness(torch.full_like(pred, 3.0), image)) == 0.0
    assert torch.autograd.gradcheck(
        lambda p: edge_aware_smoothness(p, image), (pred.requires_grad_(),)
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_smoothness_of_thin_images(size: tuple[int, int]) -> None:
    value = edge_aware_smoothness(scene(14, size), torch.zeros(2, 3, *size))
    assert math.isfinite(value)


def test_smoothness_shapes_must_fit() -> None:
    with pytest.raises(CompressError, match="at one size"):
        edge_aware_smoothness(scene(), torch.zeros(2, 3, 9, 12))
    with pytest.raises(CompressError, match="at one size"):
        edge_aware_smoothness(scene(), torch.zeros(1, 3, 9, 11))
