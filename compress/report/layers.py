"""Where a network's parameters, multiply-adds and milliseconds lie, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from compress.cost.count import operators
from compress.cost.table import DeviceTable
from compress.space import Genotype, Operator
from compress.space.operators import CONV, LINEAR, MATMUL, POOL, UPSAMPLE

# Layers that a chart holds and still lets a reader tell apart.
MOST_LAYERS = 64
# What begins a layer of its own; norms, activations and joins belong to the layer before them.
LEADING = (CONV, LINEAR, MATMUL, UPSAMPLE, POOL)


@dataclass(frozen=True)
class Layer:
    """A run of operators: the map that it ends in and what it costs.

    ``latency_ms`` is None without a device table.
    """

    name: str
    channels: int
    height: int
    width: int
    params: int
    macs: int
    latency_ms: float | None = None


def layers(
    genotype: Genotype,
    size: tuple[int, int] | None = None,
    table: DeviceTable | None = None,
    most: int = MOST_LAYERS,
) -> list[Layer]:
    """List a network's layers in the order they run, from the closed form.

    Layers are joined into the blocks that their names tell of (``stage1.2.expand`` into
    ``stage1.2``) until there are no more than ``most``. Parameters and MACs add up to the network's
    own; what a run takes besides its operators (``DeviceTable.predict`` holds it) is in none.

    Args:
        genotype: the network.
        size: input (height, width); default: the genotype's own.
        table: predicts the milliseconds.
        most: layers.
    """
    listed = operators(genotype, size)
    times_ms = None if table is None else table.predict_per_operator(listed)
    found: list[Layer] = []
    for index, op in enumerate(listed):
        latency_ms = None if times_ms is None else float(times_ms[index])
        layer = _layer(op, latency_ms)
        if op.kind in LEADING or not found:
            found.append(layer)
        else:
            found[-1] = _joined(found[-1].name, (found[-1], layer))
    depth = max((layer.name.count(".") for layer in found), default=0)
    while len(found) > most and depth > 0:
        found = _grouped(found, depth)
        depth -= 1
    return found


def _layer(op: Operator, latency_ms: float | None) -> Layer:
    # The grid of a transposed convolution is its input's.
    scale = op.stride if op.kind == CONV and op.detail == "transposed" else 1
    return Layer(
        op.name, op.out_channels, op.height * scale, op.width * scale, op.params, op.macs,
        latency_ms,
    )  # fmt: skip


def _grouped(found: Sequence[Layer], depth: int) -> list[Layer]:
    """Join neighbours whose names agree in their first ``depth`` parts."""
    groups = groupby(found, key=lambda layer: ".".join(layer.name.split(".")[:depth]))
    return [_joined(name, list(group)) for name, group in groups]


def _joined(name: str, parts: Sequence[Layer]) -> Layer:
    last = parts[-1]
    times_ms = [part.latency_ms for part in parts if part.latency_ms is not None]
    return Layer(
        name,
        last.channels,
        last.height,
        last.width,
        sum(part.params for part in parts),
        sum(part.macs for part in parts),
        sum(times_ms) if times_ms else None,
    )
