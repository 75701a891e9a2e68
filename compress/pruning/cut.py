"""Cutting channels out of a network, and proof that what remains computes the same.

A cut network must equal the original in which the dropped channels are silent: zero wherever a
layer reads them. ``masked`` builds that original; ``check_cut`` compares the two on noise.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.errors import CompressError, unknown
from compress.models import DepthNet
from compress.models.shapes import digest, pruned_shapes, refresh, replace_tensor, settle, widths_of
from compress.pruning._atoms import Labels
from compress.pruning.groups import (
    Group,
    find_groups,
    named_tensors,
    results,
    size_of,
)

TOLERANCE = 1e-5
Keeps = Mapping[str, Sequence[int]]
Net = TypeVar("Net", bound=nn.Module)
Mask = NDArray[np.bool_]
# Figures of a model's header that no longer hold once it is cut.
STALE = ("params", "macs", "validation", "heldout", "detached")


def cut(model: nn.Module, group: Group, keep: Sequence[int]) -> None:
    """Keep only these units of a group, in place: weights, norms, and the layers that read them.

    Args:
        model: the network that ``find_groups`` was given; after a cut its other groups are out of
            date where they share a layer with this one, and are to be found anew.
        group: one of its groups.
        keep: units to keep, of 0 to ``group.channels - 1``; the order does not matter.
    """
    cut_groups(model, {group.name: keep}, [group])


def cut_groups(model: nn.Module, keeps: Keeps, groups: Sequence[Group]) -> None:
    """Cut several groups at once, in place; those not in ``keeps`` stay whole."""
    if slice_groups(model, keeps, groups) and isinstance(model, DepthNet):
        refresh(model)
        _note(model)


def slice_groups(model: nn.Module, keeps: Keeps, groups: Sequence[Group]) -> bool:
    """``cut_groups`` without the book-keeping: enough to count what a cut network costs."""
    kept = _kept(model, keeps, groups)
    named = named_tensors(model)
    for name, axes in kept.items():
        tensor = named[name]
        for axis, places in axes.items():
            index = torch.from_numpy(places).to(tensor.device)
            tensor = tensor.detach().index_select(axis, index)
        path, _, own = name.rpartition(".")
        replace_tensor(model.get_submodule(path), own, tensor)
    for path in dict.fromkeys(name.rpartition(".")[0] for name in kept):
        settle(model.get_submodule(path))
    return bool(kept)


def copy_cut(
    model: Net,
    keeps: Keeps,
    groups: Sequence[Group] | None = None,
    size: tuple[int, int] | None = None,
) -> Net:
    """A copy of a network with several groups cut; the network stays as it is.

    Args:
        model: any network that ``find_groups`` takes.
        keeps: units to keep, by the group's name.
        groups: from ``find_groups`` of this network; default: found here.
        size: where they are found here and the network has no size of its own.
    """
    found = find_groups(model, size, verify=False) if groups is None else groups
    spare = copy.deepcopy(model)
    cut_groups(spare, keeps, found)
    return spare


def masked(
    model: Net,
    keeps: Keeps,
    groups: Sequence[Group] | None = None,
    size: tuple[int, int] | None = None,
) -> Net:
    """A copy of the original in which the channels that a cut would drop are silent.

    Silent means zero where a layer reads them, whatever a norm's shift or an activation such as a
    sigmoid makes of zero on the way: the weights that read them are zero.
    """
    found = find_groups(model, size, verify=False) if groups is None else groups
    spare = copy.deepcopy(model)
    named = named_tensors(spare)
    with torch.no_grad():
        for name, axes in _kept(spare, keeps, found, ("in",)).items():
            for axis, places in axes.items():
                gone = np.setdiff1d(np.arange(named[name].shape[axis]), places)
                named[name].index_fill_(axis, torch.from_numpy(gone).to(named[name].device), 0)
    return spare


def check_cut(
    original: nn.Module,
    pruned: nn.Module,
    keeps: Keeps,
    size: tuple[int, int] | None = None,
    groups: Sequence[Group] | None = None,
) -> float:
    """Compare a cut network with the masked original on random images.

    What they hand out is compared, and what each layer makes of the channels it keeps, in a
    weighted sum over the map: a network that is indifferent to its input at the end, as an
    untrained one may be, hides nothing. Computed in float64, where a difference is not rounding.

    Returns:
        the largest absolute difference, relative to the largest value where that is above 1.

    Raises:
        CompressError: the difference is above 1e-5, or the cut network does not run.
    """
    at = size_of(original, size)
    found = find_groups(original, at, verify=False) if groups is None else groups
    rows = _rows(original, keeps, found)
    image = torch.rand(1, 3, *at, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = image * 2 - 1
    wanted = _made(masked(original, keeps, found), image, rows)
    try:
        got = _made(copy.deepcopy(pruned), image, dict.fromkeys(rows))
    except (RuntimeError, ValueError, IndexError) as error:
        message = str(error).splitlines()[0][:200]
        raise CompressError(
            f"the pruned network does not run at {at[0]}x{at[1]}: {message}"
        ) from None
    worst = 0.0
    if [x.shape for x in wanted] != [x.shape for x in got]:
        raise CompressError("the pruned network's outputs have another shape than the original's")
    for one, other in zip(wanted, got, strict=True):
        if one.numel():
            scale = max(1.0, float(one.abs().max()))
            difference = float((one - other).abs().max()) / scale
            worst = max(worst, difference if difference == difference else float("inf"))
    if worst > TOLERANCE:
        raise CompressError(
            f"the pruned network differs from the masked original by {worst:.3g} at "
            f"{at[0]}x{at[1]}; {TOLERANCE:g} is allowed. check that both were given "
            "the same groups and keeps, or leave out the groups concerned"
        )
    return worst


def widths(model: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer, by module path."""
    found = {}
    for path, module in model.named_modules():
        held = widths_of(module)
        count = held.get("out_channels", held.get("out_features"))
        if count is not None:
            found[path] = count
    return found


