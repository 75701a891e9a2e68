"""From measurements of sums of units to the latency of any unit.

Every measurement, of a few units in a row or of a whole network, is a sum over its units and of
what a run of the backend takes; so one linear fit reads them all. It has two layers: physical terms
(work, bytes, a fixed part) of each class of units, none of them negative, so that they extrapolate;
and on them a smooth factor in logarithmic coordinates, which follows what the terms cannot.

Source of the second layer: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines",
NeurIPS 2007: a Gaussian process whose prediction is one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from compress.cost.units import CONVOLUTIONS, DEPTHWISE, Unit
from compress.space.operators import LINEAR, MATMUL

Floats = npt.NDArray[np.float64]

# Channels that the vector units of today's processors take at once, in the blocked layouts of their
# libraries; with fewer input channels (an image's) convolutions read the plain layout.
BLOCK = 16
ALIGNED = 4  # blocked layouts are given up for channels that are no multiple of it
FREQUENCIES = 64  # of the smooth factor
NETWORKS_COUNT = 5.0  # times as much as a few units in a row: they are what is to be predicted
SPREAD = 0.3  # relative noise of a measurement over the standard deviation of the smooth factor
LEAST, MOST = 0.4, 2.5  # of the smooth factor
SWEEPS = 3000

# Terms by group: of a unit's class, of the activation in it, of the map that it takes over.
GROUPS = ("classes", "activations", "befores")
WIDTHS = (6, 2, 2)
COORDINATES = 10
# Classes that stand in for those that were never measured.
ANY_PRODUCT, ANY_OTHER = "any product", "any other"
PRODUCTS = (*CONVOLUTIONS, LINEAR, MATMUL)


class Observation(NamedTuple):
    """A measurement: units in a row, ``copies`` of them side by side, and what went in and out.

    ``values`` are those of all inputs together. ``network`` is True where it is a whole one.
    """

    units: tuple[Unit, ...]
    latency_ms: float
    copies: int = 1
    inputs: int = 1
    outputs: int = 1
    values: int = 0
    network: bool = False


@dataclass(frozen=True)
class Predictor:
    """Latency of units; ``fit`` makes one.

    ``terms`` has the physical terms' weights for each name of each of ``GROUPS``; ``smooth`` the
    weights of the waves for each class, and ``bounds`` the least and largest coordinates that were
    measured in it: beyond them the factor stays what it is there. ``overhead`` is what a run takes
    besides its units: once, for an input, for an output (microseconds), for a million values put
    in (milliseconds).
    """

    terms: Mapping[str, Mapping[str, Floats]]
    smooth: Mapping[str, Floats]
    bounds: Mapping[str, Floats]
    frequencies: Floats
    phases: Floats
    overhead: Floats

    def units_ms(self, units: Sequence[Unit]) -> Floats:
        """Latency of each unit, in milliseconds."""
        if not units:
            return np.zeros(0)
        base = np.zeros(len(units))
        classes, *others = _names(units)
        known = [
            name if name in self.smooth else (ANY_PRODUCT if unit.kind in PRODUCTS else ANY_OTHER)
            for name, unit in zip(classes, units, strict=True)
        ]
        for group, width, names, values in zip(
            GROUPS, WIDTHS, (known, *others), _physical(units), strict=True
        ):
            base += _products(self.terms[group], names, width, values)
        waves = self.waves(units, classes)
        factor = 1 + _products(self.smooth, classes, waves.shape[1], waves)
        result: Floats = base * np.clip(factor, LEAST, MOST)
        return result

    def waves(self, units: Sequence[Unit], classes: Sequence[str]) -> Floats:
        """The waves whose sum is the smooth factor, a row a unit; the last one is constant."""
        at = _coordinates(units)
        free = np.array([np.full(COORDINATES, -np.inf), np.full(COORDINATES, np.inf)])
        bounds = np.array([self.bounds.get(name, free) for name in classes])
        at = np.clip(at, bounds[:, 0], bounds[:, 1])
        waves = np.cos(at @ self.frequencies + self.phases) * np.sqrt(2 / len(self.phases))
        return np.hstack([waves, np.ones((len(units), 1))])

    def unmeasured(self, units: Sequence[Unit]) -> list[str]:
        """Classes among these units that were never measured: others stand in for them."""
        return sorted(set(_names(units)[0]) - self.smooth.keys())

    def run_ms(self, inputs: int = 1, outputs: int = 1, values: int = 0) -> float:
        """What a run takes besides its units, in milliseconds."""
        return float(self.overhead @ _run_terms(inputs, outputs, values))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values that ``from_dict`` reads."""
        return {
            "terms": {g: {k: v.tolist() for k, v in of.items()} for g, of in self.terms.items()},
            "smooth": {name: weights.tolist() for name, weights in self.smooth.items()},
            "bounds": {name: bounds.tolist() for name, bounds in self.bounds.items()},
            "frequencies": self.frequencies.tolist(),
            "phases": self.phases.tolist(),
            "overhead": self.overhead.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Predictor:
        """Read ``to_dict``'s form; anything else raises ``ValueError``, ``KeyError`` or such."""
        frequencies, phases = _array(data["frequencies"], 2), _array(data["phases"], 1)
        count = len(phases)
        if frequencies.shape != (COORDINATES, count):
            raise ValueError(f"frequencies of shape {frequencies.shape}")
        return cls(
            {
                group: {k: _array(v, 1, width) for k, v in data["terms"][group].items()}
                for group, width in zip(GROUPS, WIDTHS, strict=True)
            },
            {name: _array(v, 1, count + 1) for name, v in data["smooth"].items()},
            {name: _array(v, 2, COORDINATES) for name, v in data["bounds"].items()},
            frequencies,
            phases,
            _array(data["overhead"], 1, 4),
        )


def fit(observations: Sequence[Observation], seed: int = 0) -> Predictor:
    """Fit what all measurements say of units; relative errors count."""
    units = sorted({unit for one in observations for unit in one.units})
    place = {unit: index for index, unit in enumerate(units)}
    counts = np.zeros((len(observations), len(units)))
    for row, one in enumerate(observations):
        for unit in one.units:
            counts[row, place[unit]] += one.copies
    runs = np.array([_run_terms(one.inputs, one.outputs, one.values) for one in observations])
    took_ms = np.array([one.latency_ms for one in observations])
    counting = np.array([NETWORKS_COUNT if one.network else 1.0 for one in observations])
    weights = counting / took_ms

    columns, keys = [], list[tuple[str, str, int]]()
    for group, width, names, values in zip(
        GROUPS, WIDTHS, _names(units), _physical(units), strict=True
    ):
        for name in sorted(set(names) - {""}):
            chosen = np.array([one == name for one in names])
            columns.append(values * chosen[:, None])
            keys.append((group, name, width))
    physical = np.hstack(columns)
    solved = _not_negative(np.hstack([counts @ physical, runs]) * weights[:, None],
                           took_ms * weights)  # fmt: skip
    overhead = solved[physical.shape[1] :]
    base = physical @ solved[: physical.shape[1]]
    terms: dict[str, dict[str, Floats]] = {group: {} for group in GROUPS}
    start = 0
    for group, name, width in keys:
        terms[group][name] = solved[start : start + width]
        start += width

    chance = np.random.default_rng(seed)
    names = _names(units)[0]
    at = _coordinates(units)
    classes = sorted(set(names))
    members = {name: np.array([one == name for one in names]) for name in classes}
    bounds = {
        name: np.array([at[chosen].min(0), at[chosen].max(0)]) for name, chosen in members.items()
    }
    bare = Predictor(
        terms,
        {},
        bounds,
        chance.normal(size=(COORDINATES, FREQUENCIES)),
        chance.uniform(0, 2 * np.pi, FREQUENCIES),
        overhead,
    )
    waves = bare.waves(units, names) * base[:, None]
    every = np.hstack([counts[:, members[name]] @ waves[members[name]] for name in classes])
    every *= weights[:, None]
    left = (took_ms - counts @ base - runs @ overhead) * weights
    # Ridge regression, solved for the measurements, which are fewer than the weights.
    inner = every @ every.T + SPREAD**2 * np.eye(len(left))
    found = (every.T @ np.linalg.solve(inner, left)).reshape(len(classes), -1)
    smooth = dict(zip(classes, found, strict=True))
    result = Predictor(terms, smooth, bounds, bare.frequencies, bare.phases, overhead)
    each_ms = np.maximum(result.units_ms(units), 1e-6)
    products = np.array([unit.kind in PRODUCTS for unit in units])
    values = _physical(units)[0] / each_ms[:, None]
    for name, chosen in ((ANY_PRODUCT, products), (ANY_OTHER, ~products)):
        terms["classes"][name] = _not_negative(values[chosen], np.ones(int(chosen.sum())))
    return result


def _not_negative(rows: Floats, wanted: Floats) -> Floats:
    """Least squares of weights that are 0 or more, coordinate by coordinate."""
    scale = np.sqrt((rows**2).sum(0)) + 1e-12
    rows = rows / scale
    inner = rows.T @ rows + 1e-6 * np.eye(rows.shape[1])
    target = rows.T @ wanted
    weights = np.zeros(rows.shape[1])
    for _ in range(SWEEPS):
        most = 0.0
        for j in range(len(weights)):
            now = max(0.0, weights[j] + (target[j] - inner[j] @ weights) / inner[j, j])
            most = max(most, abs(now - weights[j]))
            weights[j] = now
        if most < 1e-7:
            break
    result: Floats = weights / scale
    return result


def _names(units: Sequence[Unit]) -> tuple[list[str], list[str], list[str]]:
    """Each unit's name in each of ``GROUPS``; "" where it has none."""
    classes, activations, befores = [], [], []
    for unit in units:
        kind, aligned = unit.kind, unit.in_channels % ALIGNED == 0
        detail = f":{unit.detail}" if unit.detail else ""
        if kind in CONVOLUTIONS:
            few = unit.in_channels < BLOCK and kind != DEPTHWISE
            layout = "aligned" if aligned else "few" if few else "odd"
            classes.append(f"{kind} {layout}{detail}")
            end = "aligned" if unit.out_channels % ALIGNED == 0 else "odd"
            activations.append(f"{unit.act} {end}")
            befores.append(f"{unit.before} {'aligned' if aligned else 'odd'}")
        else:
            classes.append(kind + detail)
            activations.append("")
            befores.append(f"{unit.before} {kind}")
    return classes, activations, befores


def _physical(units: Sequence[Unit]) -> tuple[Floats, Floats, Floats]:
    """The physical terms of each unit for each of ``GROUPS``."""
    table = np.array([unit[1:10] for unit in units], np.float64)
    cin, cout, height, width, area, tall, wide, _, groups = table.T
    convolved = np.array([unit.kind in PRODUCTS for unit in units])
    depthwise = np.array([unit.kind == DEPTHWISE for unit in units])
    cells, taps, each = height * width, tall * wide, cin / groups
    blocked = np.where(each >= BLOCK, np.ceil(each / BLOCK) * BLOCK, each)
    rows = np.ceil(cout / BLOCK) * BLOCK
    plain = np.where(convolved, cout * each, cout) * taps * cells
    padded = np.where(convolved, rows * np.where(depthwise, 1, blocked), cout) * taps * cells
    weights = np.where(convolved, cout * each * taps, 0)
    once = np.full(len(units), 1e-3)
    came, went = cin * area * 1e-6, cout * cells * 1e-6
    return (
        np.stack([once, padded * 1e-8, plain * 1e-8, came, went, weights * 1e-6], 1),
        np.stack([once, went], 1),
        np.stack([once, came], 1),
    )


def _coordinates(units: Sequence[Unit]) -> Floats:
    """Where a unit lies for the smooth factor, which changes over distances of about 1."""
    table = np.array([unit[1:10] for unit in units], np.float64)
    cin, cout, height, width, _, tall, wide, stride, groups = table.T
    return np.stack(
        [
            np.log2(cin) / 2, np.log2(cout) / 2, np.log2(height * width) / 2.5,
            np.log2(tall * wide) / 1.5, stride - 1, cin % BLOCK / 8, cout % BLOCK / 8,
            (cin % ALIGNED > 0) * 1.0, (cout % ALIGNED > 0) * 1.0, np.log2(groups) / 3,
        ],
        1,
    )  # fmt: skip


def _run_terms(inputs: int, outputs: int, values: int) -> Floats:
    return np.array([1e-3, inputs * 1e-3, outputs * 1e-3, values * 1e-6])


def _products(
    table: Mapping[str, Floats], names: Sequence[str], width: int, values: Floats
) -> Floats:
    """Each row of ``values`` times the weights of its name; 0 for a name without."""
    none = np.zeros(width)
    weights = np.array([table.get(name, none) for name in names])
    result: Floats = np.einsum("ij,ij->i", weights, values)
    return result


def _array(value: Any, axes: int, last: int | None = None) -> Floats:
    array = np.array(value, np.float64)
    if array.ndim != axes or (last and array.shape[-1] != last) or not np.isfinite(array).all():
        raise ValueError(f"an array of shape {array.shape}")
    return array
