"""The parts of an image that evaluations look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compress.errors import unknown
from compress.metrics._arrays import BoolArray

Box = tuple[int, int, int, int]  # row0, row1, col0, col1: half-open, as in an array slice
Crop = Callable[[int, int], Box]


def _pixels(row0: int, row1: int, col0: int, col1: int) -> Crop:
    """Build a crop given in pixels of a 480x640 image, scaled to others (halves round up)."""

    def box(height: int, width: int) -> Box:
        r0, r1 = ((2 * r * height + 480) // 960 for r in (row0, row1))
        c0, c1 = ((2 * c * width + 640) // 1280 for c in (col0, col1))
        return r0, r1, c0, c1

    return box


def _fractions(row0: float, row1: float, col0: float, col1: float) -> Crop:
    """Build a crop given as fractions of the image, cut down to whole pixels."""

    def box(height: int, width: int) -> Box:
        return int(row0 * height), int(row1 * height), int(col0 * width), int(col1 * width)

    return box


# Source: nyu, the crop of BTS and most later work; eigen-nyu, of Eigen et al. and DenseDepth;
# garg, Garg et al. 2016; eigen-kitti, Eigen et al. 2014 as public KITTI evaluators rebuild it.
CROPS: dict[str, Crop] = {
    "none": lambda height, width: (0, height, 0, width),
    "nyu": _pixels(45, 471, 41, 601),
    "eigen-nyu": _pixels(20, 460, 24, 616),
    "garg": _fractions(0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen-kitti": _fractions(0.3324324, 0.91351351, 0.0359477, 0.96405229),
}


def crop_mask(name: str, size: tuple[int, int]) -> BoolArray:
    """Return the (H, W) mask that is true inside the named crop of an image of size (H, W).

    >>> int(crop_mask("nyu", (480, 640)).sum()) == (471 - 45) * (601 - 41)
    True

    Raises:
        CompressError: no such crop.
    """
    if name not in CROPS:
        raise unknown("crop", name, CROPS)
    row0, row1, col0, col1 = CROPS[name](*size)
    inside = np.zeros(size, dtype=np.bool_)
    inside[row0:row1, col0:col1] = True
    return inside
