"""What a backend runs at once: operators joined into units, whose latency a device table holds.

A convolution, the norm that is folded into it and the activation that follows are one unit, whether
or not the backend fuses them: what that saves is then measured and needs no list of who fuses what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from compress.space.operators import (
    ACTIVATION,
    CONCAT,
    CONV,
    NORM,
    POOL,
    UPSAMPLE,
    Operator,
)

POINTWISE, DEPTHWISE, DENSE, GROUPED = "pointwise", "depthwise", "dense", "grouped"
TRANSPOSED, GATE, MEAN = "transposed", "gate", "mean"
CONVOLUTIONS = (POINTWISE, DEPTHWISE, DENSE, GROUPED, TRANSPOSED)
GATES = ("sigmoid", "hardsigmoid")  # of squeeze and excitation: they weigh a map's channels
START, SHUFFLE = "start", "shuffle"


class Unit(NamedTuple):
    """One thing that a backend runs.

    ``kind`` is one of the constants above or an operator's; ``height`` and ``width`` are the
    output's, ``area`` is how many positions the input has. ``act`` is the activation that follows
    a convolution, ``before`` the kind of the unit that ran before it and its activation: whether
    an addition is fused into a convolution, and in what layout a map arrives, depends on it.
    """

    kind: str
    in_channels: int
    out_channels: int
    height: int
    width: int
    area: int
    kernel: int = 1
    kernel_width: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False
    act: str = ""
    detail: str = ""
    before: str = START

    @property
    def leaves(self) -> str:
        """What it is to the unit after it."""
        if self.kind in CONVOLUTIONS:
            return f"conv:{self.act}" if self.act else "conv"
        return f"{self.kind}:{self.detail}" if self.detail else self.kind


def units_of(operators: Sequence[Operator]) -> tuple[list[Unit], list[int]]:
    """Join operators into units.

    Returns:
        the units in order, and for each of them the index of the operator that it is led by.
    """
    units: list[Unit] = []
    leads: list[int] = []
    before, open_conv, squeezed, split = START, False, 0, 0
    last_c, last_h, last_w = 0, 0, 0  # the map that the operator before made
    for index, op in enumerate(operators):
        _, kind, cin, cout, h, w, kernel, stride, groups, bias, detail, breadth = op
        if kind == NORM and open_conv and detail.startswith("batch"):
            continue  # folded into its convolution
        if kind == ACTIVATION and open_conv:
            units[-1] = units[-1]._replace(act=detail)
            before, open_conv = f"conv:{detail}", False
            if squeezed and detail in GATES and h * w == 1:
                units.append(Unit(GATE, cout, cout, squeezed, 1, squeezed, before=before))
                leads.append(index)
                before, squeezed = GATE, 0
            continue
        open_conv = kind == CONV
        if kind == CONV and 2 * cin == last_c and stride == 1 and (h, w) == (last_h, last_w):
            split = (
                last_c  # it reads half of the map before: channels are split, and shuffled after
            )
        area = h * w
        if kind == CONV:
            # A transposed one's grid is its input's.
            if detail == "transposed":
                kind, area = TRANSPOSED, h * w
            else:
                area = h * w * stride * stride
                if groups > 1:
                    kind = DEPTHWISE if groups == cin == cout else GROUPED
                else:
                    kind = POINTWISE if kernel * (breadth or kernel) == 1 else DENSE
            detail = ""
        elif kind == POOL:
            if h * w == 1 and detail in ("mean", "adaptive_avg"):
                area = last_h * last_w if last_c == cin else 1
                squeezed, kind = area, MEAN
            else:
                area = h * w * stride * stride
        elif kind == UPSAMPLE:
            area = last_h * last_w if last_c == cin else h * w // 4
        elif kind == CONCAT:
            if split == cout and last_c == cout // 2:
                detail, split = SHUFFLE, 0
            cin = last_c if last_c < cout and (last_h, last_w) == (h, w) else cout
        unit = Unit(
            kind, cin, cout, h, w, area, kernel, breadth or kernel, stride, groups, bias, "",
            detail, before,
        )  # fmt: skip
        units.append(unit)
        leads.append(index)
        before = unit.leaves
        last_c, last_h, last_w = cout, h, w
    return units, leads
