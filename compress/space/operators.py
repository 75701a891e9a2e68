"""The one list of operators that counting, latency prediction and reports all read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

CONV, LINEAR, NORM, UPSAMPLE, POOL = "conv", "linear", "norm", "upsample", "pool"
ACTIVATION, CONCAT, ADD = "activation", "concat", "add"
MATMUL = "matmul"  # of two activations, as in attention: a linear layer without parameters

# fvcore charges bilinear interpolation four operations an output value and nearest one.
UPSAMPLE_COST = {"bilinear": 4, "nearest": 1}
# fvcore charges an affine batch norm in inference two operations a value (scale and shift).
# Norms that compute their own statistics (group, layer, instance) it charges five.
NORM_COST = {"batch": 2, "batch-plain": 1, "own": 5, "own-plain": 4}
AFFINE = ("batch", "own")


class Operator(NamedTuple):
    """One operator of a network for one image.

    ``kind`` is one of the constants above; ``height`` and ``width`` are those of the output (of the
    input for a transposed convolution, whose kernel is placed there); ``detail`` names the function
    where a kind has several ("selu", "bilinear", "avg"). ``kernel_width`` is 0 where the kernel is
    square. ``params`` are learnable values only: running statistics are not counted.
    """

    name: str
    kind: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    detail: str = ""
    kernel_width: int = 0

    @property
    def kernel_area(self) -> int:
        """Taps of the kernel."""
        return self.kernel * (self.kernel_width or self.kernel)

    @property
    def params(self) -> int:
        """Learnable values of this operator."""
        if self.kind in (CONV, LINEAR):
            weights = self.kernel_area * self.in_channels * self.out_channels // self.groups
            return weights + (self.out_channels if self.bias else 0)
        return 2 * self.out_channels if self.kind == NORM and self.detail in AFFINE else 0

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and matrix products (one multiply-add = 1)."""
        if self.kind in (CONV, LINEAR, MATMUL):
            weights = self.kernel_area * self.in_channels * self.out_channels // self.groups
            return weights * self.height * self.width
        return 0

    @property
    def macs_all(self) -> int:
        """``macs``, and normalisation and interpolation by fvcore's convention."""
        values = self.out_channels * self.height * self.width
        if self.kind == NORM:
            return NORM_COST[self.detail] * values
        if self.kind == UPSAMPLE:
            return UPSAMPLE_COST[self.detail] * values
        return self.macs


class Totals(NamedTuple):
    """Sums over a list of operators."""

    params: int
    macs: int
    macs_all: int


def totals(operators: Iterable[Operator]) -> Totals:
    """Add up parameters and multiply-adds.

    The arithmetic of ``Operator``'s properties is repeated here in one flat loop, because this is
    what refuses candidates by the thousand a second; a test holds the two equal.
    """
    params = macs = other = 0
    for _, kind, cin, cout, height, width, kernel, _, groups, bias, detail, breadth in operators:
        if kind == CONV or kind == LINEAR:
            weights = kernel * (breadth or kernel) * cin * cout // groups
            params += weights
            macs += weights * height * width
            if bias:
                params += cout
        elif kind == NORM:
            if detail in AFFINE:
                params += 2 * cout
            other += NORM_COST[detail] * cout * height * width
        elif kind == UPSAMPLE:
            other += UPSAMPLE_COST[detail] * cout * height * width
        elif kind == MATMUL:
            macs += cin * cout * height * width
    return Totals(params, macs, macs + other)
