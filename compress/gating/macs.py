"""Multiply-adds of a network with gates, in closed form: an upper bound on what any image needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from torch.fx import Node

from compress.errors import unknown
from compress.gating._operators import ADDS, JOINS, SCALES, Conv, Operators, keeps_zero, kind, shape
from compress.models.gates import Site, checked_density, gates_of, sites_of, without_gates

PRODUCTS = {"linear": 1, "mm": 1, "addmm": 2}  # where each takes its weight


class GatedMacs(NamedTuple):
    """Multiply-adds for one image.

    ``convs`` and ``linear`` are the network's own, of the channels that stay; ``predictors`` are
    the gates' C_in x C_out, ``pooling`` the H x W x C_in of the means that they read. ``dense`` is
    what ``convs`` and ``linear`` were without gates. ``layers`` has the convolutions' one by one.
    """

    convs: int
    linear: int
    predictors: int
    pooling: int
    dense: int
    layers: dict[str, int]

    @property
    def total(self) -> int:
        """All but ``dense``: gates included."""
        return self.convs + self.linear + self.predictors + self.pooling


def expected_macs(
    model: nn.Module, size: tuple[int, int], densities: Mapping[str, float] | None = None
) -> int:
    """Multiply-adds of a gated network for one image, its gates' included; see ``gated_macs``."""
    return gated_macs(model, size, densities).total


def gated_macs(
    model: nn.Module,
    size: tuple[int, int],
    densities: Mapping[str, float] | None = None,
    graph: Operators | None = None,
) -> GatedMacs:
    """Count the multiply-adds that are left where only winning channels are computed and read.

    Of a gate's C channels k = ceil(density x C) stay. An addition's are the union of both inputs',
    so as many as the two have together, at most all; a concatenation's are the sum. Depthwise
    convolutions follow. What a gate's silence does not outlast (another norm, a grouped
    convolution) has all its channels.

    Args:
        model: a network with gates.
        size: network input (height, width).
        densities: other densities than those set, by the path of the convolution.
        graph: of the network without gates, where it is known already.

    Source: papers' counts: conv x d_in x d_out + C_in x C_out + H x W x C_in a gate.
    """
    gates, sites = gates_of(model), {site.conv: site for site in sites_of(model)}
    active = {path: gate.active for path, gate in gates.items()}
    for path, value in (densities or {}).items():
        if path not in gates:
            raise unknown("gate", path, gates)
        active[path] = gates[path].active_at(checked_density(value, f"density of {path}"))
    graph = graph or Operators(without_gates(model) if gates else model, size)
    left = {graph.image: shape(graph.image)[1]}  # channels that may be other than zero
    linear = predictors = pooling = dense = 0
    layers: dict[str, int] = {}
    for node in graph.nodes:
        conv = graph.convs.get(node)
        if conv:
            dense += conv.macs
            out = _out(conv, sites.get(conv.path), active, left)
            layers[conv.path] = layers.get(conv.path, 0) + _of_conv(conv, left, out)
            left[node] = out
            if conv.path in gates:
                predictors += conv.cin * conv.cout
                pooling += conv.cin * math.prod(conv.size_in)
            continue
        if kind(node) in PRODUCTS:
            weight = math.prod(shape(node.args[PRODUCTS[kind(node)]]))
            x = node.args[PRODUCTS[kind(node)] - 1]
            rows = math.prod(shape(x)[:-1])
            dense += rows * weight
            linear += rows * weight * _left(x, left) // _whole(x)
        left[node] = _behind(node, graph, sites, left)
    return GatedMacs(sum(layers.values()), linear, predictors, pooling, dense, layers)


def _out(conv: Conv, site: Site | None, active: Mapping[str, int], left: Mapping[Node, int]) -> int:
    """Channels of a convolution that may be other than zero."""
    if site is None:
        bare = conv.module is not None and conv.module.bias is None
        return _left(conv.node.args[0], left) if conv.depthwise and bare else conv.cout
    return _left(conv.node.args[0], left) if site.follow else active[conv.path]


def _of_conv(conv: Conv, left: Mapping[Node, int], out: int) -> int:
    each = conv.taps * math.prod(conv.size_out)
    if conv.depthwise:
        return each * out
    if conv.groups > 1:
        return conv.macs * out // conv.cout
    return each * _left(conv.node.args[0], left) * out


def _behind(
    node: Node, graph: Operators, sites: Mapping[str, Site], left: Mapping[Node, int]
) -> int:
    """Channels of any other operator's output that may be other than zero."""
    whole = _whole(node)
    given = [n for n in node.all_input_nodes if shape(n)]
    first = node.args[0]
    if isinstance(first, Node) and first in graph.convs:
        conv = graph.convs[first]
        site = sites.get(conv.path)
        if site and site.norm and graph.norm_behind(conv)[0] is node:
            return left[first]
    if not given or not all(keeps_zero(node, one) for one in given if one in left):
        return whole
    counts = [_left(one, left) for one in given]
    if kind(node) in SCALES:
        return min(whole, *counts)
    if kind(node) in ADDS | JOINS:
        return min(whole, sum(counts))
    grown = max(1, whole // max(1, _whole(given[0])))  # pixel_unshuffle, flatten: of each several
    return min(whole, counts[0] * grown)


def _whole(node: object) -> int:
    sides = shape(node)
    return sides[1] if len(sides) > 1 else 1


def _left(node: object, left: Mapping[Node, int]) -> int:
    """Channels that may be other than zero; of a parameter all."""
    return left.get(node, _whole(node)) if isinstance(node, Node) else _whole(node)
