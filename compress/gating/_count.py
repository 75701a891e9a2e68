"""Multiply-adds of one image, from the channels that its layers read and were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from compress.gating._steps import Conv, Gate, Graph, Op

Sets = Sequence[tuple[int, int]]  # of each convolution: channels that came in and that went out


def whole(graph: Graph) -> int:
    """Of all channels, without gates: convolutions and linear layers."""
    return _linear(graph) + sum(step.macs for step in graph.steps if isinstance(step, Conv))


def needed(graph: Graph, sets: Sets) -> int:
    """Of the active channels: a convolution's d_in x d_out; predictors and means in full."""
    total, left = _linear(graph), iter(sets)
    for step in graph.steps:
        if isinstance(step, Conv):
            total += _part(step, *next(left))
        elif isinstance(step, Gate):
            total += step.weight.numel() + step.pixels * step.weight.shape[0]
    return total


def run(graph: Graph, sets: Sets, modes: Sequence[str]) -> int:
    """As it ran: in full where a layer's mode computes all channels."""
    total, left = _linear(graph), iter(zip(sets, modes, strict=True))
    held: dict[int, int] = {}  # channels of a gate's input, as the convolution beside it reads it
    for step in graph.steps:
        if isinstance(step, Conv):
            (ins, outs), mode = next(left)
            held[step.x] = ins
            gather = mode.split("/")[0]
            every = step.channels
            ins = ins if gather in ("both", "in") else every[0]
            outs = (
                outs
                if gather in ("both", "out") or (step.depthwise and gather == "in")
                else every[1]
            )
            total += _part(step, ins, outs)
    for step in graph.steps:
        if isinstance(step, Gate):
            read = held.get(step.x, step.weight.shape[0])
            total += read * (step.weight.shape[1] + step.pixels)
    return total


def _part(step: Conv, ins: int, outs: int) -> int:
    """Of so many channels in and out; groups read theirs whole."""
    every_in, every_out = step.channels
    if step.groups > 1:
        return step.macs * outs // every_out
    return step.macs * ins * outs // (every_in * every_out)


def _linear(graph: Graph) -> int:
    return sum(step.linear_macs for step in graph.steps if isinstance(step, Op))
