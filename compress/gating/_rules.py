"""Which operators can work on the active channels alone, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compress.gating._steps import Op, Ref, filled, sources
from compress.gating._values import CL, Value, added, dense, joined

aten = torch.ops.aten
Run = Callable[[list[Any]], Value]

# Channel by channel, and a channel of zeros stays one. What moves windows is best given pixels.
WINDOWS = {
    aten.max_pool2d.default, aten.avg_pool2d.default, aten.upsample_bilinear2d.vec,
    aten.upsample_nearest2d.vec, aten.upsample_bicubic2d.vec,
}  # fmt: skip
CHANNELWISE = WINDOWS | {
    aten.relu.default, aten.leaky_relu.default, aten.silu.default, aten.hardswish.default,
    aten.gelu.default, aten.tanh.default, aten.relu6.default, aten.elu.default,
    aten.adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default, aten.abs.default,
    aten.mish.default,
}  # fmt: skip

VIEWS = (aten.view.default, aten._unsafe_view.default)


def compile_op(step: Op) -> Run:
    """A function of all slots' values."""
    target = step.target
    slots = sources(step)
    if target is aten.add.Tensor and len(slots) == 2 and step.kwargs.get("alpha", 1) == 1:
        return _adding(step, slots)
    maps = target is aten.cat.default and all(isinstance(one, Ref) for one in step.args[0])
    if maps and _dim(step, 1, 0) in (1, -3):
        return lambda env: joined([env[slot] for slot in slots])
    if target is aten.mul.Tensor and len(slots) == 2:
        return _scaling(step, slots)
    if len(slots) == 1 and step.args and step.args[0] == Ref(slots[0]) and _channelwise(step):
        return _alone(step, slots[0], windows=target in WINDOWS)
    return _whole(step)


def _dim(step: Op, position: int, usual: int) -> int:
    given = step.args[position] if len(step.args) > position else step.kwargs.get("dim", usual)
    assert isinstance(given, int)
    return given


def _channelwise(step: Op) -> bool:
    target, args = step.target, step.args
    if target in CHANNELWISE:
        return True
    if target is aten.hardtanh.default:
        low, high = (*args[1:3], -1.0, 1.0)[:2] if len(args) == 3 else (-1.0, 1.0)
        return bool(low <= 0 <= high)
    if target in (aten.mul.Tensor, aten.div.Tensor, aten.mul.Scalar, aten.div.Scalar):
        return isinstance(args[1], int | float)
    if target is aten.mean.dim:
        return sorted(dim % 4 for dim in args[1]) == [2, 3]
    if target in (aten.pad.default, aten.constant_pad_nd.default):
        value = step.kwargs.get("value", args[-1] if len(args) > 2 else None)
        return len(args[1]) <= 4 and value in (None, 0, 0.0, "constant")
    if target is aten.slice.Tensor:
        return _dim(step, 1, 0) in (2, 3, -1, -2)
    return False


def _alone(step: Op, slot: int, windows: bool) -> Run:
    target, rest, kwargs = step.target, step.args[1:], step.kwargs

    def run(env: list[Any]) -> Value:
        value = env[slot]
        data = value.data
        if data.dim() != 4:
            return Value(target(dense(value), *rest, **kwargs))
        if windows:
            data = data.contiguous(memory_format=CL)
        return Value(target(data, *rest, **kwargs), value.index, value.channels)

    return run


def _adding(step: Op, slots: list[int]) -> Run:
    left, right = slots
    relu, spent = step.relu, (left in step.spent, right in step.spent)

    def run(env: list[Any]) -> Value:
        a, b = env[left], env[right]
        same = a.data.dim() == b.data.dim() == 4 and a.data.shape[2:] == b.data.shape[2:]
        if same and a.channels == b.channels:
            return added(a, b, relu, spent)
        out = dense(a) + dense(b)
        return Value(out.relu_() if relu else out)

    return run


def _scaling(step: Op, slots: list[int]) -> Run:
    left, right = slots

    def run(env: list[Any]) -> Value:
        a, b = env[left], env[right]
        if a.index is None and b.index is not None:
            a, b = b, a
        if a.index is None or a.data.dim() != 4 or b.data.dim() != 4:
            return Value(dense(a) * dense(b))
        other = dense(b)
        if other.shape[1] == a.channels and other.shape[1] > 1:
            other = other.contiguous().index_select(1, a.index)
        elif other.shape[1] != 1:
            return Value(dense(a) * other)
        out: Tensor = a.data * other
        return Value(out, a.index, a.channels)

    return run


def _whole(step: Op) -> Run:
    """As traced, on all channels."""
    # Views were traced of maps that lie channels first; here they may lie otherwise.
    target = aten.reshape.default if step.target in VIEWS else step.target
    args, kwargs = step.args, step.kwargs

    def run(env: list[Any]) -> Any:
        def put(ref: Ref) -> Any:
            value = env[ref.slot]
            return dense(value) if isinstance(value, Value) else value

        out = target(*filled(args, put), **filled(kwargs, put))
        if not isinstance(out, Tensor):
            return out
        return Value(out.relu_() if step.relu else out)

    return run
