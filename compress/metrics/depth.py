"""Metric depth against the truth: the metrics of the field."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from compress.errors import CompressError
from compress.metrics._arrays import FloatArray, scored

MapT = TypeVar("MapT")

METRICS = ("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10")


def terms(p: FloatArray, t: FloatArray) -> FloatArray:
    """Return each metric's sum over pixels (8,), in the order of `METRICS`, before any root."""
    ratio = np.maximum(p / t, t / p)
    error = p - t
    log_error = np.log(p) - np.log(t)
    deltas = [ratio < 1.25**k for k in (1, 2, 3)]
    errors = [np.abs(error) / t, error**2 / t, error**2, log_error**2]
    log10 = np.abs(log_error) / math.log(10)
    return np.array([term.sum() for term in (*deltas, *errors, log10)], dtype=np.float64)


def finish(means: FloatArray) -> FloatArray:
    """Take the roots of the two mean squares: mean terms (8,) -> metrics (8,)."""
    out = means.copy()
    for name in ("rmse", "rmse_log"):
        out[METRICS.index(name)] = math.sqrt(out[METRICS.index(name)])
    return out


def named(values: FloatArray) -> dict[str, float]:
    """Give the metrics (8,) their names."""
    return dict(zip(METRICS, map(float, values), strict=True))


def depth_metrics(pred_m: Any, true_m: Any, mask: Any = None) -> dict[str, float]:
    """Score depth predictions, pooled over all valid pixels.

    A pixel is valid where `mask` is true and the ground truth is finite and above 0. Predictions
    below 1 mm (zero and negative ones too) count as 1 mm. AbsRel and SqRel divide by the ground
    truth; delta_k is the share of pixels with max(p/t, t/p) < 1.25^k.

    >>> scores = depth_metrics([1.0, 2.0, 6.0], [1.0, 2.0, 4.0])
    >>> round(scores["delta1"], 4), round(scores["abs_rel"], 4), round(scores["rmse"], 4)
    (0.6667, 0.1667, 1.1547)

    Args:
        pred_m: predicted depth in metres, array or tensor of any shape.
        true_m: true depth in metres, same shape.
        mask: true where the ground truth may be used, same shape; everywhere by default.

    Returns:
        `METRICS` by name; the deltas are fractions, rmse is in metres, rmse_log in natural log.

    Raises:
        CompressError: shapes differ, no pixel is valid, or a prediction at one is not finite.

    Source: Eigen, Puhrsch and Fergus, NIPS 2014 (the metrics of the field).
    """
    p, t = scored(pred_m, true_m, mask)
    return named(finish(terms(p, t) / t.size))


def flip_average(depth_a: MapT, depth_of_flipped: MapT) -> MapT:
    """Average a depth map with the mirrored image's, mirroring that one back first.

    Args:
        depth_a: depth (..., H, W) predicted from the image, array or tensor.
        depth_of_flipped: depth (..., H, W) predicted from the left-right mirrored image, as it
            came out of the network.

    Raises:
        CompressError: shapes differ.
    """
    a: Any = depth_a
    b: Any = depth_of_flipped
    if a.shape != b.shape:
        raise CompressError(f"cannot average maps of shapes {tuple(a.shape)} and {tuple(b.shape)}")
    # Tensors refuse negative strides.
    mirrored = b.flip(-1) if hasattr(b, "detach") else b[..., ::-1]
    mean: MapT = (a + mirrored) / 2
    return mean
