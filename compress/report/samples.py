"""Pictures of what a network predicts, beside the truth."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.cost import cost
from compress.data import Frames
from compress.data.arrays import resize_depth, resize_rgb
from compress.errors import CompressError
from compress.models import DepthNet
from compress.report.files import write_whole
from compress.train.device import threads_for
from compress.train.evaluate import images_of, predict

NAME = "samples.png"
MOST_BYTES = 400_000
# Layout in pixels of a picture 1000 wide: four columns of 240, eight between them and around.
WIDTH, COLUMN, GAP, HEAD, FOOT = 1000, 240, 8, 26, 58
TITLES = ("Image", "True depth", "Predicted depth", "Signed relative error")
ERROR_TOP = 0.5
NO_TRUTH = "#9a9a9a"


@dataclass(frozen=True)
class _Row:
    """One frame at the size drawn: depths in metres, NaN where there is no truth."""

    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    true_m: npt.NDArray[np.float32]  # (H, W)
    predicted_m: npt.NDArray[np.float32]  # (H, W)
    error: npt.NDArray[np.float32]  # (H, W), (predicted - true) / true


def write_samples(
    model: DepthNet,
    frames: Frames,
    folder: Path,
    count: int = 4,
    *,
    cap_m: float,
    name: str = NAME,
    most_bytes: int = MOST_BYTES,
) -> Path:
    """Write ``samples.png``: image, truth, prediction and signed relative error, a frame a row.

    All depths share one logarithmic colour scale, with a bar in metres. Truth that is missing or
    at ``cap_m`` and beyond, which is not scored, is grey; predictions are cut to ``cap_m``.

    Args:
        model: the network.
        frames: the split; ``count`` frames spread evenly over it are drawn.
        folder: where the picture is put, whole or not at all.
        count: rows.
        cap_m: metres beyond which depth is not used.
        name: of the file.
        most_bytes: that it should have.

    Returns:
        The picture's path; it is about 1000 pixels wide, less where it would be too large.
    """
    chosen = list(images_of(frames, count)) if len(frames) and count > 0 else []
    if not chosen:
        raise CompressError(f"there is nothing to draw: {count} of {len(frames)} frames")
    with threads_for(cost(model).macs):  # two threads of a small network wait for one another
        rows = [_row(model, frames, index, cap_m) for index in chosen]
    for dpi in (100, 80, 60, 40):
        data = _small(_drawn(rows, dpi), most_bytes)
        if len(data) < most_bytes:
            break
    return write_whole(Path(folder) / name, data)


def _small(png: bytes, most_bytes: int) -> bytes:
    """Without transparency, and with 256 colours where it would be too large with all."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    for image in (picture, picture.quantize(256, dither=Image.Dither.NONE)):
        target = io.BytesIO()
        image.save(target, format="PNG", optimize=True)
        if target.tell() < most_bytes:
            break
    return target.getvalue()


def _row(model: DepthNet, frames: Frames, index: int, cap_m: float) -> _Row:
    sample = frames[index]
    predicted_m = np.minimum(predict(model, sample.rgb), cap_m)
    known = (sample.depth_m > 0) & (sample.depth_m < cap_m)
    true_m = np.where(known, sample.depth_m, 0).astype(np.float32)
    error = (predicted_m - true_m) / np.where(known, true_m, 1)
    height, width = true_m.shape
    size = (height, width)
    if width > COLUMN:  # measured pixels, however sparse, outlive this way of shrinking
        size = (max(1, round(height * COLUMN / width)), COLUMN)
    # 0 means nothing there to resize_depth, and an error is -1 or more.
    shifted = np.where(known, error + 2, 0).astype(np.float32)
    true_m, predicted_m, shifted = (
        resize_depth(values.astype(np.float32), size) for values in (true_m, predicted_m, shifted)
    )
    return _Row(
        resize_rgb(sample.rgb, size),
        np.where(true_m > 0, true_m, np.nan),
        predicted_m,
        np.where(shifted > 0, shifted - 2, np.nan),
    )


def _drawn(rows: list[_Row], dpi: int) -> bytes:
    # A Figure of its own: pyplot would keep it, and touch what a notebook shows.
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    heights = [COLUMN * row.rgb.shape[0] / row.rgb.shape[1] for row in rows]
    total = HEAD + sum(heights) + GAP * len(rows) + FOOT
    figure = Figure(figsize=(WIDTH / 100, total / 100), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)

    def axes(column: float, top: float, width: float, height: float) -> Any:
        left = GAP + column * (COLUMN + GAP)
        box = (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total)
        return figure.add_axes(box)

    low, high = _range(rows)
    depth = {"norm": LogNorm(low, high), "cmap": colormaps["viridis"].with_extremes(bad=NO_TRUTH)}
    errors = colormaps["RdBu_r"].with_extremes(bad=NO_TRUTH)
    wrong = {"norm": Normalize(-ERROR_TOP, ERROR_TOP), "cmap": errors}
    top = float(HEAD)
    shown: list[Any] = []
    for row, height in zip(rows, heights, strict=True):
        kinds: tuple[dict[str, Any], ...] = ({}, depth, depth, wrong)
        pictures = (row.rgb, row.true_m, row.predicted_m, row.error)
        shown = []
        for column, (values, how) in enumerate(zip(pictures, kinds, strict=True)):
            place = axes(column, top, COLUMN, height)
            shown.append(place.imshow(values, aspect="auto", interpolation="nearest", **how))
            place.set_axis_off()
            if top == HEAD:
                place.set_title(TITLES[column], fontsize=9, loc="left", pad=5, color="#222222")
        top += height + GAP
    bars = (
        (1, 2 * COLUMN + GAP, shown[2], "depth (m)", _metres(low, high)),
        (3, COLUMN, shown[3], "too near (−) or too far (+), relative", [-0.4, -0.2, 0, 0.2, 0.4]),
    )
    for column, width, image, label, ticks in bars:
        bar = figure.colorbar(
            image, cax=axes(column, top + 4, width, 10), orientation="horizontal", ticks=ticks
        )
        bar.minorticks_off()
        bar.ax.set_xticklabels([f"{tick:g}" for tick in ticks])
        bar.ax.tick_params(labelsize=8, length=3, color="#222222", labelcolor="#222222")
        bar.set_label(label, fontsize=8, color="#222222", labelpad=2)
        bar.outline.set_visible(False)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=dpi)
    return target.getvalue()


def _range(rows: list[_Row]) -> tuple[float, float]:
    """The depths that the colours span: those of the truth without its extremes."""
    known = np.concatenate([row.true_m[np.isfinite(row.true_m)] for row in rows])
    if not known.size:  # no truth at all: show the predictions as they are
        known = np.concatenate([row.predicted_m.ravel() for row in rows])
    low, high = (float(v) for v in np.quantile(known, (0.005, 0.995)))
    return max(low, 1e-3), max(high, low * 1.5, 2e-3)


def _metres(low: float, high: float) -> list[float]:
    """Round depths inside a range, about three a decade; the ends where there are fewer than 2."""
    steps = [d * 10.0**k for k in range(-3, 5) for d in (1, 1.5, 2, 3, 4, 5, 7)]
    inside = [step for step in steps if low <= step <= high]
    if len(inside) > 9:
        inside = [v for v in inside if f"{v:e}"[:3] in ("1.0", "2.0", "5.0")]
    return inside if len(inside) > 1 else [float(f"{v:.3g}") for v in (low, high)]
