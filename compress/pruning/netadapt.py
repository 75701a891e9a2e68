"""NetAdapt: narrower layer by layer, each step the one that costs the least accuracy.

Source: Yang et al., "NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications",
ECCV 2018, algorithm 1. Ours beside it: channels that are tied over additions and concatenations are
ranked by one joint norm and cut together, and proposals are ranked without training first, so that
only the best few are fine-tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from compress.errors import CompressError
from compress.pruning.cut import check_cut, copy_cut
from compress.pruning.groups import Group, find_groups
from compress.pruning.importance import scores
from compress.pruning.resource import Ledger, Resource, operators_of

Net = TypeVar("Net", bound=nn.Module)
HALF = 0.5  # of what an iteration should save: the least worth an iteration


@dataclass(frozen=True)
class Schedule:
    """How fast, how fine and how thoroughly.

    Iteration i may spend at most ``max(step * decay^i, least)`` of the original resource less than
    the one before. ``candidates`` is how many proposals are fine-tuned, after ranking all of them
    as they are; 0 fine-tunes every one, as published. ``most`` is the share of a layer's channels
    that one iteration may take: a layer of little latency would have to give up most of what it has
    to bring what is wanted, and what that costs shows only later. Widths are multiples of
    ``multiple`` and at least ``floor``. ``short_steps`` are the training steps of a proposal.
    ``by`` chooses the most accurate proposal ("accuracy", as in the paper) or the one that loses
    least for what it saves ("ratio", as in the authors' code).
    """

    step: float = 0.04
    decay: float = 0.97
    least: float = 0.01
    candidates: int = 3
    most: float = 0.25
    multiple: int = 8
    floor: int = 8
    short_steps: int = 20
    by: str = "ratio"
    most_iterations: int = 400

    def __post_init__(self) -> None:
        for name, low, high in (
            ("step", 1e-4, 0.9), ("decay", 0.1, 1), ("least", 0, 0.5), ("candidates", 0, 10_000),
            ("most", 0.01, 1),
            ("multiple", 1, 1024), ("floor", 1, 4096), ("short_steps", 0, 100_000),
            ("most_iterations", 1, 100_000),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not low <= value <= high:
                raise CompressError(f"{name} = {value!r}: give a number from {low} to {high}")
        if self.by not in ("ratio", "accuracy"):
            raise CompressError(f"by = {self.by!r}: write ratio or accuracy")

    @classmethod
    def of(cls, method: str, multiple: int | None = None) -> Schedule:
        """The schedule of a method of ``compress prune``.

        Args:
            method: "netadapt-published", or any other.
            multiple: of channels that ours keeps: by how many the device's latency rises.
        """
        if method == "netadapt-published":
            return cls.published()
        return cls(multiple=multiple) if multiple else cls()

    @classmethod
    def published(cls, short_steps: int = 20) -> Schedule:
        """The literal algorithm: 2.5 % at first, decay .96, every proposal fine-tuned."""
        return cls(
            0.025, 0.96, 0.0, candidates=0, most=1.0, multiple=8, floor=8,
            short_steps=short_steps, by="accuracy",
        )  # fmt: skip


@dataclass(frozen=True)
class Iteration:
    """One step: what was cut, and where the network stands after it.

    ``before`` and ``after`` are the layer's units; ``tried`` the proposals there were and
    ``tuned`` how many of them were fine-tuned.
    """

    number: int
    layer: str
    before: int
    after: int
    resource: float
    accuracy: float
    tried: int
    tuned: int
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """The step as JSON-ready values."""
        return asdict(self)


class Task(Protocol):
    """What pruning needs to know of a network's purpose."""

    def score(self, model: Any) -> float:
        """Accuracy, more is better; the same images every time."""

    def tune(self, model: Any, steps: int, seed: int) -> None:
        """Train in place for some steps."""


@dataclass(frozen=True)
class Proposal:
    """A group cut to the largest width that saves enough."""

    group: Group
    keep: tuple[int, ...]
    resource: float


@dataclass
class Adapted(Generic[Net]):
    """Where the loop ended: ``reached`` is whether the target was met."""

    model: Net
    resource: float
    reached: bool
    history: list[Iteration]


def netadapt(
    model: Net,
    target: float,
    resource: Resource,
    task: Task,
    size: tuple[int, int],
    schedule: Schedule | None = None,
    *,
    history: Sequence[Iteration] = (),
    start: float | None = None,
    on_iteration: Callable[[Net, Iteration], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> Adapted[Net]:
    """Narrow a network until its resource is at most ``target``.

    Args:
        model: trained; it is not changed.
        target: in the resource's unit.
        resource: what must fall.
        task: scores and fine-tunes.
        size: network input (height, width).
        schedule: default: ours.
        history: the iterations already done, when a run is taken up again with the model that
            the last of them left.
        start: the original network's resource, where ``model`` is not the original any more.
        on_iteration: is given the network and the step after each; what it saves is enough to go
            on from.
        clock: seconds, for tests.

    Returns:
        the narrowed network, with ``reached = False`` where nothing is left to cut.
    """
    import time

    now = clock or time.monotonic
    schedule = schedule or Schedule()
    done = list(history)
    groups = find_groups(model, size)
    unsafe = {group.name for group in groups if not group.prunable}
    ledger = Ledger(model, groups, size)
    at = resource(ledger.operators)
    start = at if start is None else start
    accuracy = None
    while at > target and len(done) < schedule.most_iterations:
        began = now()
        share = max(schedule.step * schedule.decay ** len(done), schedule.least)
        wanted = max(target, at - start * share)
        groups = [g for g in find_groups(model, size, verify=False) if g.name not in unsafe]
        found = proposals(model, groups, ledger, wanted, resource, schedule)
        if not found:
            return Adapted(model, at, False, done)
        before = task.score(model) if accuracy is None else accuracy
        chosen, model, accuracy, tuned = _best(
            model, groups, found, at, before, task, schedule, len(done), size
        )
        group = chosen.group
        ledger.cut(group.name, group.channels - len(chosen.keep))
        if [op[1:] for op in ledger.operators] != [op[1:] for op in operators_of(model, size)]:
            ledger = Ledger(model, find_groups(model, size, verify=False), size)
        at = resource(ledger.operators)
        done.append(
            Iteration(
                len(done) + 1, group.name, group.channels, len(chosen.keep), at, accuracy,
                len(found), tuned, now() - began,
            )
        )  # fmt: skip
        if on_iteration:
            on_iteration(model, done[-1])
    return Adapted(model, at, at <= target, done)


def proposals(
    model: nn.Module,
    groups: Sequence[Group],
    ledger: Ledger,
    wanted: float,
    resource: Resource,
    schedule: Schedule,
) -> list[Proposal]:
    """For each prunable group, the largest width that brings the network to ``wanted``.

    A group that may not give up enough at once is proposed with what it may, if that is ``HALF`` of
    it and proposals are compared by what they save; other groups only where there is nothing else.
    """
    usable = [group for group in groups if group.prunable and ledger.knows(group)]
    ranked = scores(model, usable, "joint")
    here = resource(ledger.operators)
    enough: list[Proposal] = []
    spent: list[Proposal] = []
    for group in usable:
        units = _units(group, schedule)
        if not units:
            continue
        order = torch.argsort(ranked[group.name], descending=True, stable=True).tolist()

        def costs(count: int, group: Group = group) -> float:
            return resource(ledger.narrowed(group.name, group.channels - count))

        # From the widest down: latency falls in steps, so that no order can be relied on.
        for count in reversed(units):
            value = costs(count)
            if value <= wanted:
                enough.append(Proposal(group, tuple(sorted(order[:count])), value))
                break
        else:
            least = costs(units[0])
            if least < here:
                spent.append(Proposal(group, tuple(sorted(order[: units[0]])), least))
    if schedule.by == "ratio":
        enough += [one for one in spent if here - one.resource >= HALF * (here - wanted)]
    return enough or spent


def _units(group: Group, schedule: Schedule) -> list[int]:
    """How many units the group may keep: whole multiples of channels, fewer than it has."""
    per = max(1, schedule.multiple // math.gcd(schedule.multiple, group.block))
    least = max(per, math.ceil(schedule.floor / group.block))
    units = [count for count in range(per, group.channels, per) if count >= least]
    # One step is always allowed.
    return [n for n in units if n >= (1 - schedule.most) * group.channels] or units[-1:]


def _best(
    model: Net,
    groups: Sequence[Group],
    found: Sequence[Proposal],
    at: float,
    before: float,
    task: Task,
    schedule: Schedule,
    seed: int,
    size: tuple[int, int],
) -> tuple[Proposal, Net, float, int]:
    """Cut, rank, fine-tune the best and choose; the cut is compared with the masked original."""

    def merit(accuracy: float, proposal: Proposal) -> float:
        """Accuracy, or what each unit of resource saved loses of it."""
        if schedule.by == "accuracy":
            return accuracy
        change, saved = accuracy - before, max(at - proposal.resource, 1e-12)
        # Where tuning gains accuracy, more saved is better still.
        return change * saved if change > 0 else change / saved

    few = list(found)
    if schedule.candidates and len(found) > schedule.candidates:
        untuned = []
        for proposal in found:
            cut_model = copy_cut(model, {proposal.group.name: proposal.keep}, groups)
            untuned.append(merit(task.score(cut_model), proposal))
        order = sorted(range(len(found)), key=lambda i: -untuned[i])
        few = [found[i] for i in order[: schedule.candidates]]
    best: tuple[float, Proposal, Net, float] | None = None
    for proposal in few:
        keeps = {proposal.group.name: proposal.keep}
        cut_model = copy_cut(model, keeps, groups)
        check_cut(model, cut_model, keeps, size, groups)
        if schedule.short_steps:
            task.tune(cut_model, schedule.short_steps, seed)
        accuracy = task.score(cut_model)
        if best is None or merit(accuracy, proposal) > best[0]:
            best = merit(accuracy, proposal), proposal, cut_model, accuracy
    assert best is not None
    return best[1], best[2], best[3], len(few)
