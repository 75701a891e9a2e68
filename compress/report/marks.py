"""The marks that the charts of a pruning and of a gating are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from compress.report.axes import Axis, element
from compress.report.parts import Span
from compress.report.words import MINUS, fixed, si

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 468, 14, 266

Point = tuple[float, float]


def drawing(
    what: str,
    parts: Sequence[Markup],
    width: int = WIDTH,
    height: int = HEIGHT,
    kind: str = "chart",
) -> Markup:
    """An SVG of so many pixels, with its name for those who cannot see it."""
    return element(
        "svg", element("title", what), *parts, class_=kind, viewBox=f"0 0 {width} {height}",
        role="img", aria_label=what,
    )  # fmt: skip


def frame(
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> list[Markup]:
    """Axes with their labels, ticks and rules; a tick whose text is empty is left out."""
    parts = [element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)]
    for value in x.ticks():
        if x_text(value):
            at = x.at(value)
            parts.append(element("line", class_="grid", x1=at, x2=at, y1=TOP, y2=BOTTOM))
            parts.append(note(x_text(value), at, BOTTOM + 18, "middle"))
    for value in y.ticks(46):
        at = y.at(value)
        parts.append(element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        parts.append(note(y_text(value), LEFT - 8, at + 4, "end"))
    middle = (TOP + BOTTOM) / 2
    parts.append(note(x_label, (LEFT + RIGHT) / 2, BOTTOM + 42, "middle", "label"))
    parts.append(
        element("text", y_label, x=13, y=f"{middle:g}", text_anchor="middle", class_="label",
                transform=f"rotate(-90 13 {middle:g})")
    )  # fmt: skip
    return parts


def polyline(points: Iterable[Point], kind: str) -> Markup:
    """A line through points (pixels)."""
    path = "L".join(f"{x} {y}" for x, y in points)
    return element("path", class_=kind, d=f"M{path}") if path else Markup("")


def dot(at: Point, title: str, radius: float = 2.8) -> Markup:
    """A small mark with a title."""
    return element(
        "circle", element("title", title), class_="point front", cx=at[0], cy=at[1], r=radius
    )


def ring(at: Point, title: str) -> Markup:
    """A ring around what matters most."""
    return element("circle", element("title", title), class_="ring", cx=at[0], cy=at[1], r=8)


def across(kind: str, at: float) -> Markup:
    """A level line from edge to edge."""
    return element("line", class_=kind, x1=LEFT, x2=RIGHT, y1=at, y2=at)


def area(x1: float, y1: float, x2: float, y2: float) -> Markup:
    """The side that passes, shaded."""
    return element("rect", class_="passing", x=x1, y=y1, width=x2 - x1, height=max(0.0, y2 - y1))


def note(text: str, x: float, y: float, anchor: str, kind: str | None = None) -> Markup:
    """A text beside something."""
    return element("text", text, x=f"{x:g}", y=f"{y:g}", text_anchor=anchor, class_=kind)


def measured_span(x: float, y: Axis, span: Span) -> list[Markup]:
    """A measured median with its interval."""
    low, high = span.low_ms or span.median_ms, span.high_ms or span.median_ms
    said = f"Measured {span.median_ms:.2f} ms [{low:.2f}, {high:.2f}]"
    return [
        element("line", class_="whisker", x1=x, x2=x, y1=y.at(low), y2=y.at(high)),
        element("circle", element("title", said), class_="measured", cx=x,
                cy=y.at(span.median_ms), r=3.8),
    ]  # fmt: skip


def score(value: float | None) -> str:
    """An accuracy in full: four decimals of a share, whole numbers of what is larger.

    >>> score(0.86649), score(-38785.2), score(None)
    ('0.8665', '−38785', '–')
    """
    return fixed(value, 4 if value is None or abs(value) < 100 else 0)


def share(value: float) -> str:
    """A d1, or any other number, short."""
    short = f"{abs(value):.4g}" if abs(value) < 1000 else si(abs(value))
    return short if value >= 0 else f"{MINUS}{short}"
