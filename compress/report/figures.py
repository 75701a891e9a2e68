"""Figures for a paper: the front of a study, one column wide, as SVG, PNG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.report.findings import Findings
from compress.report.front import LIMITS, summary
from compress.report.plates import (
    COLUMN_IN,
    OKABE_ITO,
    axes_of,
    log_ticks,
    new_figure,
    save_figure,
)
from compress.report.words import number, si
from compress.search.records import Record

FOLDER = "figures"
TITLES = {
    "macs": "Multiply-adds (MACs)",
    "params": "Parameters",
    "latency_ms": "Predicted latency (ms)",
}
# Areas in points²: of the largest network, and what the smallest is at least seen at. Networks that
# are all about as large have small areas, which tell nothing and hide one another.
LARGEST, LEAST, ALIKE = 110.0, 7.0, 30.0
# A vector file with more marks than this is slow to open: they become a picture inside it.
MOST_MARKS = 1500
# A gate so many times the spread of d1 below the lowest one would squeeze the rest.
BELOW = 0.5
# A limit further than this from the largest network would squeeze the rest.
FAR = 30.0
FAINT, FRONT, KNEE, BEST, GATE, PASSES = (
    OKABE_ITO[name] for name in ("grey", "blue", "orange", "vermillion", "black", "green")
)


def write_figures(found: Findings, folder: Path) -> list[Path]:
    """Write the front of d1 against each known cost into ``folder/figures/``.

    ``front-macs``, ``front-params`` and, where candidates have one, ``front-latency``, each as
    .svg, .png (200 dpi) and .pdf, 3.4 inches wide. A study without a scored candidate gets none.
    The same study gives the same bytes, under one version of matplotlib.

    Returns:
        The files' paths.
    """
    written: list[Path] = []
    for cost in TITLES:
        figure = front_figure(found, cost)
        if figure is not None:
            stem = Path(folder) / FOLDER / f"front-{cost.removesuffix('_ms')}"
            written += save_figure(figure, stem)
    return written


def front_figure(found: Findings, cost: str) -> Any | None:
    """Draw d1 against "macs", "params" or "latency_ms".

    Returns:
        a matplotlib Figure, None where no candidate trained to the end has that cost.
    """
    rows = [
        row
        for row in found.rows
        if row.state == "complete" and row.delta1 is not None and _cost(row, cost) > 0
    ]
    if not rows:
        return None
    best = found.winner if found.winner in rows else None
    figures = summary(found, cost)
    limit = number(found.gates.get(LIMITS[cost]))
    if limit is not None and not 0 < limit <= FAR * max(_cost(row, cost) for row in rows):
        limit = None
    figure = new_figure(COLUMN_IN, 2.8)
    axes = axes_of(figure, 0.165, 0.28, 0.815, 0.69)
    axes.set_xscale("log")
    on_front = {row.number for row in figures.front}
    sizes = [row.params for row in rows]
    scale = (LARGEST if max(sizes) > 2 * min(sizes) else ALIKE) / max(sizes)
    rest = [row for row in rows if row.number not in on_front]
    marks = [
        _scatter(axes, rest, cost, scale, "dominated", FAINT, 0.35, 2),
        _scatter(axes, list(figures.front), cost, scale, "front", FRONT, 0.85, 4),
    ]
    told = _limits(axes, rows, cost, found.gate, limit)
    _staircase(axes, figures.front, cost)
    if figures.knee is not None:
        marks.append(_mark(axes, figures.knee, cost, "D", KNEE, 26, "knee"))
    if best is not None:
        marks.append(_mark(axes, best, cost, "*", BEST, 62, "best network"))
    if told:
        marks.append(axes.plot([], [], color=GATE, lw=0.8, ls=(0, (3, 1.5)), label="gate")[0])
    axes.set_xlabel(TITLES[cost])
    axes.set_ylabel("Validation d1")
    log_ticks(axes.xaxis, (lambda v: f"{v:g}") if cost == "latency_ms" else si)
    _legends(figure, [mark for mark in marks if mark is not None], rows, scale)
    return figure


def _cost(row: Record, cost: str) -> float:
    return number(getattr(row, cost)) or 0.0


def _scatter(
    axes: Any, rows: Sequence[Record], cost: str, scale: float, label: str, colour: str,
    alpha: float, order: int,
) -> Any | None:  # fmt: skip
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: (-row.params, row.number))  # small ones stay in sight
    axes.scatter(
        [_cost(row, cost) for row in shown],
        [row.delta1 for row in shown],
        s=[max(LEAST, scale * row.params) for row in shown],
        c=colour,
        alpha=alpha,
        linewidths=0.3,
        edgecolors="white",
        zorder=order,
        rasterized=len(shown) > MOST_MARKS,
    )
    # The legend has a mark of one size: those of networks differ by what they stand for.
    return axes.scatter([], [], s=16, c=colour, alpha=alpha, linewidths=0, label=label)


def _staircase(axes: Any, front: Sequence[Record], cost: str) -> None:
    right = axes.get_xlim()[1]
    x = [_cost(row, cost) for row in front]
    y = [row.delta1 for row in front]
    axes.step([*x, right], [*y, y[-1]], where="post", color=FRONT, lw=1.0, zorder=3)


def _limits(axes: Any, rows: Sequence[Record], cost: str, gate: float, limit: float | None) -> bool:
    """Gates as lines, the side that passes shaded; the axes end where there is room for both.

    A gate far below all is told in words. Returns whether there is a line.
    """
    costs = [_cost(row, cost) for row in rows] + ([limit] if limit else [])
    scores = [row.delta1 or 0.0 for row in rows]
    far = 0 < gate < min(scores) - max(0.02, BELOW * (max(scores) - min(scores)))
    scores += [gate] if gate and not far else []
    room = max(1.5, max(costs) / min(costs)) ** 0.08
    left, right = min(costs) / room, max(costs) * room
    pad = max(0.12 * (max(scores) - min(scores)), 0.01)
    low, high = max(0.0, min(scores) - pad), max(scores) + pad
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    if not gate and limit is None:
        return False
    axes.fill_between([left, limit or right], max(low, gate), high, color=PASSES, alpha=0.09, lw=0)
    dashed = {"color": GATE, "lw": 0.8, "ls": (0, (4, 2.5)), "zorder": 1.5}
    small = {"fontsize": 6.5, "color": GATE}
    if far:
        axes.annotate(
            f"d1 ≥ {gate:g}: all pass", (0, 0), (3, 3), xycoords="axes fraction",
            textcoords="offset points", va="bottom", ha="left", **small,
        )  # fmt: skip
    elif gate:
        axes.axhline(gate, **dashed)
        axes.annotate(
            f"d1 ≥ {gate:g}", (0, gate), (3, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="bottom", ha="left", **small,
        )  # fmt: skip
    if limit is not None:
        axes.axvline(limit, **dashed)
        text = f"≤ {limit:g} ms" if cost == "latency_ms" else f"≤ {si(limit)}"
        axes.annotate(
            text, (limit, 0), (-3, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="bottom", ha="right", **small,
        )  # fmt: skip
    return not far or limit is not None


def _mark(
    axes: Any, row: Record, cost: str, marker: str, colour: str, area: float, label: str
) -> Any:
    return axes.scatter(
        [_cost(row, cost)], [row.delta1], s=area, marker=marker, c=colour, edgecolors="black",
        linewidths=0.5, zorder=6, label=label,
    )  # fmt: skip


def _legends(figure: Any, marks: Sequence[Any], rows: Sequence[Record], scale: float) -> None:
    """What the marks mean, and how large a network each area stands for, below the axes."""
    from matplotlib.lines import Line2D

    look = {
        "loc": "lower center", "frameon": False, "fontsize": 6.5, "handletextpad": 0.2,
        "handlelength": 1.5, "columnspacing": 0.9, "borderpad": 0, "borderaxespad": 0,
    }  # fmt: skip
    figure.legend(handles=marks, ncols=len(marks), bbox_to_anchor=(0.54, 0.085), **look)
    sizes = _round_sizes([row.params for row in rows])
    circles = [
        Line2D(
            [], [], ls="none", marker="o", markersize=max(LEAST, scale * size) ** 0.5,
            markerfacecolor="none", markeredgecolor="#555555", markeredgewidth=0.6, label=si(size),
        )
        for size in sizes
    ]  # fmt: skip
    head = Line2D([], [], ls="none", label="area: parameters")
    figure.legend(
        handles=[head, *circles], ncols=1 + len(circles), bbox_to_anchor=(0.54, 0.012),
        **(look | {"handletextpad": 0.5}),
    )  # fmt: skip


def _round_sizes(params: Sequence[int]) -> list[float]:
    """At most three round sizes between the smallest network and the largest, the larger ones."""
    low, high = min(params), max(params)
    steps = [digit * 10.0**k for k in range(13) for digit in (1, 2, 5)]
    inside = [step for step in steps if low <= step <= high]
    return inside[-3:] or [float(f"{high:.2g}")]
