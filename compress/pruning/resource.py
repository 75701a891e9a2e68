"""What a network costs, as pruning sees it, and what it would cost with fewer channels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import nn

from compress.cost.trace import trace
from compress.pruning.cut import copy_cut
from compress.pruning.groups import Group
from compress.space import Operator, totals

Predict = Callable[[Sequence[Operator]], float]


class Resource(Protocol):
    """A cost that falls as a network gets narrower."""

    name: str  # as flags and reports write it

    def __call__(self, operators: Sequence[Operator]) -> float:
        """The cost of one image, by what runs for it."""


class Params:
    """Learnable values."""

    name = "params"

    def __call__(self, operators: Sequence[Operator]) -> float:
        """Count them."""
        return float(totals(operators).params)


class Macs:
    """Multiply-adds of convolutions and linear layers."""

    name = "macs"

    def __call__(self, operators: Sequence[Operator]) -> float:
        """Count them."""
        return float(totals(operators).macs)


class PredictedLatency:
    """Milliseconds by a device table, times what measurement has shown it to be off by.

    ``correction`` is the ratio of measured to predicted latency, last seen.
    """

    name = "latency_ms"

    def __init__(self, predict: Predict, correction: float = 1.0) -> None:
        self.predict = predict
        self.correction = correction

    def __call__(self, operators: Sequence[Operator]) -> float:
        """Predict, and correct."""
        return self.correction * self.predict(operators)


def operators_of(model: nn.Module, size: tuple[int, int]) -> list[Operator]:
    """What runs for one image of ``size`` (height, width), traced on the meta device."""
    return trace(copy.deepcopy(model), size).operators


class Ledger:
    """The operators of a network, and how each changes with the width of each group.

    Channel counts are linear in the units that a group keeps, so one trace per group, with one
    unit fewer, tells all widths: thousands of them are then counted without running anything.
    """

    def __init__(self, model: nn.Module, groups: Sequence[Group], size: tuple[int, int]) -> None:
        self.size = size
        self.operators = operators_of(model, size)
        self._slopes: dict[str, list[tuple[int, int, int, int]]] = {}
        shapes = copy.deepcopy(model).to("meta")  # shapes are all that counts
        for group in groups:
            if group.prunable and group.channels > 1:
                self._slopes[group.name] = self._slope(shapes, group, groups)

    def _slope(
        self, shapes: nn.Module, group: Group, groups: Sequence[Group]
    ) -> list[tuple[int, int, int, int]]:
        fewer = {group.name: range(group.channels - 1)}
        cut = operators_of(copy_cut(shapes, fewer, groups), self.size)
        changed = []
        for index, (now, then) in enumerate(zip(self.operators, cut, strict=True)):
            change = (
                now.in_channels - then.in_channels,
                now.out_channels - then.out_channels,
                now.groups - then.groups,
            )
            if any(change):
                changed.append((index, *change))
        return changed

    def narrowed(self, group: str, dropped: int) -> list[Operator]:
        """The operators with so many units of a group fewer."""
        operators = list(self.operators)
        for index, cin, cout, groups in self._slopes[group]:
            op = operators[index]
            operators[index] = op._replace(
                in_channels=op.in_channels - dropped * cin,
                out_channels=op.out_channels - dropped * cout,
                groups=op.groups - dropped * groups,
            )
        return operators

    def knows(self, group: Group) -> bool:
        """Whether the group's slope was taken."""
        return group.name in self._slopes

    def cut(self, group: str, dropped: int) -> None:
        """The network was cut: what is left is the network now."""
        self.operators = self.narrowed(group, dropped)
