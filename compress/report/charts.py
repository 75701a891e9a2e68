"""The report's charts: plain SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from compress.report.axes import Axis, element, linear_axis, log_axis
from compress.report.findings import Findings
from compress.report.words import fixed, si
from compress.search.records import Record

WIDTH, HEIGHT = 480, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 470, 16, 324
# Points that are neither on the front nor the best; a page with more of them is slow to draw.
MOST_POINTS = 700
# A limit further than this from the largest network is told, not drawn: it would squeeze the rest.
FAR = 30.0
LABELS = {
    "macs": "MACs (multiply-adds, conv and linear layers)",
    "params": "Parameters",
    "latency_ms": "Latency (ms)",
}


@dataclass(frozen=True)
class Chart:
    """A drawing and what it leaves out, in words."""

    svg: Markup
    note: str = ""


def pareto(found: Findings, cost: str, limit: float | None) -> Chart | None:
    """Draw d1 against a cost.

    Args:
        found: the study.
        cost: "macs", "params" or "latency_ms".
        limit: the most of it that passes, None where there is no such gate.

    Returns:
        None where no candidate has been scored.
    """
    points = [
        row
        for row in found.rows
        if row.state in ("complete", "stopped") and row.delta1 is not None and _cost(row, cost)
    ]
    if not points:
        return None
    costs = [_cost(row, cost) for row in points]
    near = limit is not None and limit <= FAR * max(costs)
    x = log_axis(costs + ([limit] if limit is not None and near else []), LEFT, RIGHT)
    scores = [row.delta1 or 0.0 for row in points]
    y = linear_axis([*scores, *([found.gate] if found.gate else [])], BOTTOM, TOP, 0.1, _SHARES)
    front = found.front(cost)
    shown = _thinned(points, front, found.shown)
    parts = [
        *_passing(x, y, found.gate, limit if near else None),
        *_frame(x, y, LABELS[cost], "d1 (share of pixels within 1.25×)", _short(cost), _share),
        *_limits(x, y, found.gate, limit if near else None, _short(cost)),
        _steps([(x.at(_cost(r, cost)), y.at(r.delta1 or 0.0)) for r in front], "front-line"),
    ]
    on_front = {row.number for row in front}
    for row in sorted(shown, key=lambda r: r.number in on_front):
        kind = "point" if row.state == "complete" else "point stopped"
        kind += " front" if row.number in on_front else ""
        at = x.at(_cost(row, cost)), y.at(row.delta1 or 0.0)
        parts.append(_dot(at, kind, _title(row), 4.5 if row.number in on_front else 3.5))
    best = found.winner
    if best is not None and best.delta1 is not None and _cost(best, cost):
        parts.append(_winner(x.at(_cost(best, cost)), y.at(best.delta1), _title(best)))
    notes = []
    if limit is not None and not near:
        notes.append(f"The limit of {si(limit)} lies beyond the right edge.")
    if len(shown) < len(points):
        notes.append(f"Shows {len(shown):,} of {len(points):,} candidates, front included.")
    what = f"d1 against {cost.removesuffix('_ms')}: {len(points):,} candidates, {len(front):,} on "
    return Chart(_svg(what + "the front", parts), " ".join(notes))


def history(found: Findings) -> Chart | None:
    """Draw NetScore by trial number, with the best gated one so far; None without any score."""
    done = [
        row
        for row in found.rows
        if row.state == "complete" and row.netscore is not None and row.netscore > float("-inf")
    ]
    if not done:
        return None
    scores = [row.netscore or 0.0 for row in done]
    width = max(4, max(row.number for row in found.rows) + 1)
    x = Axis(-0.03 * width, width, LEFT, RIGHT)
    y = linear_axis(scores, BOTTOM, TOP, 1.0)
    line: list[tuple[float, float]] = []
    for row in done:
        score = row.netscore or 0.0
        if row.passes(found.gate) and (not line or y.at(score) < line[-1][1]):
            line.append((x.at(row.number), y.at(score)))
    shown = _thinned(done, [], found.winner)
    parts = [
        *_frame(x, y, "Trial number", "NetScore", _whole, _score),
        _steps(line, "front-line"),
    ]
    for row in shown:
        kind = "point front" if row.passes(found.gate) else "point stopped"
        parts.append(_dot((x.at(row.number), y.at(row.netscore or 0.0)), kind, _title(row), 3.5))
    note = "" if line else "No candidate passes the d1 gate yet, so that there is no line."
    return Chart(_svg(f"NetScore of {len(done):,} candidates by trial number", parts), note)


def predicted(known: Sequence[tuple[float, float]], own: Sequence[tuple[float, float]]) -> Chart:
    """Draw predicted against measured latency, both logarithmic.

    Args:
        known: (predicted, measured) milliseconds of networks that a device table never saw.
        own: those of the study's networks.
    """
    values = [value for pair in (*known, *own) for value in pair]
    x, y = log_axis(values, LEFT, RIGHT), log_axis(values, BOTTOM, TOP)
    parts = _frame(x, y, "Measured (ms)", "Predicted (ms)", _plain, _plain)
    parts.append(element("path", class_="equal", d=f"M{LEFT} {BOTTOM}L{RIGHT} {TOP}"))
    for share in (0.9, 1.1):
        low, high = max(x.low, x.low / share), min(x.high, x.high / share)
        at = f"M{x.at(low)} {y.at(low * share)}L{x.at(high)} {y.at(high * share)}"
        parts.append(element("path", class_="equal within", d=at))
    for pairs, kind, what in ((known, "point", "held out"), (own, "point front", "this study's")):
        for guess, real in pairs:
            title = f"{what}: predicted {guess:.3g} ms, measured {real:.3g} ms"
            parts.append(_dot((x.at(real), y.at(guess)), kind, title, 4 if pairs is own else 3.5))
    what = f"Predicted against measured latency of {len(known) + len(own)} networks"
    return Chart(_svg(what, parts))


_SHARES = Axis(0.0, 1.0, 0, 1)


def _cost(row: Record, cost: str) -> float:
    value = getattr(row, cost)
    return float(value) if value is not None and value > 0 else 0.0


def _short(cost: str) -> Callable[[float], str]:
    return (lambda v: f"{v:g} ms") if cost == "latency_ms" else si


def _plain(value: float) -> str:
    return f"{value:g}"


def _whole(value: float) -> str:
    return f"{value:.0f}" if value >= 0 and value == round(value) else ""


def _share(value: float) -> str:
    return fixed(value, 3 if round(value * 100, 6) % 1 else 2)


def _score(value: float) -> str:
    return fixed(value, 0 if value == round(value) else 1)


def _title(row: Record) -> str:
    state = "" if row.state == "complete" else ", stopped early"
    return (
        f"Trial {row.number}{state}: d1 {fixed(row.delta1)}, {si(row.params)} params, "
        f"{si(row.macs)} MACs, NetScore {fixed(row.netscore, 2)}"
    )


def _thinned(rows: Sequence[Record], front: Sequence[Record], shown: Record | None) -> list[Record]:
    """At most ``MOST_POINTS`` evenly spread rows, and those that matter."""
    if len(rows) <= MOST_POINTS:
        return list(rows)
    keep = {row.number for row in front} | ({shown.number} if shown else set())
    keep |= {rows[i * len(rows) // MOST_POINTS].number for i in range(MOST_POINTS)}
    return [row for row in rows if row.number in keep]


def _svg(what: str, parts: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        element("title", what),
        *parts,
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=what,
    )


def _frame(
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
) -> list[Markup]:
    parts = [element("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM)]
    for value in x.ticks():
        at = x.at(value)
        if x_text(value):
            parts.append(element("line", class_="grid", x1=at, x2=at, y1=TOP, y2=BOTTOM))
            parts.append(_text(x_text(value), at, BOTTOM + 18, "middle"))
    for value in y.ticks(48):
        at = y.at(value)
        parts.append(element("line", class_="grid", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        parts.append(_text(y_text(value), LEFT - 8, at + 4, "end"))
    middle = (TOP + BOTTOM) / 2
    parts.append(_text(x_label, (LEFT + RIGHT) / 2, BOTTOM + 42, "middle", "label"))
    turned = f"rotate(-90 14 {middle:g})"
    parts.append(_text(y_label, 14, middle, "middle", "label", transform=turned))
    return parts


def _passing(x: Axis, y: Axis, gate: float, limit: float | None) -> list[Markup]:
    """The side that passes, shaded."""
    if not gate and limit is None:
        return []
    right = x.at(limit) if limit is not None else RIGHT
    bottom = y.at(gate) if gate else BOTTOM
    return [
        element(
            "rect", class_="passing", x=LEFT, y=TOP, width=f"{max(0.0, right - LEFT):.1f}",
            height=f"{max(0.0, bottom - TOP):.1f}",
        )
    ]  # fmt: skip


def _limits(
    x: Axis, y: Axis, gate: float, limit: float | None, short: Callable[[float], str]
) -> list[Markup]:
    parts: list[Markup] = []
    if gate:
        at = y.at(gate)
        above = at - 6 if at - TOP > 22 else at + 15
        parts.append(element("line", class_="gate gate-d1", x1=LEFT, x2=RIGHT, y1=at, y2=at))
        parts.append(_text(f"d1 ≥ {gate:g}", LEFT + 6, above, "start", "gate-label"))
    if limit is not None:
        at = x.at(limit)
        side, anchor = (at - 6, "end") if at - LEFT > 90 else (at + 6, "start")
        parts.append(element("line", class_="gate gate-cost", x1=at, x2=at, y1=TOP, y2=BOTTOM))
        parts.append(_text(f"≤ {short(limit)}", side, BOTTOM - 8, anchor, "gate-label"))
    return parts


def _steps(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """The best so far, from left to right and on to the edge."""
    if not points:
        return Markup("")
    (x0, y0), *rest = points
    path = f"M{x0} {y0}" + "".join(f"H{x}V{y}" for x, y in rest) + f"H{RIGHT}"
    return element("path", class_=kind, d=path)


def _dot(at: tuple[float, float], kind: str, title: str, radius: float) -> Markup:
    return element("circle", element("title", title), class_=kind, cx=at[0], cy=at[1], r=radius)


def _winner(x: float, y: float, title: str) -> Markup:
    # Nothing on the front lies above and to the left of it.
    place = (x - 12, max(y - 8, TOP + 10), "end") if x > LEFT + 60 else (x + 13, y + 17, "start")
    return element(
        "g",
        element("title", title),
        element("circle", class_="ring", cx=x, cy=y, r=9),
        _text("best", *place, "best-label"),
        class_="winner",
    )


def _text(
    text: str, x: float, y: float, anchor: str, kind: str | None = None, **more: object
) -> Markup:
    return element("text", text, x=f"{x:g}", y=f"{y:g}", text_anchor=anchor, class_=kind, **more)