def _units(group: Group, keep: Sequence[int]) -> Labels:
    """Check a choice of units: distinct, in range, at least one; sorted."""
    kept = np.unique(np.asarray(list(keep), dtype=np.int64))
    if len(kept) != len(list(keep)) or not len(kept) or kept[0] < 0 or kept[-1] >= group.channels:
        shown = str(list(keep))
        shown = shown if len(shown) < 60 else f"{shown[:60]}..."
        raise CompressError(
            f"{group.name}: keep = {shown}; give one or more different units of 0 to "
            f"{group.channels - 1}"
        )
    return kept


def _kept(
    model: nn.Module, keeps: Keeps, groups: Sequence[Group], roles: Sequence[str] = ()
) -> dict[str, dict[int, Labels]]:
    """For each tensor and axis that a cut touches, the places that stay."""
    by_name = {group.name: group for group in groups}
    named = named_tensors(model)
    stays: dict[tuple[str, int], Mask] = {}
    for name, keep in keeps.items():
        if name not in by_name:
            raise unknown("group", name, by_name)
        group = by_name[name]
        kept = _units(group, keep)
        if len(kept) == group.channels:
            continue
        if not group.prunable:
            raise CompressError(f"{name} cannot be cut: {group.why_not}")
        for member in group.members:
            if roles and member.role not in roles:
                continue
            units = np.array(member.units)
            held = named[member.tensor].shape[member.axis] if member.tensor in named else -1
            if held != len(units):
                raise CompressError(
                    f"{name}: {member.tensor} has {held} places where the group has {len(units)}; "
                    "the network was cut since: call find_groups again"
                )
            key = member.tensor, member.axis
            here = (units < 0) | np.isin(units, kept)
            stays[key] = stays.get(key, np.ones(len(units), dtype=bool)) & here
    found: dict[str, dict[int, Labels]] = {}
    for (tensor, axis), stay in stays.items():
        if not stay.any() and not roles:
            raise CompressError(f"{tensor}: nothing of its axis {axis} would be left; keep more")
        if not stay.all():
            found.setdefault(tensor, {})[axis] = np.flatnonzero(stay)
    return found


def _rows(model: nn.Module, keeps: Keeps, groups: Sequence[Group]) -> dict[str, Labels | None]:
    """Each layer whose channels can be chosen, and which it keeps; None where all."""
    kept = _kept(model, keeps, groups)
    makers = [m for group in groups for m in group.members if m.role == "out"]
    return {m.module: kept.get(m.tensor, {}).get(m.axis) for m in makers}


def _made(model: nn.Module, image: Tensor, rows: Mapping[str, Labels | None]) -> list[Tensor]:
    """What a network hands out, and a sum over each layer's maps; the network is used up."""
    model = model.cpu().double().eval()
    seen: list[tuple[str, Tensor]] = []

    def see(path: str, module: nn.Module, out: Tensor) -> None:
        maps = out.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)  # (C, n)
        noise = torch.randn(maps.shape[1], generator=torch.Generator().manual_seed(1))
        sums = maps @ noise.double() / max(1, len(noise)) ** 0.5
        places = rows[path]
        seen.append((path, sums if places is None else sums[torch.from_numpy(places)]))

    for path in rows:
        model.get_submodule(path).register_forward_hook(
            lambda module, _, out, path=path: see(path, module, out)
        )
    with torch.no_grad():
        made = [x.double() for x in results(model, image)]
    return made + [sums for _, sums in seen]


def _note(model: DepthNet) -> None:
    """Say in the model's header that it was cut, and set aside the figures from before."""
    before = {key: model.info[key] for key in STALE if key in model.info}
    noted = dict(model.info.get("pruned", {}))
    noted.setdefault("before", before)
    shapes = pruned_shapes(model)
    noted["shapes"] = digest(shapes)
    noted["layers"] = len(shapes)
    kept = {key: value for key, value in model.info.items() if key not in STALE}
    model.info = kept | {"pruned": noted}
