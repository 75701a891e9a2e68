"""The charts of a gating: what each density keeps of accuracy, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from compress.report.axes import Axis, element, linear_axis
from compress.report.marks import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Point,
    across,
    dot,
    drawing,
    frame,
    measured_span,
    note,
    polyline,
    ring,
    share,
)
from compress.report.outcome import Outcome
from compress.report.parts import Density
from compress.report.words import si


def training(found: Outcome) -> Markup | None:
    """d1 after each epoch, with the density that it was trained at."""
    if not found.epochs:
        return None
    values = [epoch.delta1 for epoch in found.epochs]
    x = Axis(0.4, len(values) + 0.6, LEFT, RIGHT)
    y = linear_axis(values, BOTTOM, TOP + 18, max(0.02, 1e-6 * max(map(abs, values))))
    parts = frame(x, y, "Epoch", "d1", lambda v: f"{v:.0f}" if v == round(v) else "", share)
    told = 0.0  # pixels, where the last density was written
    for index, epoch in enumerate(found.epochs):
        if index == 0 or epoch.density != found.epochs[index - 1].density:
            at = x.at(index + 0.5)
            parts.append(element("line", class_="reference", x1=at, x2=at, y1=TOP, y2=BOTTOM))
            if at - told > 34:
                parts.append(note(f"{epoch.density:.2g}", at + 4, TOP + 10, "start"))
                told = at
    parts.append(polyline(((x.at(i), y.at(v)) for i, v in enumerate(values, 1)), "front-line"))
    for index, epoch in enumerate(found.epochs, 1):
        said = f"Epoch {index}, {epoch.phase}, density {epoch.density:.2f}: d1 {epoch.delta1:.4f}"
        parts.append(dot((x.at(index), y.at(epoch.delta1)), said))
    return drawing(f"d1 over {len(values)} epochs of training", parts)


def sweep(found: Outcome) -> list[tuple[str, Markup]]:
    """d1, multiply-adds and latency against density, each where it is known; with their names."""
    drawn = [
        ("d1", _sweep_of(found, "d1", lambda d: d.delta1, found.before.accuracy, share)),
        ("MACs", _sweep_macs(found)),
        ("latency", _sweep_latency(found)),
    ]
    return [(name, svg) for name, svg in drawn if svg is not None]


def _sweep_of(
    found: Outcome,
    label: str,
    value: Callable[[Density], float | None],
    dense: float | None,
    text: Callable[[float], str],
) -> Markup | None:
    points = [(d.density, v) for d in found.sweep if (v := value(d)) is not None]
    if not points:
        return None
    x, parts = _densities(found.sweep), []
    values = [v for _, v in points] + ([dense] if dense is not None else [])
    y = linear_axis(values, BOTTOM, TOP, max(0.02, 1e-6 * max(map(abs, values))))
    parts += frame(x, y, "Density", label, _density, text)
    parts += _dense(y, dense)
    parts.append(polyline(((x.at(d), y.at(v)) for d, v in points), "front-line"))
    parts += [dot((x.at(d), y.at(v)), f"density {d:.3g}: {text(v)}") for d, v in points]
    parts += _chosen(x, y, found.density, points)
    return drawing(f"{label} against density, {len(points)} densities", parts)


def _sweep_macs(found: Outcome) -> Markup | None:
    points = [(d.density, d.macs) for d in found.sweep if d.macs is not None]
    if not points:
        return None
    worst = [(d.density, d.macs_worst) for d in found.sweep if d.macs_worst is not None]
    high = [(d.density, d.macs_p95) for d in found.sweep if d.macs_p95 is not None]
    dense = found.macs.get("dense") or found.before.macs
    values = [v for line in (points, worst, high) for _, v in line] + ([dense] if dense else [])
    x = _densities(found.sweep)
    y = linear_axis([0.0, *values], BOTTOM, TOP, 1.0)
    y = Axis(0.0, y.high, BOTTOM, TOP)
    parts = frame(x, y, "Density", "MACs an image", _density, si)
    parts += _dense(y, dense)
    for limits, kind in ((worst, "front-line worst"), (high, "front-line p95")):
        parts.append(polyline(((x.at(d), y.at(v)) for d, v in limits), kind))
    parts.append(polyline(((x.at(d), y.at(v)) for d, v in points), "front-line"))
    parts += [
        dot((x.at(d), y.at(v)), f"density {d:.3g}: {si(v)} {'on average' if high else 'at most'}")
        for d, v in points
    ]
    parts += _chosen(x, y, found.density, points)
    return drawing(f"MACs against density, {len(points)} densities", parts)


def _sweep_latency(found: Outcome) -> Markup | None:
    spans = [(d.density, d.latency) for d in found.sweep if d.latency is not None]
    if len(spans) < 2:
        return None  # a single one stands in the table
    dense = found.before.latency.median_ms if found.before.latency else None
    values = [v for _, s in spans for v in s if v is not None] + ([dense] if dense else [])
    x, y = _densities(found.sweep), linear_axis([0.0, *values], BOTTOM, TOP, 1e-3)
    y = Axis(0.0, y.high, BOTTOM, TOP)
    parts = frame(x, y, "Density", "Latency (ms)", _density, lambda v: f"{v:.4g}")
    parts += _dense(y, dense)
    parts.append(polyline(((x.at(d), y.at(s.median_ms)) for d, s in spans), "front-line"))
    for d, span in spans:
        parts += measured_span(x.at(d), y, span)
    parts += _chosen(x, y, found.density, [(d, s.median_ms) for d, s in spans])
    return drawing(f"Latency against density, {len(spans)} densities", parts)


def _densities(sweep: Sequence[Density]) -> Axis:
    return linear_axis([d.density for d in sweep], LEFT, RIGHT, 0.2)


def _dense(y: Axis, value: float | None) -> list[Markup]:
    if value is None:
        return []
    at = y.at(value)
    below = at + 15 if at - TOP < 20 else at - 6
    return [across("reference", at), note("dense", LEFT + 6, below, "start")]


def _chosen(x: Axis, y: Axis, density: float | None, points: Sequence[Point]) -> list[Markup]:
    said = "Chosen density {:.3g}"
    return [ring((x.at(d), y.at(v)), said.format(d)) for d, v in points if same(d, density)]


def same(one: float, other: float | None) -> bool:
    """Whether two densities are one, given means of many floats."""
    return other is not None and abs(one - other) < 1e-5


def _density(value: float) -> str:
    return f"{value:g}" if 0 <= value <= 1 else ""
