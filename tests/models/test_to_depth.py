"""How a head's map is read as depth, and where a head starts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.models.base import LOG_DEPTH_LIMIT, Head, to_depth
from compress.space.flat import TARGETS

EACH = pytest.mark.parametrize("target", TARGETS)


def column(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, -1, 1)


@pytest.mark.parametrize(
    ("target", "raw", "metres"),
    [
        ("log", 0.0, 1.0),
        ("log", math.log(5), 5.0),
        ("log", -1.0, math.exp(-1)),
        ("linear", 0.0, math.log(2)),  # softplus of 0
        ("linear", 40.0, 40.0),
        ("linear", -3.0, math.log1p(math.exp(-3))),
        ("inverse", 0.0, 1 / math.log(2)),
        ("inverse", 40.0, 1 / 40),
        ("inverse", -3.0, 1 / math.log1p(math.exp(-3))),
    ],
)
def test_values(target: str, raw: float, metres: float) -> None:
    assert to_depth(column(raw), target).item() == pytest.approx(metres, rel=1e-6)


@EACH
def test_bounds(target: str) -> None:
    least, most = math.exp(-LOG_DEPTH_LIMIT), math.exp(LOG_DEPTH_LIMIT)
    raw = column(-math.inf, -1e30, -1e4, -20, 0, 20, 1e4, 1e30, math.inf)
    depth = to_depth(raw, target).flatten()
    assert depth.min().item() == pytest.approx(least, rel=1e-5)
    assert depth.max().item() == pytest.approx(most, rel=1e-5)
    rises = depth.diff() >= 0 if target != "inverse" else depth.diff() <= 0
    assert rises.all() and depth.unique().numel() > 2


@EACH
def test_float32_of_any_precision(target: str) -> None:
    raw = column(-2.0, 0.5, 3.0)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        depth = to_depth(raw.to(dtype), target)
        assert depth.dtype == torch.float32
        torch.testing.assert_close(depth, to_depth(raw, target))


@EACH
def test_interpolated_before_it_is_read(target: str) -> None:
    raw = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    same = to_depth(raw, target)
    torch.testing.assert_close(to_depth(raw, target, (3, 4)), same)
    torch.testing.assert_close(to_depth(raw, target, raw.shape[-2:]), same)
    depth = to_depth(raw, target, (7, 8))
    assert depth.shape == (2, 1, 7, 8)
    grown = F.interpolate(raw, size=(7, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(depth, to_depth(grown, target))


@EACH
def test_gradient(target: str) -> None:
    raw = column(-6.0, -1.0, 0.0, 1.0, 6.0).requires_grad_()
    to_depth(raw, target).sum().backward()
    assert torch.isfinite(raw.grad).all()
    assert (raw.grad < 0 if target == "inverse" else raw.grad > 0).all()


@EACH
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_head_starts_from_any_depth(target: str, kernel: int) -> None:
    """The round trip: where the random part is nothing, the depth is the one asked for."""
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    for metres in (0.002, 0.1, 0.5, 1.0, 3.0, 20.0, 29.9, 30.1, 80.0, 900.0):
        head = Head(4, kernel, target)
        weight = head.conv.weight.clone()
        head.centre_on(math.log(metres))
        torch.testing.assert_close(head.conv.weight, 0.1 * weight)
        torch.nn.init.zeros_(head.conv.weight)
        with torch.no_grad():
            raw = head(x)
        assert raw.shape == (2, 1, 5, 6)
        torch.testing.assert_close(
            to_depth(raw, target), torch.full((2, 1, 5, 6), metres), rtol=1e-4, atol=0
        )


def test_a_head_is_drawn_for_values_around_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 64, 16, 16)
    for kernel in (1, 3):
        with torch.no_grad():
            out = Head(64, kernel, "log")(x)
        assert 0.3 < out.std() < 2
        assert abs(out.mean()) < 0.3
