from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from compress import losses
from compress.errors import CompressError
from compress.losses import LOSSES, Loss, make_loss, targets

Maps = tuple[Tensor, Tensor, Tensor]


def ssim_100(pred: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    return losses.ssim_loss(pred, true, mask, data_range=100.0)


# Everything of the shape (pred, true, mask) -> scalar, named or not.
ALL: dict[str, Loss] = LOSSES | {
    "l2": losses.l2,
    "ssim": ssim_100,
    "edge": losses.edge,
    "log-gradient": losses.log_gradient,
    "mix at 80 m": make_loss("mix", 80.0),
}


def scene(
    seed: int = 0,
    size: tuple[int, int, int, int] = (2, 1, 16, 20),
    holes: float = 0.3,
    dtype: torch.dtype = torch.float64,
) -> Maps:
    g = torch.Generator().manual_seed(seed)
    true = 0.5 + 9 * torch.rand(size, generator=g, dtype=dtype)
    pred = true * (0.7 + 0.6 * torch.rand(size, generator=g, dtype=dtype))
    return pred, true, torch.rand(size, generator=g) >= holes


def loop(values: Tensor, mask: Tensor, term: Callable[[float], float]) -> float:
    """Mean of `term` over valid pixels, one pixel at a time."""
    pairs = zip(values.flatten().tolist(), mask.flatten().tolist(), strict=True)
    kept = [term(v) for v, ok in pairs if ok]
    return sum(kept) / len(kept)


def slow_edge(pred: Tensor, true: Tensor, mask: Tensor) -> float:
    sums, counts = [0.0, 0.0], [0, 0]
    n, _, height, width = pred.shape
    for i in range(n):
        for y in range(height):
            for x in range(width):
                for axis, (v, u) in enumerate(((y + 1, x), (y, x + 1))):
                    if v < height and u < width and mask[i, 0, y, x] and mask[i, 0, v, u]:
                        dp = float(pred[i, 0, v, u] - pred[i, 0, y, x])
                        dt = float(true[i, 0, v, u] - true[i, 0, y, x])
                        sums[axis] += abs(dp - dt)
                        counts[axis] += 1
    return sum(s / max(c, 1) for s, c in zip(sums, counts, strict=True))


def slow_ssim_loss(pred: Tensor, true: Tensor, mask: Tensor, data_range: float) -> float:
    """Window by window, with the window's own means and variances."""
    n, _, height, width = pred.shape
    axis = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    w = torch.outer(axis, axis) / axis.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    kept = []
    for i in range(n):
        ok = mask[i, 0]
        fill = true[i, 0][ok].mean()
        p, t = torch.where(ok, pred[i, 0], fill), torch.where(ok, true[i, 0], fill)
        for y in range(5, height - 5):
            for x in range(5, width - 5):
                if not ok[y, x]:
                    continue
                a, b = p[y - 5 : y + 6, x - 5 : x + 6], t[y - 5 : y + 6, x - 5 : x + 6]
                ma, mb = (w * a).sum(), (w * b).sum()
                va, vb = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum()
                cov = (w * (a - ma) * (b - mb)).sum()
                top = (2 * ma * mb + c1) * (2 * cov + c2)
                ssim = float(top / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
                kept.append((1 - ssim) / 2)
    return sum(kept) / len(kept)


def slow_berhu(x: Tensor, mask: Tensor) -> float:
    c = 0.2 * float(x[mask].abs().max())
    return loop(x, mask, lambda v: abs(v) if abs(v) <= c else (v * v + c * c) / (2 * c))


# References, written without the module under test.


@pytest.mark.parametrize("seed", range(3))
def test_pixel_losses_against_loops(seed: int) -> None:
    pred, true, mask = maps = scene(seed)
    x = pred - true
    assert float(losses.l1(*maps)) == pytest.approx(loop(x, mask, abs))
    assert float(losses.l2(*maps)) == pytest.approx(loop(x, mask, lambda v: v * v))
    root = math.sqrt(loop(x, mask, lambda v: v * v))
    assert float(losses.rmse(*maps)) == pytest.approx(root)
    assert float(losses.berhu(*maps)) == pytest.approx(slow_berhu(x, mask))
    log = pred.log() - true.log()
    assert float(losses.log_l1(*maps)) == pytest.approx(loop(log, mask, abs))


def test_berhu_hand_vector() -> None:
    true = torch.zeros(1, 1, 1, 4)
    pred = torch.tensor([0.5, -1.0, 2.0, 5.0]).view(1, 1, 1, 4)  # c = 1
    expected = (0.5 + 1 + (4 + 1) / 2 + (25 + 1) / 2) / 4
    assert float(losses.berhu(pred, true, true == 0)) == pytest.approx(expected)


def test_berhu_threshold_ignores_holes_and_gradient() -> None:
    true = torch.zeros(1, 1, 1, 3)
    pred = torch.tensor([1.0, 5.0, 1e6]).view(1, 1, 1, 3).requires_grad_()
    mask = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    loss = losses.berhu(pred, true, mask)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((1 + 13) / 2)
    # c = 1 held constant: d/dx of (x^2 + 1) / 2 at 5 is 5, halved by the mean.
    assert pred.grad is not None
    assert pred.grad.flatten().tolist() == [0.5, 2.5, 0.0]


@pytest.mark.parametrize("data_range", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("size", [(2, 1, 11, 11), (2, 1, 24, 31)])
def test_ssim_against_torchmetrics(data_range: float, size: tuple[int, int, int, int]) -> None:
    pred, true, mask = scene(3, size, holes=0.0)
    theirs = structural_similarity_index_measure(
        pred, true, sigma=1.5, kernel_size=11, data_range=data_range, return_full_image=True
    )
    # They average over a border of reflected pixels too; the paper and DenseDepth do not.
    inner = float(theirs[1][..., 5:-5, 5:-5].mean())
    ours = losses.ssim_loss(pred, true, mask, data_range)
    assert float(ours) == pytest.approx((1 - inner) / 2, abs=1e-9)
    single = losses.ssim_loss(pred.float(), true.float(), mask, data_range)
    assert float(single) == pytest.approx(float(ours), abs=2e-6)


def test_ssim_and_edge_with_holes_against_loops() -> None:
    pred, true, mask = scene(4)
    assert float(losses.ssim_loss(pred, true, mask, 10.0)) == pytest.approx(
        slow_ssim_loss(pred, true, mask, 10.0)
    )
    assert float(losses.edge(pred, true, mask)) == pytest.approx(slow_edge(pred, true, mask))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (4, 12), (10, 10)])
def test_ssim_on_maps_smaller_than_the_window(size: tuple[int, int]) -> None:
    pred, true, mask = scene(5, (1, 1, *size), holes=0.0)
    assert 0 < float(losses.ssim_loss(pred, true, mask, 10.0)) <= 1
    assert float(losses.ssim_loss(true, true, mask, 10.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("cap", [10.0, 80.0])
def test_mobiledepth_mixes_against_loops(cap: float) -> None:
    pred, true, mask = scene(6)
    pred = pred.clamp(min=0.01 * cap)  # below 0.8 m at a cap of 80 the tangent would take over
    p, t = 1 / (pred / cap), 1 / (true / cap).clamp(0.01, 1)
    ssim, edges = slow_ssim_loss(p, t, mask, 100.0), slow_edge(p, t, mask)
    mean = loop(p - t, mask, abs)
    expected = {
        "mix": ssim + edges + 0.1 * mean,
        "bmix": ssim + edges + slow_berhu(p - t, mask),
        "am": 0.85 * ssim + 0.15 * mean,
    }
    for name, value in expected.items():
        assert float(make_loss(name, cap)(pred, true, mask)) == pytest.approx(value), name


@pytest.mark.parametrize("name", ["mix", "bmix", "am", "densedepth"])
def test_beyond_a_clamped_truth_a_prediction_is_right(name: str) -> None:
    loss = make_loss(name, 10.0)
    near, far = torch.full((1, 1, 12, 12), 0.05), torch.full((1, 1, 12, 12), 11.0)
    mask = near > 0
    assert float(loss(near / 2, near, mask)) == 0.0
    assert float(loss(far + 5, far, mask)) == 0.0
    assert float(loss(near / 2, near + 0.1, mask)) > 0
    assert float(loss(far + 5, far - 2, mask)) > 0


def test_densedepth_is_mix_at_ten_metres_only() -> None:
    maps = scene(7)
    at_10 = [float(make_loss(name, 10.0)(*maps)) for name in ("densedepth", "mix")]
    at_80 = [float(make_loss(name, 80.0)(*maps)) for name in ("densedepth", "mix")]
    assert at_10[0] == pytest.approx(at_10[1])
    assert at_80[0] != pytest.approx(at_80[1], rel=0.1)
    assert at_80[0] == pytest.approx(at_10[0])  # 1000 / cm whatever the cap, truth being below 10


def test_silog_is_per_image() -> None:
    pred, true, mask = scene(8)
    expected = []
    for i in range(2):
        g = (pred.log() - true.log())[i][mask[i]].tolist()
        mean = sum(g) / len(g)
        expected.append(sum(v * v for v in g) / len(g) - 0.5 * mean**2)
    assert float(losses.silog(pred, true, mask)) == pytest.approx(sum(expected) / 2)
    # An image without truth does not dilute the others, and lam = 1 forgets scale.
    mask[1] = False
    assert float(losses.silog(pred, true, mask)) == pytest.approx(expected[0])
    assert float(losses.silog(3 * true, true, mask, lam=1.0)) == pytest.approx(0.0, abs=1e-12)


def test_log_gradient_against_loops() -> None:
    pred, true, mask = scene(9)
    p, t = pred.log(), true.log()
    expected = sum(
        slow_edge(p[..., ::s, ::s], t[..., ::s, ::s], mask[..., ::s, ::s]) for s in (1, 2, 4, 8)
    )
    assert float(losses.log_gradient(pred, true, mask)) == pytest.approx(expected)
    both = LOSSES["log-l1-grad"](pred, true, mask)
    assert float(both) == pytest.approx(float(losses.log_l1(pred, true, mask)) + 0.5 * expected)


# Transforms.


def test_xl_log_depth_vectors() -> None:
    depth = torch.tensor([1.0, 4.0, 8.0, 20.0, 80.0])
    expected = [-37.02, 0.0, 18.51, 42.98, 80.0]
    assert losses.xl_log_depth(depth).tolist() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("cap", [10.0, 80.0])
def test_xl_log_berhu(cap: float) -> None:
    pred, true, mask = scene(10)
    scale = cap / math.log(20)
    expected = slow_berhu((pred.log() - true.log()) * scale, mask)
    assert float(make_loss("xl-log-berhu", cap)(pred, true, mask)) == pytest.approx(expected)


@given(st.floats(1.0, 100.0))
def test_inverse_transforms_undo_themselves(cap: float) -> None:
    depth = torch.linspace(max(0.01 * cap, 0.1), cap, 50, dtype=torch.float64)
    undone = losses.depth_from_inverse(losses.inverse_depth(depth, cap), cap)
    torch.testing.assert_close(undone, depth)
    undone = losses.depth_from_densedepth(losses.densedepth_target(depth, cap), cap)
    torch.testing.assert_close(undone, depth)


def test_logarithm_and_reciprocal_go_on_as_their_tangents() -> None:
    for f, floor, value, slope in (
        (targets.log, losses.LOG_FLOOR_M, math.log(0.1), 10.0),
        (lambda x: targets.log(x, 0.2), 0.2, math.log(0.2), 5.0),
        (lambda x: targets.reciprocal(x, 0.01), 0.01, 100.0, -1e4),
    ):
        x = torch.tensor([floor, floor - 0.05, -1.0], dtype=torch.float64, requires_grad=True)
        y = f(x)
        y.sum().backward()
        assert y.tolist() == pytest.approx(
            [value, value - 0.05 * slope, value - (1 + floor) * slope]
        )
        assert x.grad is not None
        assert x.grad.tolist() == pytest.approx([slope] * 3)


# What every loss promises.


@pytest.mark.parametrize("name", ALL)
def test_zero_at_the_truth_and_above_elsewhere(name: str) -> None:
    pred, true, mask = scene(11)
    assert float(ALL[name](true, true, mask)) == pytest.approx(0.0, abs=1e-9)
    assert float(ALL[name](pred, true, mask)) > 0


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    holes=st.floats(0.0, 1.0),
    junk=st.sampled_from([0.0, -7.0, math.nan, math.inf, -math.inf, 1e30]),
)
def test_invalid_pixels_do_not_matter(name: str, seed: int, holes: float, junk: float) -> None:
    pred, true, mask = scene(seed, (2, 1, 12, 13), holes, torch.float32)
    results = []
    for value in (1.0, junk):
        p = torch.where(mask, pred, value).requires_grad_()
        loss = ALL[name](p, torch.where(mask, true, value), mask)
        loss.backward()
        assert p.grad is not None
        results.append((loss.detach(), p.grad))
    (clean, clean_grad), (dirty, dirty_grad) = results
    assert math.isfinite(clean)
    assert torch.equal(clean, dirty)
    assert torch.equal(clean_grad, dirty_grad)
    assert torch.isfinite(clean_grad).all()
    assert (clean_grad[~mask] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_unmasked_holes_in_the_truth_are_invalid_too(name: str) -> None:
    pred, true, mask = scene(12)
    expected = ALL[name](pred, true, mask)
    true[~mask] = math.nan
    assert torch.equal(ALL[name](pred, true, torch.ones_like(mask)), expected)


@pytest.mark.parametrize("name", ALL)
def test_nothing_valid_gives_zero_and_a_graph(name: str) -> None:
    pred = torch.full((2, 1, 12, 12), math.nan, requires_grad=True)
    loss = ALL[name](pred, torch.zeros(2, 1, 12, 12), torch.zeros(2, 1, 12, 12).bool())
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert pred.grad is not None
    assert (pred.grad == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name: str) -> None:
    pred, true, mask = scene(13, (1, 1, 12, 12))
    if name in ("berhu", "bmix", "xl-log-berhu"):
        # The check would move c, a constant to the gradient, with the largest error: a second,
        # detached image holds that error.
        pred, true, mask = (x.repeat(2, 1, 1, 1) for x in (pred, true, mask))
        pred[1] = 0.5 * true[1].clamp(max=0.6)
        mask[1] = True

        def loss(p: Tensor) -> Tensor:
            return ALL[name](torch.cat([p, pred[1:]]), true, mask)

        assert torch.autograd.gradcheck(loss, (pred[:1].clone().requires_grad_(),))
        return
    assert torch.autograd.gradcheck(lambda p: ALL[name](p, true, mask), (pred.requires_grad_(),))


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_autocast_computes_in_float32(name: str) -> None:
    pred, true, mask = scene(14, dtype=torch.float32)
    half = pred.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ALL[name](half, true, mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()
    expected = ALL[name](half.detach().float(), true, mask)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)


# These are blind to a constant by design.
BLIND = {"edge", "log-gradient", "ssim", "si-mse", "si-mse-grad"}


@pytest.mark.parametrize("name", [n for n in ALL if n not in BLIND])
@pytest.mark.parametrize("start", [-2.0, 0.0, 1e-6, 30.0])
def test_a_network_starting_out_of_range_can_learn(name: str, start: float) -> None:
    _, true, mask = scene(15, dtype=torch.float32)
    pred = torch.full_like(true, start, requires_grad=True)
    ALL[name](pred, true, mask).backward()
    assert pred.grad is not None
    step = float(pred.grad.sum())
    assert math.isfinite(step)
    assert step * (1 if start > 10 else -1) > 0  # descent leads towards the truth


@pytest.mark.parametrize("name", ALL)
def test_a_diverged_prediction_is_not_hidden(name: str) -> None:
    pred, true, mask = scene(16)
    pred[0, 0, 8, 8] = math.nan
    mask[0, 0, 7:10, 7:10] = True
    assert math.isnan(ALL[name](pred, true, mask))


def test_rmse_has_a_gradient_at_the_truth() -> None:
    true = torch.ones(1, 1, 2, 2, requires_grad=True)
    losses.rmse(true, true.detach(), true > 0).backward()
    assert true.grad is not None
    assert (true.grad == 0).all()


def test_shapes_must_agree() -> None:
    a, b = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 5)
    for pred, true, mask in ((a, b, a > 0), (a, a, b > 0), (a[0], a[0], a[0] > 0)):
        with pytest.raises(CompressError, match=r"one shape \(N, 1, H, W\), got \(1, "):
            losses.l1(pred, true, mask)


def test_make_loss() -> None:
    maps = scene(17)
    for name, loss in LOSSES.items():
        default = 80.0 if name == "xl-log-berhu" else 10.0
        assert torch.equal(make_loss(name, default)(*maps), loss(*maps))
    with pytest.raises(CompressError, match="unknown loss 'berhuu'; did you mean berhu"):
        make_loss("berhuu", 10.0)
    for cap in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(CompressError, match="cap_m must be a finite depth"):
            make_loss("l1", cap)
