"""Units as torch modules: a few of a network's in a row, with stand-ins for other branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.cost.backends import Array
from compress.cost.units import CONVOLUTIONS, GATE, MEAN, SHUFFLE, TRANSPOSED, Unit
from compress.space.operators import (
    ACTIVATION,
    ADD,
    CONCAT,
    LINEAR,
    MATMUL,
    NORM,
    POOL,
    UPSAMPLE,
)

Shape = tuple[int, int, int]  # channels, height, width

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda x: x.clamp(0.1, 10.0),
    "elu": F.elu,
    "gelu": F.gelu,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
POOLS = ("avg", "max")
KINDS = {*CONVOLUTIONS, GATE, MEAN, ACTIVATION, ADD, CONCAT, NORM, POOL, UPSAMPLE}
assert not {LINEAR, MATMUL} & KINDS  # no space has them; a table answers them from their macs


def measurable(unit: Unit) -> bool:
    """Whether a unit can be built on its own."""
    known = unit.kind in KINDS and (not unit.act or unit.act in ACTIVATIONS)
    if unit.kind == ACTIVATION:
        return unit.detail in ACTIVATIONS
    if unit.kind == POOL:
        return known and unit.detail in POOLS
    return known


def inputs_of(unit: Unit) -> list[Shape]:
    """Maps that a unit reads: first the one that flows on, then those of other branches."""
    rows, columns = _grid(unit)
    if unit.kind == GATE:
        return [(unit.in_channels, 1, 1), (unit.in_channels, unit.height, unit.width)]
    if unit.kind == ADD:
        return [(unit.in_channels, rows, columns)] * 2
    if unit.kind == CONCAT:
        other = unit.out_channels - unit.in_channels
        first = [(unit.in_channels, rows, columns)]
        return [*first, (other, rows, columns)] if other else first
    return [(unit.in_channels, rows, columns)]


def output_of(unit: Unit) -> Shape:
    """The map that a unit makes."""
    factor = unit.stride if unit.kind == TRANSPOSED else 1
    return unit.out_channels, unit.height * factor, unit.width * factor


def _grid(unit: Unit) -> tuple[int, int]:
    """Height and width of the input, as a convolution's or a pooling's stride gives them."""
    if unit.kind == MEAN:
        return unit.area, 1
    times = math.sqrt(unit.area / (unit.height * unit.width))
    return max(1, round(unit.height * times)), max(1, round(unit.width * times))


class Passage(nn.Module):
    """Units in a row, ``copies`` of them side by side, each with weights and inputs of its own.

    Side by side, so that a unit of microseconds is long against what one run of a backend takes;
    with weights of their own, so that no backend finds them to be the same and computes one.
    """

    def __init__(self, units: Sequence[Unit], copies: int = 1) -> None:
        super().__init__()
        self.units = tuple(units)
        self.copies = copies
        self.shapes: list[Shape] = []
        flowing: Shape | None = None
        self.fresh: list[int] = []  # inputs that each unit takes from outside
        for unit in self.units:
            wanted = inputs_of(unit)
            taken = wanted if wanted[0] != flowing else wanted[1:]
            self.fresh.append(len(taken))
            self.shapes += taken
            flowing = output_of(unit)
        self.layers = nn.ModuleList(
            nn.ModuleList(_layer(unit) for unit in self.units) for _ in range(copies)
        )

    def inputs(self, seed: int = 0) -> list[Array]:
        """Random inputs of one run, (1, C, H, W) each."""
        chance = np.random.default_rng(seed)
        every = self.shapes * self.copies
        return [chance.uniform(-1, 1, (1, *shape)).astype(np.float32) for shape in every]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run all copies; outputs that nothing reads are outputs of the whole."""
        given = iter(inputs)
        outputs: list[Tensor] = []
        for copy in self.layers:
            x: Tensor | None = None
            assert isinstance(copy, nn.ModuleList)
            for unit, fresh, layer in zip(self.units, self.fresh, copy, strict=True):
                taken = [next(given) for _ in range(fresh)]
                whole = len(inputs_of(unit)) == fresh
                if whole and x is not None:
                    outputs.append(x)
                x = layer(*taken) if whole else layer(x, *taken)
            assert x is not None
            outputs.append(x)
        return tuple(outputs)

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        cut = sum(
            len(inputs_of(unit)) == fresh
            for unit, fresh in zip(self.units, self.fresh, strict=True)
        )
        return cut * self.copies


class _Call(nn.Module):
    """A function as a module."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


def _layer(unit: Unit) -> nn.Module:
    if unit.kind in CONVOLUTIONS:
        kernel = (unit.kernel, unit.kernel_width)
        padding = (unit.kernel // 2, unit.kernel_width // 2)
        made: nn.Module
        if unit.kind == TRANSPOSED:
            made = nn.ConvTranspose2d(
                unit.in_channels, unit.out_channels, kernel, unit.stride, padding,
                unit.stride - 1, unit.groups,
            )  # fmt: skip
        else:
            # A bias, for the norms that are folded leave one.
            made = nn.Conv2d(
                unit.in_channels, unit.out_channels, kernel, unit.stride, padding, 1, unit.groups
            )
        return nn.Sequential(made, _Call(ACTIVATIONS[unit.act])) if unit.act else made
    if unit.kind == NORM:
        return nn.BatchNorm2d(unit.in_channels)
    return _Call(_function(unit))


def _shuffled(x: Tensor, y: Tensor) -> Tensor:
    """Two maps side by side, their channels in turns."""
    both = torch.cat((x, y), 1)
    _, channels, height, width = both.shape
    halves = both.reshape(1, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(1, channels, height, width)


def _function(unit: Unit) -> Callable[..., Tensor]:
    if unit.kind == ACTIVATION:
        return ACTIVATIONS[unit.detail]
    if unit.kind == ADD:
        return lambda x, y: x + y
    if unit.kind == CONCAT:
        if unit.detail == SHUFFLE:
            return _shuffled
        # Where only one map of the branches is known, twice a half of it stands in for them.
        return lambda *maps: torch.cat(maps if len(maps) > 1 else maps[0].chunk(2, 1), 1)
    if unit.kind == GATE:
        return lambda gate, x: x * gate
    if unit.kind == MEAN:
        return lambda x: x.mean((2, 3), keepdim=True)
    if unit.kind == UPSAMPLE:
        size = (unit.height, unit.width)
        if unit.detail == "bilinear":
            return lambda x: F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return lambda x: F.interpolate(x, size=size, mode="nearest")
    assert unit.kind == POOL
    kernel, stride, padding = unit.kernel, unit.stride, (unit.kernel - 1) // 2
    if unit.detail == "max":
        return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=kernel % 2 == 0)
    return lambda x: F.avg_pool2d(
        x, kernel, stride, padding, ceil_mode=kernel % 2 == 0, count_include_pad=False
    )
