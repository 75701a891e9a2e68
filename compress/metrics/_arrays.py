"""Arrays and tensors of any kind, checked before they are scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from compress.errors import CompressError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

PREDICTION_FLOOR_M = 1e-3


def array(values: Any) -> npt.NDArray[Any]:
    """Turn what an array can be made of, or a tensor on any device, into an array."""
    # Tensors are known by their `detach`, so arrays are scored without torch being imported.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def same_shape(what: str, shape: tuple[int, ...], true_shape: tuple[int, ...]) -> None:
    """Refuse a map that has not the ground truth's shape."""
    if shape != true_shape:
        raise CompressError(
            f"{what} has shape {shape} but the ground truth has {true_shape}; "
            "resize the prediction to the ground truth before scoring it"
        )


def valid_pixels(pred: FloatArray, true: FloatArray, valid: BoolArray) -> FloatArray:
    """Return the valid pixels as (2, P), predictions first, refusing non-finite predictions."""
    p, t = pred[valid], true[valid]
    bad = int((~np.isfinite(p)).sum())
    if bad:
        raise CompressError(
            f"{bad} of {p.size} predictions at valid pixels are NaN or infinite; "
            "the network has diverged, or its output is not a depth in metres"
        )
    return np.stack([p, t])


def scored(pred_m: Any, true_m: Any, mask: Any = None) -> FloatArray:
    """Return the valid pixels of two maps as (2, P), predictions first and at least 1 mm.

    A pixel is valid where `mask` is true and the ground truth is finite and above 0.

    Raises:
        CompressError: shapes differ, no pixel is valid, or a prediction at one is not finite.
    """
    pred, true = array(pred_m).astype(np.float64), array(true_m).astype(np.float64)
    same_shape("the prediction", pred.shape, true.shape)
    valid: BoolArray = np.isfinite(true) & (true > 0)
    if mask is not None:
        chosen = array(mask)
        same_shape("the mask", chosen.shape, true.shape)
        valid &= chosen.astype(np.bool_)
    if not valid.any():
        raise CompressError(
            f"none of the {true.size} pixels is valid (mask true, ground truth finite and above 0)"
        )
    p, t = valid_pixels(pred, true, valid)
    return np.stack([np.maximum(p, PREDICTION_FLOOR_M), t])
