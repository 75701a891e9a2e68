"""The charts of a pruning: plain SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from compress.report.axes import Axis, element, linear_axis
from compress.report.marks import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Point,
    across,
    area,
    dot,
    drawing,
    frame,
    measured_span,
    note,
    polyline,
    ring,
    score,
    share,
)
from compress.report.outcome import Outcome
from compress.report.parts import Step
from compress.report.words import si

# Layers in the timeline; those that lost most are kept.
MOST_ROWS = 60
ROW, NAME = 19, 36
CHARACTER = 7.2  # pixels, of the type that layers are named in


def accuracy(found: Outcome, name: str) -> Markup | None:
    """Accuracy after each iteration; the ring is the network after its last fine-tuning."""
    known = [(float(s.number), s.accuracy) for s in found.steps if s.accuracy is not None]
    if not known:
        return None
    start, end = found.before.accuracy, found.after.accuracy
    line = ([(0.0, start)] if start is not None else []) + known
    x = _iterations(found.steps)
    values = [v for _, v in line] + ([end] if end is not None else [])
    y = linear_axis(values, BOTTOM, TOP, max(0.02, 1e-6 * max(map(abs, values))))
    parts = frame(x, y, "Iteration", name, _whole, share)
    if start is not None:
        parts += [across("reference", y.at(start)), note("before", RIGHT, y.at(start) - 6, "end")]
    parts += _course(x, y, line, score)
    if end is not None:
        at = x.at(line[-1][0]), y.at(end)
        parts.append(ring(at, f"After the last fine-tuning: {score(end)}"))
    return drawing(f"{name} over {len(known)} iterations", parts)


def resource(found: Outcome) -> Markup | None:
    """What the target is about, after each iteration, with what was measured on the way."""
    kind = found.target[0] if found.target else "macs"
    known = [(float(s.number), s.resource) for s in found.steps if s.resource]
    if not known:
        return None
    measured = kind == "latency_ms"
    start = getattr(found.before.latency, "median_ms", None) if measured else None
    start = start if measured else getattr(found.before, kind)
    line = ([(0.0, start)] if start else []) + known
    spans = [(float(r.step), r.measured) for r in found.rounds if r.step is not None]
    if measured and found.after.latency is not None:
        spans.append((known[-1][0], found.after.latency))
    values = [v for _, v in line] + [v for _, s in spans for v in s if v is not None]
    goal = found.target[1] if found.target else None
    x = _iterations(found.steps)
    y = linear_axis(values + ([goal] if goal else []), BOTTOM, TOP, 1e-6 * max(values))
    text: Callable[[float], str] = (lambda v: f"{v:.4g}") if measured else si
    label = {"latency_ms": "Latency (ms)", "macs": "MACs", "params": "Parameters"}[kind]
    parts = []
    if goal is not None:
        parts.append(area(LEFT, y.at(goal), RIGHT, BOTTOM))
    parts += frame(x, y, "Iteration", label, _whole, text)
    if goal is not None:
        parts += [across("gate", y.at(goal))]
        shown = f"at most {goal:g} ms" if measured else f"at most {si(goal)}"
        parts.append(note(shown, LEFT + 6, y.at(goal) + 15, "start", "gate-label"))
    parts += _course(x, y, line, text)
    for i, span in spans:
        parts += measured_span(x.at(i), y, span)
    return drawing(f"{label} over {len(known)} iterations", parts)


def timeline(
    steps: Sequence[Step], order: Mapping[str, int] | None = None
) -> tuple[Markup, int] | None:
    """Layers down, iterations across: where each was cut, and the share of its width that is left.

    Args:
        steps: of the pruning.
        order: layers in the order they run, as keys; without it by first cut.

    Returns:
        the drawing and how many layers it leaves out; None without a step.
    """
    layers: dict[str, list[Step]] = {}
    for step in steps:
        layers.setdefault(step.layer, []).append(step)
    if not layers:
        return None
    kept = sorted(layers, key=lambda name: layers[name][-1].after / max(1, layers[name][0].before))
    kept = kept[:MOST_ROWS]
    place = {name: i for i, name in enumerate(order or layers)}
    kept.sort(key=lambda name: (place.get(name, len(place)), layers[name][0].number))
    last = max(step.number for step in steps)
    left = 14 + CHARACTER * min(NAME, max(map(len, kept)))
    width, height = 960, ROW * len(kept) + 60
    x = Axis(0.5, last + 0.5, left, width - 92)
    parts = []
    bottom = 10 + ROW * len(kept)
    for tick in [t for t in x.ticks(60) if t == round(t) and t >= 1] or [float(last)]:
        parts.append(
            element("line", class_="grid", x1=x.at(tick), x2=x.at(tick), y1=8, y2=bottom + 4)
        )
        parts.append(note(f"{tick:.0f}", x.at(tick), bottom + 20, "middle"))
    parts.append(note("Iteration", (left + width - 92) / 2, bottom + 42, "middle", "label"))
    for row, name in enumerate(kept):
        parts += _band(x, 10 + ROW * row, name, layers[name], last)
    what = f"When each of {len(kept)} layers was cut, over {last} iterations"
    return drawing(what, parts, width, height, "chart timeline"), len(layers) - len(kept)


def bar(before: int, after: int, widest: int) -> Markup:
    """A layer's width before (frame) and after (filled), beside the widest layer's."""
    scale = 118 / max(widest, 1)
    return element(
        "svg",
        element("rect", class_="was", x=1, y=1, width=f"{scale * before:.1f}", height=9),
        element("rect", class_="is", x=1, y=1, width=f"{scale * after:.1f}", height=9),
        class_="bar",
        viewBox="0 0 120 11",
        aria_hidden="true",
    )


def _iterations(steps: Sequence[Step]) -> Axis:
    last = max(step.number for step in steps)
    return Axis(-0.03 * max(last, 4), 1.03 * max(last, 4), LEFT, RIGHT)


def _course(x: Axis, y: Axis, line: Sequence[Point], text: Callable[[float], str]) -> list[Markup]:
    """A line through all iterations, with a mark each."""
    radius = 2.8 if len(line) <= 40 else 1.5
    return [
        polyline(((x.at(i), y.at(v)) for i, v in line), "front-line"),
        *(dot((x.at(i), y.at(v)), f"Iteration {i:g}: {text(v)}", radius) for i, v in line),
    ]


def _band(x: Axis, top: float, name: str, steps: Sequence[Step], last: int) -> list[Markup]:
    """A layer's row: its name, bands as pale as it has become narrow, and a mark for each cut."""
    first = max(1, steps[0].before)
    middle = top + ROW / 2 + 4
    short = name if len(name) <= NAME else "…" + name[1 - NAME :]
    parts = [element("text", element("title", name), short, x=x.start - 10, y=f"{middle:g}",
                     text_anchor="end")]  # fmt: skip
    ends = [*(step.number for step in steps[1:]), last + 1]
    spans = [(1, steps[0].number, steps[0].before)]
    spans += [(s.number, end, s.after) for s, end in zip(steps, ends, strict=True)]
    for begin, end, width in spans:
        left, right = x.at(begin - 0.5), x.at(end - 0.5)
        parts.append(
            element("rect", class_="left", x=left, y=top + 3, width=f"{max(0.0, right - left):.1f}",
                    height=ROW - 6, fill_opacity=f"{0.08 + 0.62 * width / first:.2f}")
        )  # fmt: skip
    for step in steps:
        left, right = x.at(step.number - 0.5), x.at(step.number + 0.5)
        said = f"Iteration {step.number}: {name} {step.before} → {step.after}"
        wide = min(max(right - left, 3.0), 8.0)
        parts.append(
            element("rect", element("title", said), class_="cut", x=f"{left:.1f}", y=top + 1,
                    width=f"{wide:.1f}", height=ROW - 2)
        )  # fmt: skip
    change = f"{steps[0].before} → {steps[-1].after}"
    return [*parts, note(change, 956, middle, "end")]


def _whole(value: float) -> str:
    return f"{value:.0f}" if value >= 0 and value == round(value) else ""
