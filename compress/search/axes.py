"""Parameters of any Optuna space as coordinates between 0 and 1, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Vector = npt.NDArray[np.float64]
# Steps of an integer above which it is treated as continuous.
MOST_CELLS = 1000


@dataclass(frozen=True)
class Axis:
    """One parameter: its distribution, and its number of ``cells`` (0 where it is continuous).

    Numerical choices are ordered by value, whatever order they were written in, so that widths of
    4, 8 and 16 are neighbours; ``ordered`` is False for names and truth values.
    """

    kind: BaseDistribution
    cells: int
    ordered: bool
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, kind: BaseDistribution) -> Axis:
        """Read one of Optuna's distributions."""
        if isinstance(kind, CategoricalDistribution):
            choices = tuple(kind.choices)
            ordered = len(choices) > 1 and all(
                isinstance(c, int | float) and not isinstance(c, bool) for c in choices
            )
            if ordered:
                choices = tuple(sorted(choices, key=lambda c: float(c or 0)))
            return cls(kind, len(choices), ordered, choices)
        if isinstance(kind, IntDistribution):
            cells = (kind.high - kind.low) // kind.step + 1
            # Steps on a logarithmic scale are no cells of one size.
            return cls(kind, 0 if cells > 1 and (kind.log or cells > MOST_CELLS) else cells, True)
        assert isinstance(kind, FloatDistribution)
        if kind.step is None:
            return cls(kind, 1 if kind.single() else 0, True)
        cells = round((kind.high - kind.low) / kind.step) + 1
        return cls(kind, cells if cells <= MOST_CELLS else 0, True)

    def encode(self, value: Any) -> float | None:
        """The coordinate of a value; None for one that the parameter may not take now."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / self.cells if value in self.choices else None
        kind = self._number
        if not isinstance(value, int | float) or not kind.low <= value <= kind.high:
            return None
        low, high = self._bounds()
        at = math.log(value) if kind.log else float(value)
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.5

    def decode(self, at: float) -> Any:
        """The value at a coordinate."""
        if self.choices:
            return self.choices[min(int(at * self.cells), self.cells - 1)]
        kind = self._number
        low, high = self._bounds()
        value = low + at * (high - low)
        value = math.exp(value) if kind.log else value
        least, most, step = kind.low, kind.high, kind.step
        if step is not None:
            last = math.floor((most - least) / step + 1e-9)
            value = least + step * min(max(round((value - least) / step), 0), last)
        value = min(max(value, least), most)
        return int(value) if isinstance(kind, IntDistribution) else float(value)

    def _bounds(self) -> tuple[float, float]:
        """Ends of the coordinate in values or their logarithms; half a step past whole numbers."""
        kind = self._number
        half = 0.5 * kind.step if kind.step is not None else 0.0
        low, high = kind.low - half, kind.high + half
        return (math.log(low), math.log(high)) if kind.log else (low, high)

    @property
    def _number(self) -> IntDistribution | FloatDistribution:
        assert isinstance(self.kind, IntDistribution | FloatDistribution)
        return self.kind


class Axes:
    """All parameters of a space, in one order; points are vectors with a coordinate each."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self.names = tuple(space)
        self.axes = tuple(Axis.of(space[name]) for name in self.names)
        self.cells = np.array([axis.cells for axis in self.axes])
        self.ordered = np.array([axis.ordered for axis in self.axes], dtype=bool)
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            if self.cells[index] != 1:  # a single choice cannot be moved
                groups.setdefault(name.rpartition(".")[0] or name, []).append(index)
        # Parameters by module: those of one prefix (stage1.modules, stage1.expansion) go together.
        self.modules = {name: np.array(members) for name, members in groups.items()}

    def encode(self, values: Mapping[str, Any]) -> Vector | None:
        """A point; None where a parameter is missing or its value is out of range."""
        found = [
            axis.encode(values[name]) if name in values else None
            for name, axis in zip(self.names, self.axes, strict=True)
        ]
        return None if None in found else np.array(found, dtype=np.float64)

    def decode(self, point: Vector) -> dict[str, Any]:
        """Values of a point."""
        pairs = zip(self.names, self.axes, point, strict=True)
        return {name: axis.decode(float(at)) for name, axis, at in pairs}

    def snapped(self, points: Vector) -> Vector:
        """Points (N, P) with coordinates of discrete parameters moved to the middle of a cell."""
        cells = np.maximum(self.cells, 1)
        middle = (np.clip(np.floor(points * cells), 0, cells - 1) + 0.5) / cells
        return np.where(self.cells > 0, middle, points)

    def features(self, points: Vector) -> Vector:
        """What responses are linear in: coordinates, their squares, and choices without an order.

        Args:
            points: (N, P).

        Returns:
            (N, F), each about 0 in the middle of the space and of spread 1 for uniform points.
        """
        moved = self.cells != 1
        straight = (points[:, self.ordered & moved] - 0.5) * math.sqrt(12)
        parts = [straight, (straight**2 - 1) * 0.5]
        for index in np.flatnonzero(~self.ordered & moved):
            cell = np.floor(points[:, index] * self.cells[index]).astype(int)
            parts.append(np.eye(self.cells[index])[cell] - 1 / self.cells[index])
        return np.concatenate(parts, axis=1)
