"""The sets of channels that must be cut together, found by running the network once.

Layers tied by an addition must keep the *same* channels, not as many; a concatenation hands its
inputs' channels on one after the other; depthwise and grouped convolutions follow what they read;
shuffles and splits tie channels at a distance. All of it is read off the operators that run, on
the meta device, at no arithmetic (``_follow``).

Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, for groups of coupled
layers; here the ties are those of single channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.errors import CompressError
from compress.models import DepthNet
from compress.pruning._atoms import along
from compress.pruning._follow import Follower
from compress.space import input_size

OUTPUT = "the network's output"
INPUT = "tied to the network's input"
LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Member:
    """One axis of one tensor that a group's channels run along.

    ``units`` has for each place along ``axis`` the group's unit there, or -1 where the place is
    another group's or nobody's. ``role``: "out" of a layer that makes the channels, "bias" its
    bias, "along" a norm, a depthwise or grouped layer that follows, "in" a layer that reads them,
    "free" a parameter outside any layer.
    """

    tensor: str
    axis: int
    role: str
    units: tuple[int, ...]

    @property
    def module(self) -> str:
        """The path of the module that holds the tensor."""
        return self.tensor.rpartition(".")[0]


@dataclass(frozen=True)
class Group:
    """Channels of one or several layers that are chosen together.

    ``name`` is the first layer that makes them; ``channels`` how many units can be chosen, of
    ``block`` channels each in that layer (1 but for grouped convolutions, shuffles and splits).
    ``why_not`` says why a group is not ``prunable``.
    """

    name: str
    channels: int
    block: int
    members: tuple[Member, ...]
    prunable: bool = True
    why_not: str = ""

    @property
    def width(self) -> int:
        """Channels of the layer that the group is named after."""
        return sum(unit >= 0 for unit in self.members[0].units) if self.members else self.channels

    @property
    def producers(self) -> tuple[str, ...]:
        """The layers that make the channels, in the order they run."""
        return tuple(member.module for member in self.members if member.role == "out")


def find_groups(
    model: nn.Module, size: tuple[int, int] | None = None, *, verify: bool = True
) -> list[Group]:
    """Find what can be cut from a network, in the order its layers run.

    Args:
        model: takes (1, 3, H, W); it is not changed.
        size: input (height, width); default: the model's own.
        verify: where channels pass an operator whose split points the network's code may have
            written down as numbers (views, slices), try a cut and compare numerically; groups
            that fail are not prunable. Only networks with such operators take time for it.

    Returns:
        every convolution and linear layer belongs to one group, as a producer or, depthwise and
        grouped ones, as a follower. Those that cannot be cut are listed too, with the reason.

    Raises:
        CompressError: the network cannot be run on the meta device.
    """
    at = size_of(model, size)
    follower = _run(model, at)
    groups = _grouped(follower)
    named = {member.module for group in groups for member in group.members}
    met = {name for (name, _), (_, role) in follower.slots.items() if role in ("out", "along")}
    follows = {name.rpartition(".")[0] for name in met}
    for path, module in model.named_modules():
        if isinstance(module, LAYERS) and path not in named | follows:
            count = int(getattr(module, "out_channels", 0) or getattr(module, "out_features", 0))
            why = f"never runs on an image of {at[0]}x{at[1]}"
            if getattr(module, "parametrizations", None) or "weight" not in module._parameters:
                why = "its weight is computed, not stored"
            groups.append(Group(path, count, 1, (), False, why))
    if verify:
        probed = set(follower.atoms.roots(np.array([0, *follower.atoms.probed])).tolist())
        touched = {
            group.name
            for group in groups
            if group.prunable
            for member in group.members
            if probed
            & set(follower.atoms.roots(follower.slots[member.tensor, member.axis][0]).tolist())
            and member.role == "out"
        }
        groups = _verified(model, at, groups, touched)
    return groups


def size_of(model: nn.Module, size: tuple[int, int] | None) -> tuple[int, int]:
    """The input size to use: the given one, or the model's own."""
    known = getattr(model, "size", None) if size is None else size
    if known is None:
        raise CompressError("this module has no input size of its own: give size=(height, width)")
    return input_size(known)


def results(model: nn.Module, image: Tensor) -> list[Tensor]:
    """All tensors that a network hands out for an image: those that no cut may change.

    Of a ``DepthNet`` its depth and class maps; the features that distillation reads narrow
    with the encoder.
    """
    if isinstance(model, DepthNet):
        made = model.outputs(image)._asdict()
        return list(_tensors([value for key, value in made.items() if key != "features"]))
    return list(_tensors(model(image)))


