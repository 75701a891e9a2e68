"""What the blocks with pixel shuffle and FBNet's block compute, next to a plain calculation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks import Bottleneck, FBNetUp, ShuffleUp


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seen(block: nn.Module) -> nn.Module:
    """In evaluation, with norms whose statistics and scales are not the initial ones."""
    for number, module in enumerate(block.modules()):
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            count = module.num_features
            with torch.no_grad():
                module.running_mean.copy_(noise(count, seed=4 * number))
                module.running_var.copy_(noise(count, seed=4 * number + 1).square() + 0.5)
                module.weight.copy_(noise(count, seed=4 * number + 2))
                module.bias.copy_(noise(count, seed=4 * number + 3))
    return block.eval()


def step(part: nn.Module, x: Tensor) -> Tensor:
    """A convolution and its norm, in loops over taps."""
    conv, norm = list(part.children())[:2]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert conv.bias is None and conv.stride == (1, 1)
    assert norm.running_mean is not None and norm.running_var is not None
    k = conv.kernel_size[0]
    wide = F.pad(x, [k // 2] * 4)
    height, width = x.shape[-2:]
    out = torch.zeros(())
    for i in range(k):
        for j in range(k):
            window = wide[:, :, i : i + height, j : j + width]
            tap = conv.weight[:, :, i, j]
            if conv.groups == 1:
                out = out + torch.einsum("nchw,oc->nohw", window, tap)
            else:
                assert conv.groups == conv.in_channels == conv.out_channels
                out = out + window * tap.view(-1, 1, 1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (out - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(
        -1, 1, 1
    )


@pytest.mark.parametrize(
    ("cin", "cout", "expansion"), [(6, 6, 3), (6, 10, 3), (6, 6, 1), (6, 4, 1)]
)
def test_bottleneck(cin: int, cout: int, expansion: int) -> None:
    block = seen(Bottleneck(cin, cout, expansion))
    assert isinstance(block, Bottleneck)
    x = 3 * noise(2, cin, 5, 7)
    with torch.no_grad():
        y = x if expansion == 1 else step(block.expand, x).clamp(0, 6)
        assert y.shape[1] == cin * expansion
        y = step(block.project, step(block.depthwise, y).clamp(0, 6))
        wanted = y + x if cin == cout else y
        torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-4)


def test_bottleneck_limits_its_values_to_six() -> None:
    block = seen(Bottleneck(6, 10, 3))
    x = 100 * noise(1, 6, 5, 5)
    clipped: list[Tensor] = []
    for part in (block.expand, block.depthwise):
        assert isinstance(part, nn.Sequential)
        part.register_forward_hook(lambda *given: clipped.append(given[2]))
    with torch.no_grad():
        block(x)
    assert [float(y.max()) for y in clipped] == [6.0, 6.0]
    assert [float(y.min()) for y in clipped] == [0.0, 0.0]


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (5, 7)])
def test_shuffle_up_meets_a_skip_of_odd_sides(size: tuple[int, int]) -> None:
    block = seen(ShuffleUp(8, 3, 5, 2, 2))
    assert isinstance(block, ShuffleUp)
    x, skip = noise(2, 8, 3, 4), noise(2, 3, *size, seed=1)
    pixels = torch.empty(2, 2, *size)
    for row in range(size[0]):
        for column in range(size[1]):
            corner = 2 * (row % 2) + column % 2
            for channel in range(2):
                value = x[:, 4 * channel + corner, row // 2, column // 2]
                pixels[:, channel, row, column] = value
    with torch.no_grad():
        wanted = torch.cat((pixels, skip), 1)
        for bottleneck in block.bottlenecks:
            wanted = bottleneck(wanted)
        assert wanted.shape == (2, 5, *size)
        torch.testing.assert_close(block(x, skip), wanted)


def test_shuffle_up_has_as_many_bottlenecks_as_asked() -> None:
    for count in (1, 2, 3, 4):
        block = ShuffleUp(8, 4, 5, count, 2)
        widths = [one.project[0].out_channels for one in block.bottlenecks]
        added = [one.residual for one in block.bottlenecks]
        assert widths == [5] * count
        assert added == [False] + [True] * (count - 1)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("cin", "hidden"), [(6, 16), (8, 8)])
@pytest.mark.parametrize("size", [None, (5, 7)])
def test_fbnet_up(cin: int, hidden: int, kernel: int, size: tuple[int, int] | None) -> None:
    block = seen(FBNetUp(cin, 10, hidden, kernel))
    assert isinstance(block, FBNetUp)
    x = noise(2, cin, 3, 4)
    with torch.no_grad():
        y = x if cin == hidden else step(block.expand, x).relu()
        height, width = size or (6, 8)
        # nearest: each new pixel takes the old one that its upper left corner falls into
        rows = torch.arange(height) * 3 // height
        columns = torch.arange(width) * 4 // width
        y = y[:, :, rows][:, :, :, columns]
        wanted = step(block.project, step(block.depthwise, y).relu())
        torch.testing.assert_close(block(x, size), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.min() < 0  # the last convolution is linear
