"""PBEP and EP against a plain reference, and what SELU promises of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.cost import cost
from compress.models.blocks import EP, PBEP, DenseStage

MAKE: dict[str, Callable[[int, int, str], nn.Module]] = {
    "pbep": lambda cin, cout, norm: PBEP(cin, cout, 8, 48, norm),
    "ep": lambda cin, cout, norm: EP(cin, cout, 48, norm),
}
EACH = pytest.mark.parametrize("name", MAKE)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@EACH
@pytest.mark.parametrize("norm", ["projection", "all"])
def test_cost_is_of_what_it_holds(name: str, norm: str) -> None:
    block = MAKE[name](3, 10, norm)
    counted = cost(block, (16, 24))
    assert counted.uncounted == ()
    weights = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
    assert counted.macs == weights * 16 * 24
    assert all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv2d))


def reference(block: nn.Module, x: Tensor) -> Tensor:
    """PBEP or EP of "projection" norm in einsum and loops, in evaluation."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805

    def selu(y: Tensor) -> Tensor:
        return scale * torch.where(y > 0, y, alpha * (y.exp() - 1))

    def pointwise(conv: nn.Module, y: Tensor) -> Tensor:
        return torch.einsum("nchw,oc->nohw", y, conv.weight[:, :, 0, 0])

    if isinstance(block, PBEP):
        x = pointwise(block.project, x)
        norm = block.norm
        x = (x - norm.running_mean.view(-1, 1, 1)) / (
            norm.running_var.view(-1, 1, 1) + norm.eps
        ).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    x = selu(pointwise(block.expand, x))
    wide = torch.zeros(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2, dtype=x.dtype)
    wide[:, :, 1:-1, 1:-1] = x
    taps = block.depthwise.weight[:, 0]  # (C, 3, 3)
    x = sum(
        taps[:, i, j, None, None] * wide[:, :, i : i + x.shape[2], j : j + x.shape[3]]
        for i in range(3)
        for j in range(3)
    )
    return selu(pointwise(block.reduce, selu(x)))


@EACH
def test_against_a_plain_reference(name: str) -> None:
    torch.manual_seed(2)
    block = MAKE[name](5, 7, "projection").double()
    block.train()
    for seed in range(5):  # statistics of its own
        block(noise(2, 5, 9, 8, seed=seed).double() * 3 + 1)
    block.eval()
    x = noise(2, 5, 9, 8, seed=9).double()
    with torch.no_grad():
        torch.testing.assert_close(block(x), reference(block, x))


@EACH
def test_self_normalising(name: str) -> None:
    """Mean near 0 and variance near 1 after every activation, as SELU's weights promise.

    torch's own initialisation, a third of the variance per layer, ends below a fifth.
    """
    torch.manual_seed(0)
    for cin in (32, 128):
        blocks = [MAKE[name](cin, 64, "projection"), MAKE[name](64, 64, "projection")]
        seen: list[Tensor] = []
        for block in blocks:
            for module in block.modules():
                if isinstance(module, nn.SELU):
                    module.register_forward_hook(lambda m, x, out, s=seen: s.append(out.clone()))
        with torch.no_grad():
            nn.Sequential(*blocks).eval()(noise(4, cin, 24, 24))
        assert len(seen) == 6
        for out in seen:
            assert abs(out.mean().item()) < 0.25
            assert 0.5 < out.var().item() < 1.6


def test_dense_stage_hands_everything_on() -> None:
    torch.manual_seed(0)
    widths, channels = [3, 5, 2], [4, 7, 12]
    modules = [PBEP(c, w, 2, 6, "projection") for c, w in zip(channels, widths, strict=True)]
    stage = DenseStage(modules).eval()
    x = noise(2, 4, 9, 7)
    with torch.no_grad():
        out = stage(x)
        assert out.shape == (2, 14, 9, 7)
        assert torch.equal(out[:, :4], x)
        for module, start, width in zip(modules, channels, widths, strict=True):
            assert torch.equal(out[:, start : start + width], module(out[:, :start]))
