"""Which convolutions of a network can be gated, and why the others cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn
from torch.fx import Node

from compress.errors import CompressError, unknown
from compress.gating._operators import (
    ADDS,
    JOINS,
    SCALES,
    Conv,
    Operators,
    keeps_zero,
    kind,
    shape,
)
from compress.models import DepthNet
from compress.models.gates import Site, gates_of

WHERE = ("all", "encoder")
FEWEST = 8  # channels: fewer are a head's, or not worth choosing among
MIXES = ("conv", "linear", "addmm", "mm", "bmm", "matmul", "baddbmm")


@dataclass(frozen=True)
class Found:
    """A convolution: where it is, what it costs for one image, and whether it is a site.

    ``norm`` is the batch norm behind it, if any. ``follow``: depthwise, and silent where what it
    reads is silent. ``why_not`` is empty for a site.
    """

    conv: str
    norm: str | None
    follow: bool
    channels: int
    macs: int
    why_not: str = ""


def find_sites(model: nn.Module, size: tuple[int, int], where: str = "all") -> list[Found]:
    """List the convolutions of a network in the order they run, and which of them can be gated.

    One can be where a channel that it leaves out stays zero, behind the norm that goes with it,
    until a layer mixes it with others: only then need that layer not read it. Squeeze and
    excitation, grouped convolutions and heads are left alone.

    Args:
        model: any network of (1, 3, H, W) without gates; it is only looked at.
        size: network input (height, width).
        where: one of ``WHERE``; the encoder of a network that names none is all before the first
            interpolation.

    Raises:
        CompressError: nothing to gate, gates already there, a network that cannot be followed.
    """
    if where not in WHERE:
        raise unknown("place for gates", where, WHERE)
    if gates_of(model):
        raise CompressError(f"{type(model).__name__} has gates already; give it without them")
    graph = Operators(model, size)
    why_not = _unfit(graph, _outside(model, graph) if where == "encoder" else set())
    # One that is refused leaves channels awake behind it, and so may end others' silence.
    while True:
        silent = silent_nodes(
            graph, {c.node for c in graph.convs.values() if c.node not in why_not}
        )
        refused = {}
        for conv in graph.convs.values():
            if conv.node not in why_not and (reason := _woken(graph, conv, silent)):
                refused[conv.node] = reason
        why_not |= refused
        if not refused:
            break
    found = []
    for conv in graph.convs.values():
        follow = conv.depthwise and conv.node in silent
        said = "" if follow else why_not.get(conv.node, "")
        norm = graph.norm_behind(conv)[1]
        found.append(Found(conv.path, norm, follow, conv.cout, conv.macs, said))
    if all(one.follow or one.why_not for one in found):
        first = next((f" ({one.conv}: {one.why_not})" for one in found if one.conv), "")
        raise CompressError(
            f"{type(model).__name__} has no convolution to gate in {where}{first}; "
            "give a network of convolutions, each with its own batch norm or none"
        )
    return found


def sites(found: Iterable[Found]) -> list[Site]:
    """The sites among what ``find_sites`` found, for ``compress.models.gates.attach``."""
    return [Site(one.conv, one.norm, one.follow) for one in found if not one.why_not]


def silent_nodes(graph: Operators, gated: Collection[Node]) -> set[Node]:
    """What may have channels that are zero because gates left them out."""
    silent: set[Node] = set()
    for node in graph.nodes:
        conv = graph.convs.get(node)
        if conv:
            if node in gated or (_can_follow(graph, conv) and node.args[0] in silent):
                silent.add(node)
                norm = graph.norm_behind(conv)[0]
                silent |= {norm} if norm else set()
            continue
        read = [n for n in node.all_input_nodes if keeps_zero(node, n)]
        zero = [n in silent for n in read]
        some = kind(node) in JOINS | SCALES
        if any(zero) and (some or (all(zero) and len(read) == len(node.all_input_nodes))):
            silent.add(node)
    return silent


def _can_follow(graph: Operators, conv: Conv) -> bool:
    return conv.depthwise and conv.module is not None and graph.runs[conv.path] == 1


def _unfit(graph: Operators, outside: set[Node]) -> dict[Node, str]:
    """Convolutions that are no sites whatever is behind them."""
    pooled = graph.pooled()
    found: dict[Node, str] = {}
    for node, conv in graph.convs.items():
        if conv.module is None:
            found[node] = "not a Conv2d with weights of its own"
        elif graph.runs[conv.path] > 1:
            found[node] = "runs several times"
        elif node in outside:
            found[node] = "not in the encoder"
        elif conv.depthwise:
            found[node] = "depthwise, and reads no gated channels"
        elif conv.groups > 1:
            found[node] = "grouped: a group's channels are computed together"
        elif node in pooled:
            found[node] = "reads pooled maps, as squeeze and excitation does"
        elif conv.cout < FEWEST:
            found[node] = f"has {conv.cout} channels, fewer than {FEWEST}"
    return found


def _outside(model: nn.Module, graph: Operators) -> set[Node]:
    """Convolutions that are not the encoder's."""
    encoder = model.pretrained if isinstance(model, DepthNet) else None
    if encoder is not None:
        own = {id(part) for part in encoder.modules()}
        named = {path for path, part in model.named_modules() if id(part) in own}
        return {node for node, conv in graph.convs.items() if conv.path not in named}
    larger: set[Node] = set()
    for node in graph.nodes:
        grows = kind(node).startswith(("upsample", "pixel_shuffle", "conv_transpose"))
        if grows or not larger.isdisjoint(node.all_input_nodes):
            larger.add(node)
    return larger & set(graph.convs)


def _woken(graph: Operators, conv: Conv, silent: set[Node]) -> str:
    """What would wake this convolution's silent channels; empty if nothing does."""
    todo = [graph.norm_behind(conv)[0] or conv.node]
    seen = set(todo)
    while todo:
        made = todo.pop()
        for user in made.users:
            behind = user
            if user.op == "output":
                return "the network's own output"
            if inner := graph.convs.get(user):
                if not inner.depthwise:
                    continue
                if not _can_follow(graph, inner):
                    return f"{inner.path or 'a depthwise convolution'} behind it runs several times"
                behind = graph.norm_behind(inner)[0] or user
            elif kind(user).startswith(MIXES):
                continue
            elif not keeps_zero(user, made):
                return f"{kind(user)} behind it does not keep zero at zero"
            # What is added to channels that are awake is no longer silent, and nobody counts on it.
            awake = kind(user) in ADDS and user not in silent
            if not awake and behind not in seen and shape(behind):
                seen.add(behind)
                todo.append(behind)
    return ""
