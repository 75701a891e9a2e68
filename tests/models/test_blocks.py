"""What every block must do: shape, gradient, cost, export."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from compress.cost import cost
from compress.export import write_onnx
from compress.models.blocks import (
    BLOCKS,
    EP,
    PBEP,
    BilinearUp,
    Bottleneck,
    DenseSeparable,
    DoubleUp,
    FBNetUp,
    InvertedResidual,
    NNConv,
    ResidualSeparable,
    Separable,
    ShuffleUp,
    SplitShuffle,
    SqueezeExcite,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def alone(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x)
    return out


def met(block: nn.Module, x: Tensor) -> Tensor:
    """With a skip of twice the size, three channels of it."""
    out: Tensor = block(x, F.interpolate(x[:, :3], scale_factor=2.0))
    return out


class Example(NamedTuple):
    """How one block is made and run on a map (N, cin, H, W), and what comes out.

    ``times`` is what it multiplies both sides by.
    """

    make: Callable[[], nn.Module]
    cin: int
    cout: int
    times: int = 1
    run: Callable[[nn.Module, Tensor], Tensor] = alone


# A new block adds its lines.
EXAMPLES: dict[str, list[Example]] = {
    "pbep": [
        Example(lambda: PBEP(6, 10, 8, 48, "projection"), 6, 10),
        Example(lambda: PBEP(6, 10, 8, 48, "all"), 6, 10),
    ],
    "ep": [
        Example(lambda: EP(6, 10, 48, "projection"), 6, 10),
        Example(lambda: EP(6, 10, 48, "all"), 6, 10),
    ],
    "ds": [
        Example(lambda: Separable(6, 10, 5), 6, 10),
        Example(lambda: Separable(6, 10, 3, norm=False), 6, 10),
    ],
    "res-ds": [
        Example(lambda: ResidualSeparable(6, 3), 6, 6),
        Example(lambda: ResidualSeparable(6, 5, norm=False), 6, 6),
    ],
    "dense-ds": [
        Example(lambda: DenseSeparable(6, 4, 3), 6, 10),
        Example(lambda: DenseSeparable(6, 4, 5, norm=False), 6, 10),
    ],
    "inv-res": [
        Example(lambda: InvertedResidual(6, 12, 3), 6, 6),
        Example(lambda: InvertedResidual(6, 12, 5, norm=False, squeeze=3), 6, 6),
    ],
    "split-shuffle": [
        Example(lambda: SplitShuffle(6, 3), 6, 6),
        Example(lambda: SplitShuffle(6, 5, norm=False), 6, 6),
    ],
    "nnconv": [Example(lambda: NNConv(6, 10), 6, 10, 2)],
    "squeeze-excite": [Example(lambda: SqueezeExcite(6, 2), 6, 6)],
    "bottleneck": [
        Example(lambda: Bottleneck(6, 10, 3), 6, 10),
        Example(lambda: Bottleneck(6, 6, 1), 6, 6),
    ],
    "shuffle-up": [
        Example(lambda: ShuffleUp(8, 3, 10, 2, 3), 8, 10, 2, met),
    ],
    "bilinear-up": [
        Example(lambda: BilinearUp(6, 10), 6, 10, 2),
        Example(lambda: BilinearUp(6, 10, 3, "none"), 6, 10, 2, met),
        Example(lambda: BilinearUp(6, 10, 3, "add"), 6, 10, 2, met),
        Example(lambda: BilinearUp(3, 10, 3, "add"), 3, 10, 2, met),
        Example(lambda: BilinearUp(6, 10, 3, "concat"), 6, 10, 2, met),
    ],
    "double-up": [Example(lambda: DoubleUp(6, 10, 3), 6, 10, 2, met)],
    "fbnet-up": [
        Example(lambda: FBNetUp(6, 10, 16, 5), 6, 10, 2),
        Example(lambda: FBNetUp(8, 10, 8, 3), 8, 10, 2),
    ],
}
EACH = pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{name}-{number}")
        for name, examples in EXAMPLES.items()
        for number, example in enumerate(examples)
    ],
)


class Whole(nn.Module):
    """A block as a network: counting and exporting give it an image (N, 3, H, W)."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.block, self.example = example.make(), example
        self.register_buffer("share", torch.linspace(-1, 1, example.cin).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.example.run(self.block, image[:, :1] * self.share)  # (N, cin, H, W)


def test_every_block_is_tested() -> None:
    assert EXAMPLES.keys() == BLOCKS.keys()
    for name, block in BLOCKS.items():
        for example in EXAMPLES[name]:
            assert type(example.make()) is block


@EACH
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (33, 47)])
def test_shape(example: Example, height: int, width: int) -> None:
    block = example.make().eval()
    x = noise(2, example.cin, height, width)
    before = x.clone()
    with torch.no_grad():
        out = example.run(block, x)
        assert out.shape == (2, example.cout, example.times * height, example.times * width)
        assert torch.isfinite(out).all()
        assert torch.equal(x, before)  # what is done in place is done to the block's own
        # one image does not see the other
        torch.testing.assert_close(example.run(block, x[1:]), out[1:], rtol=1e-4, atol=1e-5)


@EACH
def test_gradients(example: Example) -> None:
    torch.manual_seed(0)
    block = example.make().train()
    x = noise(2, example.cin, 9, 9).requires_grad_()
    out = example.run(block, x)
    (out * noise(*out.shape, seed=1)).sum().backward()
    for where, parameter in [("input", x), *block.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, where


@EACH
def test_cost_is_what_fvcore_counts(example: Example) -> None:
    model = Whole(example).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        analysis = FlopCountAnalysis(model, torch.zeros(1, 3, 17, 22))
        analysis.unsupported_ops_warnings(False)
        macs, macs_all = analysis.by_operator()["conv"], analysis.total()
    counted = cost(model, (17, 22))
    assert counted.uncounted == ()
    assert (counted.macs, counted.macs_all) == (macs, macs_all)
    assert counted.params == sum(p.numel() for p in model.parameters())


@EACH
def test_export(example: Example, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Whole(example).eval(), noise(1, 3, 9, 14)
    write_onnx(model, [x], tmp_path / "block.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "block.onnx", providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), rtol=1e-4, atol=1e-4)
