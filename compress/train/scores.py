"""What is scored beside depth in metres: relative depth, ordered pairs, class maps."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from compress.data import NO_CLASS, Sample
from compress.metrics import Protocol, confusion, crop_mask, segmentation_scores, si_rmse, whdr


class Scores:
    """Sums of the further metrics over images; only what was added is in ``result``.

    ``whdr``: share of ordered pairs told wrongly. ``si_rmse``: scale-invariant error of log depth,
    a mean over images. ``mean_iou`` and ``pixel_accuracy`` of class maps, over all pixels.
    """

    def __init__(self, protocol: Protocol, classes: int = 0) -> None:
        self.protocol = protocol
        self._wrong = 0.0
        self._pairs = 0
        self._si: list[float] = []
        self._counts = np.zeros((classes, classes), np.int64)

    def add_pairs(self, depth_m: npt.NDArray[np.float32], sample: Sample) -> None:
        """Compare a predicted map (H, W) with one image's ordered pairs."""
        assert sample.pairs is not None
        count = int(sample.pairs.valid.sum())
        if count:
            self._wrong += count * whdr(np.log(depth_m), *sample.pairs)
            self._pairs += count

    def add_relative(self, depth_m: npt.NDArray[np.float32], true: npt.NDArray[np.float32]) -> None:
        """Compare a predicted map (H, W) with relative depth (H, W), 0 = none."""
        valid = (true > 0) & crop_mask(self.protocol.crop, true.shape)
        if valid.any():
            self._si.append(si_rmse(depth_m, true, valid))

    def add_classes(self, told: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> None:
        """Count predicted and true classes (H, W) of an image; others than these are left out."""
        count = len(self._counts)
        self._counts += confusion(told, np.where(true < count, true, NO_CLASS), count)

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        found: dict[str, float] = {}
        if self._pairs:
            found["whdr"] = self._wrong / self._pairs
        if self._si:
            found["si_rmse"] = math.fsum(self._si) / len(self._si)
        if self._counts.any():
            found |= segmentation_scores(self._counts)
        return found
