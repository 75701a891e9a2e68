"""The bilinear decoder levels against a plain reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.models.blocks import BilinearUp, DoubleUp


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def grown(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation, one axis after the other, pixels being areas."""
    for axis, wanted in zip((2, 3), size, strict=True):
        given = x.shape[axis]
        place = ((torch.arange(wanted, dtype=x.dtype) + 0.5) * given / wanted - 0.5).clamp(
            0, given - 1
        )
        low = place.floor().long()
        share = (place - low).view([-1 if i == axis else 1 for i in range(4)])
        high = (low + 1).clamp(max=given - 1)
        x = x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share
    return x


def conv3(conv: nn.Module, x: Tensor) -> Tensor:
    """A 3x3 convolution in loops over its taps."""
    wide = torch.zeros(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 2, dtype=x.dtype)
    wide[:, :, 1:-1, 1:-1] = x
    height, width = x.shape[2:]
    out = sum(
        torch.einsum(
            "nchw,oc->nohw", wide[:, :, i : i + height, j : j + width], conv.weight[:, :, i, j]
        )
        for i in range(3)
        for j in range(3)
    )
    return out if conv.bias is None else out + conv.bias.view(-1, 1, 1)


def test_the_reference_interpolates() -> None:
    x = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64)
    assert grown(x, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


@pytest.mark.parametrize("size", [(8, 10), (7, 9), (4, 5)])
@pytest.mark.parametrize(
    ("cin", "how"), [(6, "none"), (6, "add"), (3, "add"), (6, "concat")], ids=str
)
def test_bilinear_up(cin: int, how: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = BilinearUp(cin, 5, 3, how).double()
    x, skip = noise(2, cin, 4, 5), noise(2, 3, *size, seed=1)
    for seed in range(3):  # statistics of its own
        block.train()(noise(2, cin, 4, 5, seed=seed), skip)
    block.eval()
    wanted = grown(x, size)
    if how == "add":
        same = cin == 3
        assert isinstance(block.project, nn.Identity) == same
        weight = torch.eye(3).double() if same else block.project.weight[:, :, 0, 0]
        wanted = wanted + torch.einsum("nchw,oc->nohw", skip, weight)
    if how == "concat":
        wanted = torch.cat((wanted, skip), 1)
    conv, norm, _ = block.conv
    wanted = conv3(conv, wanted)
    mean, variance = norm.running_mean.view(-1, 1, 1), norm.running_var.view(-1, 1, 1)
    wanted = (wanted - mean) / (variance + norm.eps).sqrt()  # fresh: scale 1, shift 0
    with torch.no_grad():
        torch.testing.assert_close(block(x, skip), wanted.clamp(min=0))


def test_bilinear_up_alone() -> None:
    block = BilinearUp(3, 5).eval()
    x = noise(1, 3, 4, 5).float()
    assert block(x).shape == (1, 5, 8, 10)
    assert block(x, size=(7, 9)).shape == (1, 5, 7, 9)


@pytest.mark.parametrize("size", [(8, 10), (7, 9)])
def test_double_up(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = DoubleUp(6, 5, 3).double()
    for part in (block.a, block.b):
        nn.init.normal_(part[0].bias)
    x, skip = noise(2, 6, 4, 5), noise(2, 3, *size, seed=1)
    wanted = torch.cat((grown(x, size), skip), 1)
    for part in (block.a, block.b):
        wanted = conv3(part[0], wanted)
        wanted = torch.where(wanted > 0, wanted, 0.2 * wanted)
    with torch.no_grad():
        torch.testing.assert_close(block(x, skip), wanted)


def test_drawn_for_values_around_one() -> None:
    """A chain neither fades nor grows."""
    torch.manual_seed(0)
    x = torch.randn(2, 64, 8, 8)
    with torch.no_grad():
        for _ in range(4):
            skip = torch.randn(2, 32, 2 * x.shape[2], 2 * x.shape[3])
            x = DoubleUp(64, 64, 32)(x, skip)
    assert 0.2 < x.square().mean().sqrt() < 3
