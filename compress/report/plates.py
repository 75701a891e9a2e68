"""What all figures for a paper share: size, type, colours, and files that repeat to the byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress._files import whole
from compress.report.axes import Axis

# One column of the usual two-column papers.
COLUMN_IN = 3.4
DPI = 200
# Source: Okabe and Ito, "Color Universal Design", 2008; grey for what is in the background.
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#7F7F7F",
}
INK, RULE = "#222222", "#D8D8D8"
# Fonts go into the files: as outlines in SVG, as TrueType in PDF, which journals ask for. The
# salt replaces a random one, that names of clips and gradients are made with.
SAVING: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "compress",
    "pdf.fonttype": 42,
    "pdf.compression": 9,
    "font.family": "DejaVu Sans",
}
# Dates and versions of programs would make two equal figures differ.
UNDATED: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


def new_figure(width_in: float, height_in: float) -> Any:
    """An empty matplotlib Figure of its own: pyplot, which keeps every figure, is not used."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_of(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes in a part of a figure (shares of it), with light rules and small type."""
    axes = figure.add_axes((left, bottom, width, height))
    axes.tick_params(labelsize=7, length=2.5, width=0.6, color=INK, labelcolor=INK, pad=2)
    axes.tick_params(which="minor", length=1.5, width=0.4, color=INK)
    axes.grid(True, color=RULE, linewidth=0.4, zorder=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.6)
        spine.set_color(INK)
    axes.xaxis.label.set(fontsize=8, color=INK)
    axes.yaxis.label.set(fontsize=8, color=INK)
    axes.xaxis.labelpad = axes.yaxis.labelpad = 2.5
    return axes


def log_ticks(axis: Any, text: Callable[[float], str], width: float = 300) -> None:
    """Label a logarithmic axis at round values; ``width`` decides how many."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axis.get_view_interval()
    places = Axis(low, high, 0, width, log=True).ticks(48)
    if len(places) < 3:  # less than half a decade
        places = Axis(low, high, 0, width).ticks(64)
    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())


def save_figure(figure: Any, stem: Path) -> list[Path]:
    """Write a figure as .svg, .png and .pdf, each whole or not at all; the paths."""
    from matplotlib import rc_context

    paths = []
    for kind, metadata in UNDATED.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        with whole(path) as temporary, rc_context(SAVING):
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=metadata)
        paths.append(path)
    return paths
