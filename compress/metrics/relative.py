"""Depth without a unit: how often the order of two points is wrong, and errors but for scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from compress.errors import CompressError
from compress.metrics._arrays import array, scored


def whdr(depth: Any, pairs: Any, order: Any, valid: Any = None, tolerance: float = 0.0) -> float:
    """Return the share of pairs of points whose order a depth map gets wrong, each pair alike.

    A point counts as farther where its depth is more than 1 + `tolerance` times the other's;
    neither is where both are about as far. Such a tie is right for pairs said to be equal, and
    wrong for all others.

    >>> depth = [[1.0, 2.0], [1.0, 4.0]]
    >>> pairs = [[0.25, 0.75, 0.25, 0.25], [0.75, 0.25, 0.25, 0.25]]  # y and x of A, then of B
    >>> whdr(depth, pairs, order=[1, -1])  # the second pair is a tie
    0.5

    Args:
        depth: map (H, W), or maps (N, H, W) or (N, 1, H, W), of any unit; larger is farther.
        pairs: (P, 4), or (N, P, 4): y and x of point A, then of point B, from 0 to 1 across the
            image. The nearest pixel is taken.
        order: (P,) or (N, P): +1 where A is farther, -1 where A is closer, 0 where equally far.
        valid: true where a pair counts, shaped as `order`; everywhere by default.
        tolerance: see above; above 0 it needs depths above 0.

    Raises:
        CompressError: shapes do not fit, no pair is valid, or one that is lies outside the image,
            or the depth at it is not finite.

    Source: Chen, Fu, Yang and Deng, "Single-Image Depth Perception in the Wild", NeurIPS 2016,
    section 5 (weighted human disagreement rate; all weights are 1).
    """
    z = array(depth).astype(np.float64)
    points, truth = array(pairs).astype(np.float64), array(order)
    ok = np.ones(truth.shape, np.bool_) if valid is None else array(valid).astype(np.bool_)
    shapes = f"depth {z.shape}, pairs {points.shape}, order {truth.shape}, validity {ok.shape}"
    if z.ndim == 4 and z.shape[1] == 1:
        z = z[:, 0]
    if z.ndim == 2 and points.ndim == 2:
        z, points, truth, ok = z[None], points[None], truth[None], ok[None]
    fits = z.ndim == points.ndim == 3 and len(z) == len(points) and points.shape[-1] == 4
    if not fits or not points.shape[:-1] == truth.shape == ok.shape or 0 in z.shape:
        raise CompressError(
            "pairs are scored as (P, 4) on a map (H, W), or (N, P, 4) on maps (N, H, W), with "
            f"their order and validity as (P,) or (N, P); got {shapes}"
        )
    if not tolerance >= 0:
        raise CompressError(f"tolerance is a share of depth, 0 or more, got {tolerance!r}")
    if not ok.any():
        raise CompressError(f"none of the {ok.size} pairs of points is valid")
    image, points, truth = np.nonzero(ok)[0], points[ok], truth[ok]
    if not ((points >= 0) & (points <= 1)).all():
        raise CompressError(
            "a valid pair has a point outside 0..1; divide pixels by the image's size"
        )
    height, width = z.shape[-2:]
    rows, columns = (
        (points[:, axis::2] * n).astype(np.int64) for axis, n in ((0, height), (1, width))
    )
    at = z[image[:, None], rows.clip(max=height - 1), columns.clip(max=width - 1)]  # (P, 2)
    lowest = float(at.min())
    if not np.isfinite(at).all() or (tolerance > 0 and lowest <= 0):
        raise CompressError(
            f"depths at valid pairs must be finite{' and above 0' if tolerance else ''}; the "
            f"network has diverged, or its output is not a depth (lowest {lowest:g})"
        )
    a, b = at.T
    said = (a > b * (1 + tolerance)).astype(np.int64) - (b > a * (1 + tolerance))
    return float((said != np.sign(truth)).mean())


def si_rmse(pred_m: Any, true_m: Any, mask: Any = None) -> float:
    """Return the standard deviation of log p - log t over the valid pixels of one image.

    It does not change with the prediction's scale. Pixels are valid, and predictions raised to
    1 mm, as in `depth_metrics`.

    >>> si_rmse([2.0, 4.0], [1.0, 2.0])
    0.0

    Args:
        pred_m: predicted depth, array or tensor of any shape; any unit.
        true_m: true depth, same shape.
        mask: true where the ground truth may be used, same shape; everywhere by default.

    Raises:
        CompressError: shapes differ, no pixel is valid, or a prediction at one is not finite.

    Source: Eigen, Puhrsch and Fergus, NIPS 2014, equation 1 (scale-invariant error).
    """
    p, t = scored(pred_m, true_m, mask)
    g = np.log(p) - np.log(t)
    # Around the mean: a large common factor would swallow the digits of E[g^2] - E[g]^2.
    return math.sqrt(float(((g - g.mean()) ** 2).mean()))
