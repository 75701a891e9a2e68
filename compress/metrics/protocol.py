"""The protocol without which a figure says nothing, and images scored under it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, cast

import numpy as np

from compress.errors import CompressError, unknown
from compress.metrics._arrays import BoolArray, array, same_shape, valid_pixels
from compress.metrics.crops import CROPS, crop_mask
from compress.metrics.depth import METRICS, finish, named, terms

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
        pred, true = array(pred_m).astype(np.float64), array(true_m).astype(np.float64)
        same_shape("the prediction", pred.shape, true.shape)
        if true.ndim != 2:
            raise CompressError(f"an image is scored as (H, W), got shape {true.shape}")
        low, high = self.protocol.min_depth_m, self.protocol.cap_m
        height, width = true.shape
        valid: BoolArray = (true > low) & (true < high)  # false for NaN
        valid &= crop_mask(self.protocol.crop, (height, width))
        if not valid.any():
            self.skipped += 1
            return
        p, t = valid_pixels(pred, true, valid)
        if self.protocol.alignment == "median":
            median = float(np.median(p))
            if median <= 0:
                raise CompressError(f"cannot align a prediction whose median is {median:g} m")
            p = p * (float(np.median(t)) / median)
        sums = terms(np.clip(p, low, high), t)
        self._pooled += sums
        self._per_image += finish(sums / t.size)
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
            return named(finish(self._pooled / self._pixels))
        return named(self._per_image / self.images)