def _tensors(made: Any) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, Mapping):
        for part in made.values():
            yield from _tensors(part)
    elif isinstance(made, Sequence) and not isinstance(made, str):
        for part in made:
            yield from _tensors(part)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, one name each."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _run(model: nn.Module, size: tuple[int, int]) -> Follower:
    shared = _shared(model)
    kind = type(model).__name__
    try:
        module = copy.deepcopy(model).eval().to("meta")
    except Exception as error:  # whatever a module holds decides what this raises
        raise CompressError(f"{kind} cannot be copied: {type(error).__name__}: {error}") from error
    stack = [""]
    for name, part in module.named_modules():
        part.register_forward_pre_hook(lambda *_, n=name: stack.append(n))
        part.register_forward_hook(lambda *_: _left(stack))
    named = named_tensors(module)
    follower = Follower(named, lambda: stack[-1])
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    image = torch.empty(1, 3, *size, device="meta", dtype=dtype)
    inputs = follower.atoms.fresh(3)
    follower.atoms.freeze(inputs, INPUT)
    labels = torch.from_numpy(inputs).reshape(1, 3, 1, 1).expand(image.shape)
    follower.set(image, labels)
    try:
        with torch.no_grad(), follower:
            made = results(module, image)
    except Exception as error:
        raise CompressError(
            f"{kind} cannot be traced at {size[0]}x{size[1]} in module "
            f"{stack[-1] or 'the top level'!r}: {type(error).__name__}: {error}"
        ) from error
    for tensor in made:
        shadow = follower.shadow(tensor)
        if shadow is not None:
            follower.atoms.freeze(np.unique(shadow.contiguous().numpy()), OUTPUT)
    for (name, _), (labels_there, _) in follower.slots.items():
        if name in shared:
            follower.atoms.freeze(labels_there, f"{name} is the same tensor as {shared[name]}")
    return follower


def _left(stack: list[str]) -> None:
    stack.pop()  # and nothing returned, which would replace what the module made


def _shared(model: nn.Module) -> dict[str, str]:
    """Names of parameters that two modules share; moving to another device takes them apart."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for path, module in model.named_modules():  # each module once
        for own, tensor in module.named_parameters(path, recurse=False):
            other = first.setdefault(id(tensor), own)
            if other != own:
                found |= {own: other, other: own}
    return found


def _free_slots(follower: Follower) -> None:
    """Find the axis that channels run along in parameters that belong to no layer."""
    taken = {name for name, _ in follower.slots}
    atoms = follower.atoms
    for tensor in list(follower.kept):
        name = follower.names.get(id(tensor))
        shadow = follower.shadows.get(id(tensor))
        if name is None or shadow is None or name in taken:
            continue
        taken.add(name)
        table = atoms.roots(shadow.numpy())
        axes = [
            axis
            for axis, count in enumerate(table.shape)
            if count > 1 and all(len(np.unique(part)) == 1 for part in np.moveaxis(table, axis, 0))
        ]
        if len(axes) == 1:
            follower.slots[name, axes[0]] = along(shadow, axes[0], atoms), "free"
        else:
            atoms.freeze(table, f"{name} has them along no single axis")


def _grouped(follower: Follower) -> list[Group]:
    """Put units that share a layer into one group."""
    _free_slots(follower)
    atoms = follower.atoms
    slots = {key: (atoms.roots(labels), role) for key, (labels, role) in follower.slots.items()}
    makers = [key for key, (_, role) in slots.items() if role == "out"]
    home: dict[int, int] = {}  # of a unit: the group, by its first maker's number
    merged = list(range(len(makers)))

    def first(number: int) -> int:
        while merged[number] != number:
            number = merged[number]
        return number

    for number, key in enumerate(makers):
        for root in slots[key][0].tolist():
            low, high = sorted((first(home.setdefault(root, number)), first(number)))
            merged[high] = low
    orders: dict[int, dict[int, int]] = {}
    for number, key in enumerate(makers):
        order = orders.setdefault(first(number), {})
        for root in slots[key][0].tolist():
            order.setdefault(root, len(order))
    owner = {root: number for number, order in orders.items() for root in order}
    members: dict[int, list[Member]] = {number: [] for number in orders}
    for (name, axis), (roots, role) in slots.items():
        for number in dict.fromkeys(owner[root] for root in roots.tolist() if root in owner):
            order = orders[number]
            units = tuple(order.get(root, -1) for root in roots.tolist())
            members[number].append(Member(name, axis, role, units))
    why: dict[int, str] = {}
    for label, reason in atoms.reasons:
        why.setdefault(owner.get(atoms.root(label), -1), reason)
    found = []
    for number, order in orders.items():
        # The maker that names the group stands first among its members.
        rows = [m for m in members[number] if m.role == "out"]
        rest = [m for m in members[number] if m.role != "out"]
        block = int(np.bincount(np.array(rows[0].units)).max())
        reason = why.get(number, "")
        if not reason and len(order) == 1:
            wide = len(rows[0].units)
            reason = "it has one channel" if wide == 1 else f"its {wide} channels are tied as one"
        name = rows[0].module
        found.append(Group(name, len(order), block, (*rows, *rest), not reason, reason))
    return found


def _verified(
    model: nn.Module, size: tuple[int, int], groups: list[Group], touched: set[str]
) -> list[Group]:
    """Refuse those groups among ``touched`` of which a trial cut changes what is computed."""
    from compress.pruning.cut import check_cut, copy_cut

    def fails(names: Sequence[str]) -> str:
        keeps = {g.name: range(0, g.channels, 2) for g in groups if g.name in names}
        try:
            check_cut(model, copy_cut(model, keeps, groups), keeps, size, groups)
        except CompressError as error:
            return str(error)
        return ""

    if not touched or not fails(sorted(touched)):
        return groups
    checked = []
    for group in groups:
        problem = fails([group.name]) if group.name in touched else ""
        if problem:
            problem = f"its code counts channels by itself: {problem}"
            group = replace(group, prunable=False, why_not=problem)
        checked.append(group)
    return checked
