"""One-shot pruning: how many channels each group loses at a ratio, or to meet a budget."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from compress.cost import Cost, cost
from compress.errors import CompressError, unknown
from compress.pruning.cut import check_cut, copy_cut, slice_groups
from compress.pruning.groups import Group, find_groups, size_of
from compress.pruning.importance import Losses, scores

SCOPES = ("global", "uniform")
HALVINGS = 20  # of the ratio: finer than one channel of any group here
NEAR = 0.995  # of a budget: near enough to stop
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Pruned(Generic[Net]):
    """A cut copy, which units of which group it kept, what it costs, and its numerical check.

    ``ratio`` is the share of channels asked for; ``difference`` the largest difference from the
    masked original (``check_cut``).
    """

    model: Net
    keeps: dict[str, list[int]]
    ratio: float
    difference: float
    before: Cost
    after: Cost


def prune_ratio(
    model: Net,
    ratio: float,
    importance: str = "magnitude",
    *,
    size: tuple[int, int] | None = None,
    scope: str = "global",
    floor: int = 8,
    step: int = 1,
    losses: Losses | None = None,
    seed: int = 0,
    ignore: Sequence[str] = (),
) -> Pruned[Net]:
    """Cut a share of all channels that can be cut, at once.

    Args:
        model: the network; it stays as it is.
        ratio: share of channels to drop, 0 to below 1.
        importance: a name of ``IMPORTANCES``.
        size: input (height, width); default: the network's own.
        scope: "global" (the least important of the whole network go first, scores relative to
            their group's mean) or "uniform" (the same share of each group).
        floor: fewest channels a group keeps; a narrower group stays whole.
        step: channels are kept in multiples of this, where a group is wide enough.
        losses: for importance "taylor"; see ``scores``.
        seed: for importance "random".
        ignore: groups to leave whole, by name.

    Raises:
        CompressError: a wrong argument, nothing to cut, or a cut that fails its check.
    """
    _number("ratio", ratio, 0, 1)
    plan = _Plan(model, importance, size, scope, floor, step, losses, seed, ignore)
    return plan.pruned(ratio)


def prune_to(
    model: Net,
    *,
    max_params: int | None = None,
    max_macs: int | None = None,
    importance: str = "magnitude",
    size: tuple[int, int] | None = None,
    scope: str = "global",
    floor: int = 8,
    step: int = 1,
    losses: Losses | None = None,
    seed: int = 0,
    ignore: Sequence[str] = (),
) -> Pruned[Net]:
    """Cut little more than meets a budget, by bisection on the ratio of ``prune_ratio``.

    Args:
        model: the network; it stays as it is.
        max_params: most parameters.
        max_macs: most multiply-adds of convolutions and linear layers for one image of ``size``.
        importance: and the rest: as for ``prune_ratio``.

    Raises:
        CompressError: the budget cannot be met, with what the smallest cut network costs.
    """
    limits = {"params": max_params, "macs": max_macs}
    if all(limit is None for limit in limits.values()):
        raise CompressError("no budget: give max_params, max_macs or both")
    for name, limit in limits.items():
        if limit is not None:
            _number(f"max_{name}", limit, 1, math.inf)
    plan = _Plan(model, importance, size, scope, floor, step, losses, seed, ignore)

    def meets(found: Cost) -> bool:
        return all(limit is None or getattr(found, k) <= limit for k, limit in limits.items())

    if meets(plan.before):
        return plan.pruned(0.0)
    low, high = 0.0, math.nextafter(1.0, 0.0)
    least = plan.cost_at(high)
    if not meets(least):
        wanted = ", ".join(f"max_{k} {v:,}" for k, v in limits.items() if v is not None)
        raise CompressError(
            f"{wanted} cannot be met: cut to floor {floor} the network has {least.params:,} "
            f"parameters and {least.macs:,} MACs; allow more, or lower floor"
        )
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = plan.cost_at(middle)
        low, high = (low, middle) if meets(found) else (middle, high)
        if meets(found) and any(v and getattr(found, k) >= NEAR * v for k, v in limits.items()):
            break
        if plan.keeps(low) == plan.keeps(high):
            break
    return plan.pruned(high)


class _Plan(Generic[Net]):
    """Which units go at which ratio; larger ratios drop all that smaller ones drop."""

    def __init__(
        self,
        model: Net,
        importance: str,
        size: tuple[int, int] | None,
        scope: str,
        floor: int,
        step: int,
        losses: Losses | None,
        seed: int,
        ignore: Sequence[str],
    ) -> None:
        if scope not in SCOPES:
            raise unknown("scope", scope, SCOPES)
        for name, value in (("floor", floor), ("step", step)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CompressError(f"{name} = {value!r}: give a whole number from 1")
        self.model, self.scope, self.floor, self.step = model, scope, floor, step
        self.size = size_of(model, size)
        self.groups = find_groups(model, self.size)
        names = [group.name for group in self.groups]
        for name in ignore:
            if name not in names:
                raise unknown("group", name, names)
        self.open = [g for g in self.groups if g.prunable and g.name not in ignore]
        if not self.open:
            why = "; ".join(f"{g.name}: {g.why_not or 'left out'}" for g in self.groups[:3])
            raise CompressError(f"nothing to cut in {type(model).__name__} ({why})")
        found = scores(model, self.open, importance, losses=losses, seed=seed)
        self.scores: dict[str, Tensor] = {}
        for name, score in found.items():
            if not bool(torch.isfinite(score).all()):
                raise CompressError(f"{name}: importance {importance!r} is not finite")
            self.scores[name] = score.double() / max(float(score.double().mean()), 1e-30)
        sized = [self.scores[g.name].repeat_interleave(g.block) for g in self.open]
        self.ranked = torch.cat(sized).sort().values
        self.before = cost(model, self.size)
        self.spare = copy.deepcopy(model).to("meta")

    def count(self, group: Group, ratio: float) -> int:
        """How many units a group keeps."""
        if self.scope == "uniform":
            kept = group.channels - math.floor(group.channels * ratio)
        else:
            # A share of the network's channels, each as important as its unit.
            place = min(math.floor(len(self.ranked) * ratio), len(self.ranked) - 1)
            kept = int((self.scores[group.name] >= self.ranked[place]).sum())
        every = max(1, math.lcm(self.step, group.block) // group.block)
        kept = math.ceil(kept / every) * every
        least = math.ceil(math.ceil(self.floor / group.block) / every) * every
        return min(group.channels, max(kept, least))

    def keeps(self, ratio: float) -> dict[str, list[int]]:
        """The units that stay, of the groups that lose some."""
        found = {}
        for group in self.open:
            kept = self.count(group, ratio)
            if kept < group.channels:
                order = self.scores[group.name].sort(descending=True, stable=True).indices
                found[group.name] = sorted(order[:kept].tolist())
        return found

    def cost_at(self, ratio: float) -> Cost:
        """What the network costs at a ratio; only shapes are cut."""
        spare = copy.deepcopy(self.spare)
        slice_groups(spare, self.keeps(ratio), self.groups)
        return cost(spare, self.size)

    def pruned(self, ratio: float) -> Pruned[Net]:
        """Cut, check and count."""
        keeps = self.keeps(ratio)
        made = copy_cut(self.model, keeps, self.groups)
        difference = check_cut(self.model, made, keeps, self.size, self.groups)
        return Pruned(made, keeps, ratio, difference, self.before, cost(made, self.size))


def _number(name: str, value: float, low: float, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < below:
        allowed = f"{low} to below {below}" if below < math.inf else f"from {low}"
        raise CompressError(f"{name} = {value!r}: give a number {allowed}")
