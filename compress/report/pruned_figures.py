"""Figures for a paper: the course of a pruning, and what densities of a gating cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compress.report.figures import FOLDER
from compress.report.outcome import Outcome
from compress.report.parts import Span
from compress.report.plates import COLUMN_IN, OKABE_ITO, axes_of, new_figure, save_figure
from compress.report.words import si

BLUE, RED, BLACK, GREEN, GREY = (
    OKABE_ITO[name] for name in ("blue", "vermillion", "black", "green", "grey")
)
LABELS = {"latency_ms": "Latency (ms)", "macs": "MACs", "params": "Parameters"}
DASHED = (0, (4, 2.5))


def write_outcome_figures(found: Outcome, folder: Path, name: str) -> list[Path]:
    """Write ``NAME-course`` of a pruning or ``NAME-density`` of a gating into ``folder/figures/``.

    Each as .svg, .png (200 dpi) and .pdf, 3.4 inches wide. A result without iterations or
    densities gets none.

    Returns:
        The files' paths.
    """
    written: list[Path] = []
    for figure, kind in ((course_figure(found), "course"), (density_figure(found), "density")):
        if figure is not None:
            written += save_figure(figure, Path(folder) / FOLDER / f"{name}-{kind}")
    return written


def course_figure(found: Outcome) -> Any | None:
    """Resource and accuracy after each iteration, one above the other; None without any."""
    steps = [step for step in found.steps if step.resource is not None]
    if not steps:
        return None
    kind = found.target[0] if found.target else "macs"
    timed = kind == "latency_ms"
    figure = new_figure(COLUMN_IN, 3.5)
    upper, lower = _stacked(figure, 2, 0.125)
    start = (found.before.latency and found.before.latency.median_ms) if timed else None
    start = start if timed else getattr(found.before, kind)
    begin = [(0, start)] if start else []
    line = begin + [(step.number, step.resource or 0.0) for step in steps]
    upper.plot(*zip(*line, strict=True), color=BLUE, lw=1.1, label="predicted" if timed else "left")
    spans = [(r.step, r.measured) for r in found.rounds if r.step is not None]
    if timed and found.after.latency is not None:
        spans.append((steps[-1].number, found.after.latency))
    _spans(upper, spans, "measured, 95 % interval")
    if found.target is not None:
        upper.axhline(found.target[1], color=BLACK, lw=0.8, ls=DASHED, label="target")
        low = upper.get_ylim()[0]
        upper.axhspan(low, found.target[1], color=GREEN, alpha=0.09, lw=0)
        upper.set_ylim(bottom=low)
    upper.set_ylabel(LABELS[kind])
    if not timed:
        upper.yaxis.set_major_formatter(lambda value, _: si(value))
    upper.legend(frameon=False, fontsize=6.5, loc="upper right")
    scored = [(s.number, s.accuracy) for s in found.steps if s.accuracy is not None]
    first = found.before.accuracy
    scored = ([(0, first)] if first is not None else []) + scored
    if scored:
        lower.plot(*zip(*scored, strict=True), color=BLUE, lw=1.1, label="after each cut")
    if first is not None:
        lower.axhline(first, color=GREY, lw=0.8, ls=(0, (1.5, 1.5)), label="before")
    if found.after.accuracy is not None:
        lower.plot(
            [steps[-1].number], [found.after.accuracy], "o", ms=4.5, mfc="white", mec=RED, mew=1.2,
            label="fine-tuned",
        )  # fmt: skip
    lower.set_ylabel("d1" if found.after.parts else "Accuracy")
    lower.set_xlabel("Iteration")
    lower.xaxis.get_major_locator().set_params(integer=True)
    if lower.get_legend_handles_labels()[0]:
        lower.legend(frameon=False, fontsize=6.5, loc="best")
    return figure


def density_figure(found: Outcome) -> Any | None:
    """d1, multiply-adds and latency against density, each where it is known; None without any."""
    panels: list[Callable[[Any, Outcome], None]] = []
    if any(item.delta1 is not None for item in found.sweep):
        panels.append(_accuracy)
    if any(item.macs is not None for item in found.sweep):
        panels.append(_macs)
    if sum(item.latency is not None for item in found.sweep) > 1:
        panels.append(_latency)
    if not panels:
        return None
    height = 0.45 + 1.25 * len(panels)
    figure = new_figure(COLUMN_IN, height)
    all_axes = _stacked(figure, len(panels), 0.42 / height)
    for axes, draw in zip(all_axes, panels, strict=True):
        draw(axes, found)
        if found.density is not None:
            axes.axvline(found.density, color=RED, lw=0.9, ls=DASHED, label="chosen")
        axes.legend(frameon=False, fontsize=6.5, loc="best")
    all_axes[-1].set_xlabel("Density")
    return figure


def _accuracy(axes: Any, found: Outcome) -> None:
    points = [(d.density, d.delta1) for d in found.sweep if d.delta1 is not None]
    axes.plot(*zip(*points, strict=True), "o-", color=BLUE, lw=1.1, ms=3, label="gated")
    _level(axes, found.before.accuracy, "dense")
    axes.set_ylabel("d1")


def _macs(axes: Any, found: Outcome) -> None:
    spread = any(density.macs_p95 for density in found.sweep)
    for key, style, label in (
        ("macs", "o-", "mean" if spread else "at most"),
        ("macs_p95", "--", "95 % of images"),
        ("macs_worst", ":", "worst"),
    ):
        points = [(d.density, getattr(d, key)) for d in found.sweep if getattr(d, key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=BLUE, lw=1.1, ms=3, label=label)
    _level(axes, found.macs.get("dense") or found.before.macs, "dense")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: si(value) if value else "0")
    axes.set_ylabel("MACs an image")


def _latency(axes: Any, found: Outcome) -> None:
    spans = [(d.density, d.latency) for d in found.sweep if d.latency is not None]
    axes.plot([d for d, _ in spans], [s.median_ms for _, s in spans], color=BLUE, lw=1.1)
    _spans(axes, spans, "gated, 95 % interval")
    _level(axes, found.before.latency.median_ms if found.before.latency else None, "dense")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Latency (ms)")


def _spans(axes: Any, spans: Sequence[tuple[float, Span]], label: str) -> None:
    """Measured medians with their intervals."""
    if not spans:
        return
    medians = [span.median_ms for _, span in spans]
    below = [max(0.0, s.median_ms - (s.low_ms or s.median_ms)) for _, s in spans]
    above = [max(0.0, (s.high_ms or s.median_ms) - s.median_ms) for _, s in spans]
    axes.errorbar(
        [at for at, _ in spans], medians, (below, above), fmt="o", ms=3, color=BLACK, lw=0.9,
        capsize=2, zorder=5, label=label,
    )  # fmt: skip


def _level(axes: Any, value: float | None, label: str) -> None:
    if value is not None:
        axes.axhline(value, color=GREY, lw=0.8, ls=(0, (1.5, 1.5)), label=label)


def _stacked(figure: Any, count: int, bottom: float) -> list[Any]:
    """Axes one above the other with one common horizontal axis; the uppermost first."""
    gap, top = 0.035, 0.985
    height = (top - bottom - gap * (count - 1)) / count
    made = [
        axes_of(figure, 0.175, bottom + k * (height + gap), 0.805, height)
        for k in reversed(range(count))
    ]
    for axes in made[:-1]:
        axes.sharex(made[-1])
        axes.tick_params(labelbottom=False)
    figure.align_ylabels(made)
    return made
