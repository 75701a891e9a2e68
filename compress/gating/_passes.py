"""What is worked out over all steps: which are needed, how maps best lie, when memory is free."""

from __future__ import annotations

import torch

from compress.gating._steps import Conv, Gate, Graph, Op, Step, sources

aten = torch.ops.aten
# Their results share no memory with what they were given.
COPIES = {
    aten.add.Tensor, aten.cat.default, aten.max_pool2d.default, aten.avg_pool2d.default,
    aten.upsample_bilinear2d.vec, aten.upsample_nearest2d.vec, aten.mul.Tensor, aten.relu.default,
    aten.hardswish.default, aten.silu.default, aten.hardtanh.default, aten.mean.dim,
    aten.leaky_relu.default,
}  # fmt: skip


def prepare(graph: Graph) -> None:
    """Drop steps that nothing needs, and fill in what the others should know of one another."""
    _drop_unused(graph)
    _want_rows(graph)
    graph.last = _last_uses(graph)
    _spend(graph)


def _drop_unused(graph: Graph) -> None:
    used, kept = {graph.out}, []
    for step in reversed(graph.steps):
        if step.out in used:
            used.update(sources(step))
            kept.append(step)
    graph.steps = kept[::-1]


def _want_rows(graph: Graph) -> None:
    """Sums over sets of channels copy whole channels, which must then lie together."""
    added = {
        slot
        for step in graph.steps
        if isinstance(step, Op) and step.target is aten.add.Tensor
        for slot in sources(step)
    }
    gated = any(isinstance(step, Gate) for step in graph.steps)
    for step in graph.steps:
        if isinstance(step, Conv):
            step.rows = gated and step.out in added


def _last_uses(graph: Graph) -> list[list[int]]:
    seen = {graph.out}
    last = []
    for step in reversed(graph.steps):
        fresh = {*sources(step), step.out} - seen
        seen |= fresh
        last.append(sorted(fresh))
    return last[::-1]


def _spend(graph: Graph) -> None:
    """Let sums write into what is read for the last time, if nothing else can look into it."""
    made = {step.out: step for step in graph.steps}
    looked = {
        slot
        for step in graph.steps
        if isinstance(step, Op) and step.target not in COPIES
        for slot in sources(step)
    }
    for step, dead in zip(graph.steps, graph.last, strict=True):
        if isinstance(step, Op) and step.target is aten.add.Tensor:
            own = [
                slot
                for slot in dead
                if slot not in looked and slot != step.out and _fresh(made.get(slot))
            ]
            step.spent = frozenset(own if len(set(sources(step))) == 2 else ())


def _fresh(step: Step | None) -> bool:
    return isinstance(step, Conv) or (isinstance(step, Op) and step.target is aten.add.Tensor)
