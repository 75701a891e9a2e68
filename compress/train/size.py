"""The network input that suits a data set's images."""

from __future__ import annotations

from math import sqrt

from compress.data import Frames


def fitted_size(frames: Frames, like: tuple[int, int], step: int = 32) -> tuple[int, int]:
    """Return an input of the images' shape with about as many pixels as ``like`` (height, width).

    Sides are multiples of ``step``, so that a network that halves five times loses nothing:
    240x320 images with 96x128 in mind give (96, 128), KITTI's 375x1242 give (64, 192).
    """
    height, width = frames[0].rgb.shape[:2]
    scale = sqrt(like[0] * like[1] / (height * width))
    rows = max(step, round(height * scale / step) * step)
    columns = max(step, round(like[0] * like[1] / rows / step) * step)
    return rows, columns
