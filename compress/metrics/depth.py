"""Depth metrics, and the protocol without which a figure says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from compress.errors import CompressError, unknown

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # row0, row1, col0, col1: half-open, as in an array slice
Crop = Callable[[int, int], Box]
MapT = TypeVar("MapT")

METRICS = ("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10")
PREDICTION_FLOOR_M = 1e-3


def _array(values: Any) -> npt.NDArray[Any]:
    # Tensors are known by their `detach`, so arrays are scored without torch being imported.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def _same_shape(what: str, shape: tuple[int, ...], true_shape: tuple[int, ...]) -> None:
    if shape != true_shape:
        raise CompressError(
            f"{what} has shape {shape} but the ground truth has {true_shape}; "
            "resize the prediction to the ground truth before scoring it"
        )


def _valid_pixels(pred: FloatArray, true: FloatArray, valid: BoolArray) -> FloatArray:
    """Return the valid pixels as (2, P), predictions first, refusing non-finite predictions."""
    p, t = pred[valid], true[valid]
    bad = int((~np.isfinite(p)).sum())
    if bad:
        raise CompressError(
            f"{bad} of {p.size} predictions at valid pixels are NaN or infinite; "
            "the network has diverged, or its output is not a depth in metres"
        )
    return np.stack([p, t])


def _terms(p: FloatArray, t: FloatArray) -> FloatArray:
    """Return each metric's sum over pixels (8,), in the order of `METRICS`, before any root."""
    ratio = np.maximum(p / t, t / p)
    error = p - t
    log_error = np.log(p) - np.log(t)
    deltas = [ratio < 1.25**k for k in (1, 2, 3)]
    errors = [np.abs(error) / t, error**2 / t, error**2, log_error**2]
    log10 = np.abs(log_error) / math.log(10)
    return np.array([term.sum() for term in (*deltas, *errors, log10)], dtype=np.float64)


def _finish(means: FloatArray) -> FloatArray:
    """Take the roots of the two mean squares: mean terms (8,) -> metrics (8,)."""
    out = means.copy()
    for name in ("rmse", "rmse_log"):
        out[METRICS.index(name)] = math.sqrt(out[METRICS.index(name)])
    return out


def _named(values: FloatArray) -> dict[str, float]:
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
    pred, true = _array(pred_m).astype(np.float64), _array(true_m).astype(np.float64)
    _same_shape("the prediction", pred.shape, true.shape)
    valid: BoolArray = np.isfinite(true) & (true > 0)
    if mask is not None:
        chosen = _array(mask)
        _same_shape("the mask", chosen.shape, true.shape)
        valid &= chosen.astype(np.bool_)
    if not valid.any():
        raise CompressError(
            f"none of the {true.size} pixels is valid (mask true, ground truth finite and above 0)"
        )
    p, t = _valid_pixels(pred, true, valid)
    return _named(_finish(_terms(np.maximum(p, PREDICTION_FLOOR_M), t) / t.size))


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


