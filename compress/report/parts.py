"""The parts of a result: networks, cuts, rounds, densities, and how to read each from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from compress.metrics import METRICS
from compress.report.findings import protocol_line
from compress.report.words import number


class Span(NamedTuple):
    """A measured median in ms and the bounds of its 95 % interval, where these are known."""

    median_ms: float
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True)
class Network:
    """A network's figures; what is not known is None or empty."""

    params: float | None = None
    macs: float | None = None
    macs_all: float | None = None
    accuracy: float | None = None
    latency: Span | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    speedup: tuple[float, float | None, float | None] | None = None
    eager: Span | None = None


class Step(NamedTuple):
    """One layer made narrower, and where the network stood after it."""

    number: int
    layer: str
    before: int
    after: int
    resource: float | None
    accuracy: float | None
    tried: int
    tuned: int
    seconds: float | None


class Round(NamedTuple):
    """A prediction and what was measured; ``step`` is how many layers had been cut by then."""

    predicted_ms: float
    measured: Span
    step: int | None


class Density(NamedTuple):
    """A gated network at one density."""

    density: float
    delta1: float | None
    macs: float | None  # the mean over images, or else the closed form's bound
    macs_p95: float | None
    macs_worst: float | None
    latency: Span | None


class Choice(NamedTuple):
    """How one layer is run, and the milliseconds of every way that was measured."""

    path: str
    mode: str
    ms: Mapping[str, float]


class Training(NamedTuple):
    """An epoch on the way to a density, and the d1 of a few images after it."""

    phase: str
    density: float
    delta1: float


def network_of(value: Any) -> Network:
    """A network's figures."""
    values = table(value)
    accuracy = values.get("accuracy")
    if isinstance(accuracy, Mapping):
        accuracy = accuracy.get("delta1")
    held = {key: table(values.get(key)) for key in ("validation", "heldout")}
    ratio = table(values.get("speedup"))
    times = above(ratio.get("ratio"))
    speedup = (times, number(ratio.get("low")), number(ratio.get("high"))) if times else None
    widths = {str(k): int(v) for k, v in numbers(values.get("widths")).items() if 0 < v < 1e9}
    return Network(
        params=above(values.get("params")),
        macs=above(values.get("macs")),
        macs_all=above(values.get("macs_all")),
        accuracy=known(accuracy),
        latency=span_of(values.get("latency")),
        measured=table(values.get("latency")),
        parts={
            part: {k: v for k, v in numbers(found).items() if k in METRICS}
            for part, found in held.items()
            if found
        },
        protocols={k: protocol_line(table(v.get("protocol"))) for k, v in held.items() if v},
        widths=widths,
        speedup=speedup,
        eager=span_of(values.get("eager")),
    )


def step_of(value: Mapping[str, Any]) -> Step | None:
    """A cut; None where it is none."""
    before, after = number(value.get("before")), number(value.get("after"))
    place = number(value.get("number"))
    if before is None or after is None or place is None:
        return None
    if not (0 <= after <= before < 1e9 and 1 <= place < 1e6):
        return None
    return Step(
        int(place),
        str(value.get("layer", "")),
        int(before),
        int(after),
        above(value.get("resource")),
        known(value.get("accuracy")),
        int(number(value.get("tried")) or 0),
        int(number(value.get("tuned")) or 0),
        number(value.get("seconds")),
    )


def round_of(value: Mapping[str, Any]) -> Round | None:
    """A prediction and its measurement; None where either is missing."""
    predicted, measured = above(value.get("predicted_ms")), span_of(value)
    if predicted is None or measured is None:
        return None
    step = number(value.get("iteration"))
    return Round(predicted, measured, None if step is None else int(step))


def density_of(value: Mapping[str, Any]) -> Density | None:
    """What one density came to; None where it is none."""
    density = number(value.get("density"))
    if density is None or not 0 <= density <= 1:
        return None
    return Density(
        density,
        known(value.get("delta1")),
        above(value.get("macs_mean")) or above(value.get("macs")),
        above(value.get("macs_p95")),
        above(value.get("macs_worst")),
        span_of(value.get("latency")) or span_of(value.get("latency_ms")),
    )


def choice_of(value: Mapping[str, Any]) -> Choice | None:
    """How a layer is run; None where none is named."""
    if not value.get("path"):
        return None
    return Choice(str(value["path"]), str(value.get("mode") or ""), numbers(value.get("ms")))


def all_of(values: Any, read: Any) -> tuple[list[Any], int]:
    """What can be read of a list of objects, and how many cannot."""
    rows = values if isinstance(values, list) else []
    found = [read(row) if isinstance(row, Mapping) else None for row in rows]
    return [row for row in found if row is not None], sum(row is None for row in found)


def span_of(value: Any) -> Span | None:
    """A measured latency: an object with its interval, or a number."""
    if not isinstance(value, Mapping):
        alone = above(value)
        return None if alone is None else Span(alone)
    median = above(value.get("median_ms"))
    if median is None:
        return None
    return Span(median, above(value.get("low_ms")), above(value.get("high_ms")))


def known(value: Any) -> float | None:
    """A number that can be drawn, or None."""
    found = number(value)
    return found if found is not None and abs(found) < 1e18 else None


def above(value: Any) -> float | None:
    """A number above 0, or None."""
    found = known(value)
    return found if found is not None and found > 0 else None


def numbers(value: Any) -> dict[str, float]:
    """The numbers of an object."""
    found = {str(key): number(one) for key, one in table(value).items()}
    return {key: one for key, one in found.items() if one is not None}


def table(value: Any) -> dict[str, Any]:
    """An object's values, none where it is no object."""
    return dict(value) if isinstance(value, Mapping) else {}


def training_of(value: Mapping[str, Any]) -> Training | None:
    """An epoch; None where its density or d1 is missing."""
    density, delta1 = number(value.get("density")), known(value.get("delta1"))
    if density is None or delta1 is None or not 0 <= density <= 1:
        return None
    return Training(str(value.get("phase") or ""), density, delta1)
