"""A second opinion on groups: what Torch-Pruning's dependency graph would cut.

``find_groups`` follows every channel through the operators that run. Torch-Pruning reads the
graph of gradients instead, by other rules, so that where the two agree neither is likely wrong.
They need not agree: Torch-Pruning takes shuffles of pixels and channels, transposes and flips for
elementwise operators, and cuts other channels of grouped convolutions.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from compress.pruning.groups import LAYERS, Group, results, size_of

Places = set[tuple[str, str, int]]  # layer, "out" or "in", channel


def second_opinion(
    model: nn.Module,
    groups: Sequence[Group],
    size: tuple[int, int] | None = None,
    units: Iterable[int] = (0,),
) -> dict[str, str]:
    """Ask Torch-Pruning for the same cuts and say where it would cut something else.

    Args:
        model: the network that the groups were found in.
        groups: of ``find_groups``; those not prunable are not asked about.
        size: input (height, width); default: the network's own.
        units: which units of each group to ask about.

    Returns:
        by group name, what differs in convolutions and linear layers; empty where all agree.
    """
    import torch_pruning

    spare = copy.deepcopy(model).cpu().eval()
    image = torch.rand(1, 3, *size_of(model, size))
    graph = torch_pruning.DependencyGraph()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        # The image must ask for a gradient: the graph of gradients is all that is looked at.
        graph.build_dependency(
            spare, image.requires_grad_(), forward_fn=lambda net, x: tuple(results(net, x))
        )
    names = {module: path for path, module in spare.named_modules()}
    found: dict[str, str] = {}
    for group in groups:
        if not group.prunable:
            continue
        for unit in (unit for unit in units if unit < group.channels):
            ours = _ours(spare, group, unit)
            try:
                theirs = _theirs(graph, names, spare.get_submodule(group.name), group, unit)
            except (ValueError, KeyError, AttributeError, TypeError, AssertionError) as error:
                found[group.name] = f"unit {unit}: {type(error).__name__}: {error}"
                break
            if ours != theirs:
                here, there = sorted(ours - theirs)[:3], sorted(theirs - ours)[:3]
                found[group.name] = f"unit {unit}: only here {here}, only there {there}"
                break
    return found


def _ours(model: nn.Module, group: Group, unit: int) -> Places:
    places: Places = set()
    for member in group.members:
        module = model.get_submodule(member.module)
        if not isinstance(module, LAYERS) or not member.tensor.endswith("weight"):
            continue
        side = "in" if member.role == "in" else "out"
        places |= {(member.module, side, i) for i, own in enumerate(member.units) if own == unit}
    return places


def _theirs(
    graph: Any, names: dict[nn.Module, str], root: nn.Module, group: Group, unit: int
) -> Places:
    first = next(member for member in group.members if member.role == "out")
    index = [i for i, own in enumerate(first.units) if own == unit]
    pruner = graph.get_pruner_of_module(root)
    places: Places = set()
    for dependency, where in graph.get_pruning_group(root, pruner.prune_out_channels, index):
        module = dependency.target.module
        if isinstance(module, LAYERS):
            side = "out" if graph.is_out_channel_pruning_fn(dependency.handler) else "in"
            places |= {(names[module], side, int(i)) for i in where}
    return places