_CHOICES: dict[str, tuple[str, ...]] = {
    "split": ("heldout", "validation"),
    "crop": tuple(CROPS),
    "alignment": ("none", "median"),
    "averaging": ("per-image", "pooled"),
}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _metres(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < cast(float, value) < math.inf


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


@dataclass(frozen=True)
class Protocol:
    """Everything that decides what a depth figure means.

    Args:
        dataset: name of the data set.
        split: "heldout", or "validation" for what a search may look at.
        split_hash: hash of the list of images scored.
        images: number of images in the split.
        size: network input (H, W) in pixels; scoring itself is at ground-truth size.
        crop: a name in `CROPS`.
        min_depth_m: ground truth must lie strictly above this; predictions are raised to it.
        cap_m: ground truth must lie strictly below this; predictions are lowered to it.
        alignment: "none", or "median": predictions are scaled image by image to the true median.
            Unusual for metric depth, and it hides errors of scale.
        flip_average: whether predictions were averaged with those of the mirrored image.
        averaging: "per-image": mean of the images' metrics; "pooled": over all pixels at once.

    Raises:
        CompressError: a value outside what is allowed.
    """

    dataset: str
    split: str
    split_hash: str
    images: int
    size: tuple[int, int]
    crop: str = "none"
    min_depth_m: float = 1e-3
    cap_m: float = 10.0
    alignment: str = "none"
    flip_average: bool = False
    averaging: str = "per-image"

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown(f"protocol {name}", getattr(self, name), allowed)
        size, low, high = self.size, self.min_depth_m, self.cap_m
        pair = isinstance(size, tuple) and len(size) == 2
        rules = (
            ("dataset", _text(self.dataset), "a non-empty text"),
            ("split_hash", _text(self.split_hash), "a non-empty text"),
            ("images", _whole(self.images), "a whole number above 0"),
            ("size", pair and all(map(_whole, size)), "(height, width) in whole pixels above 0"),
            ("flip_average", isinstance(self.flip_average, bool), "true or false"),
            ("min_depth_m", _metres(low), "a number of metres above 0"),
            ("cap_m", _metres(low) and _metres(high) and low < high, "finite, above min_depth_m"),
        )
        for name, holds, wanted in rules:
            if not holds:
                raise CompressError(
                    f"protocol {name} must be {wanted}, got {getattr(self, name)!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them (the size as a list)."""
        return asdict(self) | {"size": list(self.size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """Read what `to_dict` wrote; unknown, missing and wrong values are refused."""
        names = [f.name for f in fields(cls)]
        for key in values:
            if key not in names:
                raise unknown("protocol key", key, names)
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
        if missing:
            raise CompressError(f"protocol lacks {', '.join(missing)}")
        size = values["size"]
        return cls(**{**values, "size": tuple(size) if isinstance(size, list) else size})

    def describe(self) -> str:
        """Return the protocol as one line for people."""
        scale = "no alignment" if self.alignment == "none" else f"{self.alignment} alignment"
        flip = "flip average" if self.flip_average else "no flip average"
        mean = "per-image mean" if self.averaging == "per-image" else "pooled pixels"
        return (
            f"{self.dataset} {self.split}, {self.images} images (split {self.split_hash}), "
            f"input {self.size[0]}x{self.size[1]}, crop {self.crop}, "
            f"{self.min_depth_m:g} < depth < {self.cap_m:g} m, {scale}, {flip}, {mean}"
        )


class MetricAccumulator:
    """Score images one at a time under a protocol; `images` counts them.

    An image without a valid pixel is left out and counted in `skipped`.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.images = 0
        self.skipped = 0
        self._pixels = 0
        self._pooled = np.zeros(len(METRICS))  # sums of terms over pixels
        self._per_image = np.zeros(len(METRICS))  # sums of finished metrics over images

    def add(self, pred_m: Any, true_m: Any) -> None:
        """Add one image: prediction and ground truth (H, W) in metres.

        Valid are pixels inside the crop with min_depth_m < ground truth < cap_m, both strict as
        in public KITTI and NYU evaluators. Alignment comes before clamping, as there.

        Raises:
            CompressError: shapes differ or are not (H, W), or a valid prediction is not finite.
        """
        pred, true = _array(pred_m).astype(np.float64), _array(true_m).astype(np.float64)
        _same_shape("the prediction", pred.shape, true.shape)
        if true.ndim != 2:
            raise CompressError(f"an image is scored as (H, W), got shape {true.shape}")
        low, high = self.protocol.min_depth_m, self.protocol.cap_m
        height, width = true.shape
        valid: BoolArray = (true > low) & (true < high)  # false for NaN
        valid &= crop_mask(self.protocol.crop, (height, width))
        if not valid.any():
            self.skipped += 1
            return
        p, t = _valid_pixels(pred, true, valid)
        if self.protocol.alignment == "median":
            median = float(np.median(p))
            if median <= 0:
                raise CompressError(f"cannot align a prediction whose median is {median:g} m")
            p = p * (float(np.median(t)) / median)
        terms = _terms(np.clip(p, low, high), t)
        self._pooled += terms
        self._per_image += _finish(terms / t.size)
        self._pixels += t.size
        self.images += 1

    def result(self) -> dict[str, float]:
        """Return `METRICS` by name under the protocol's averaging.

        Raises:
            CompressError: no image has been scored.
        """
        if not self.images:
            raise CompressError(
                f"no image was scored ({self.skipped} skipped: no pixel valid under "
                f"{self.protocol.describe()})"
            )
        if self.protocol.averaging == "pooled":
            return _named(_finish(self._pooled / self._pixels))
        return _named(self._per_image / self.images)
