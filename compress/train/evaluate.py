"""Scoring a network under a named protocol, and predicting single images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data import Dataset, Frames, resized
from compress.data.arrays import resize_rgb
from compress.metrics import MetricAccumulator, Protocol, flip_average
from compress.models import DepthNet, normalised
from compress.train.device import autocast
from compress.train.scores import Scores

# Ground truth at its own size is kept between the rungs of a search up to this many bytes.
TRUTH_BYTES = 1 << 29


@dataclass(frozen=True)
class Evaluation:
    """Metrics and the protocol they were taken under; ``skipped`` images had no valid pixel.

    Beside depth in metres: ``whdr`` where the data has ordered pairs, ``si_rmse`` where its depth
    has no unit, ``mean_iou`` and ``pixel_accuracy`` of a joint network (at its own size).
    """

    metrics: dict[str, float]
    protocol: Protocol
    skipped: int = 0

    def __getitem__(self, name: str) -> float:
        """One metric by name, as in ``evaluation["delta1"]``."""
        return self.metrics[name]

    def to_dict(self) -> dict[str, Any]:
        """Metric names, ``images`` and ``protocol``, as ``compress evaluate --json`` prints."""
        return {
            **self.metrics,
            "images": self.protocol.images - self.skipped,
            "skipped": self.skipped,
            "protocol": self.protocol.to_dict(),
        }


class Scorer:
    """One split, ready to score networks: inputs at network size, truth at its own."""

    def __init__(
        self,
        frames: Frames,
        protocol: Protocol,
        progress: Callable[[int, int], None] | None = None,
        relative: bool = False,
    ) -> None:
        self.frames = frames
        self.protocol = protocol
        self.relative = relative
        self.arrays = resized(frames, protocol.size, progress=progress)
        self._truth: dict[int, npt.NDArray[np.float32]] = {}
        self._kept = 0

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        frames: Frames,
        split: str,
        size: tuple[int, int],
        *,
        crop: str | None = None,
        flip_average: bool = False,
        averaging: str = "per-image",
        alignment: str = "none",
        progress: Callable[[int, int], None] | None = None,
    ) -> Scorer:
        """Make a scorer under the data set's own customs, or those given.

        Depth that has no unit can be scored only once its median is aligned with the truth's.
        """
        if dataset.relative and not frames.most_pairs:
            alignment = "median"
        protocol = Protocol(
            dataset.name,
            split,
            frames.split_hash,
            len(frames),
            size,
            dataset.crop if crop is None else crop,
            dataset.min_depth_m,
            dataset.cap_m,
            alignment,
            flip_average,
            averaging,
        )
        return cls(frames, protocol, progress, dataset.relative)

    def at(self, size: tuple[int, int]) -> Scorer:
        """The same split scored at another network input; the truth is kept once for both."""
        other = copy.copy(self)
        other.protocol = replace(self.protocol, size=size)
        other.arrays = resized(self.frames, size)
        return other

    def __call__(
        self,
        model: DepthNet,
        *,
        batch: int = 16,
        precision: str = "float32",
        progress: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Evaluation:
        """Score ``model``; its training mode is left as it was found.

        In float32, so that a figure is the same on every machine; ``precision="auto"`` is quicker
        and is for figures that nobody quotes, as between a candidate's epochs.
        """
        from compress.train.fit import StoppedError

        accumulator = MetricAccumulator(self.protocol)
        joint = bool(model.classes and self.frames.classes)
        further = Scores(self.protocol, model.classes if joint else 0)
        count = len(self.arrays)
        for start in range(0, count, batch):
            if should_stop and should_stop():
                raise StoppedError
            rgb = torch.from_numpy(self.arrays.rgb[start : start + batch].copy())
            depth_m, maps = predict_both(model, rgb, self.protocol.flip_average, precision)
            for offset, predicted in enumerate(depth_m):
                if self.frames.most_pairs:
                    further.add_pairs(predicted.numpy(), self.frames[start + offset])
                    continue
                truth = self._true_depth(start + offset)
                full = upsample(predicted, truth.shape)
                accumulator.add(full, truth)
                if self.relative:
                    further.add_relative(full, truth)
                if joint and maps is not None and self.arrays.labels is not None:
                    further.add_classes(maps[offset], self.arrays.labels[start + offset])
            if progress:
                progress(min(start + batch, count), count)
        metrics = {} if self.frames.most_pairs else accumulator.result()
        return Evaluation(metrics | further.result(), self.protocol, accumulator.skipped)

    def _true_depth(self, index: int) -> npt.NDArray[np.float32]:
        if index not in self._truth:
            depth_m = self.frames[index].depth_m
            if self._kept + depth_m.nbytes > TRUTH_BYTES:
                return depth_m
            self._truth[index] = depth_m
            self._kept += depth_m.nbytes
        return self._truth[index]


def predict_batch(
    model: DepthNet, rgb: Tensor, flip: bool = False, precision: str = "auto"
) -> Tensor:
    """Predict depth in metres (N, H, W) from uint8 RGB (N, H, W, 3) at network size."""
    return predict_both(model, rgb, flip, precision)[0]


@torch.no_grad()
def predict_both(
    model: DepthNet, rgb: Tensor, flip: bool = False, precision: str = "auto"
) -> tuple[Tensor, npt.NDArray[np.uint8] | None]:
    """Depth as ``predict_batch`` gives it, and a joint network's classes (N, H, W) beside it."""
    training = model.training
    device = next(model.parameters()).device
    image = normalised(rgb.to(device).permute(0, 3, 1, 2))
    image = image.contiguous(memory_format=torch.channels_last)
    model.eval()
    try:
        with autocast(device, precision):
            out = model.outputs(image)
            depth_m = out.depth_m
            if flip:
                depth_m = flip_average(depth_m, model(image.flip(-1)))
    finally:
        model.train(training)
    logits = out.segmentation
    classes = None if logits is None else logits.argmax(1).to(torch.uint8).cpu().numpy()
    return depth_m[:, 0].float().cpu(), classes


def upsample(depth_m: Tensor, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Resize a depth map (h, w) to ``size`` (H, W), bilinear, as benchmarks do before scoring."""
    if tuple(depth_m.shape) == tuple(size):
        return depth_m.numpy()
    map_: Tensor = F.interpolate(
        depth_m[None, None], size=tuple(size), mode="bilinear", align_corners=False
    )
    return map_[0, 0].numpy()


def predict(
    model: DepthNet, rgb: npt.NDArray[np.uint8], flip: bool = False
) -> npt.NDArray[np.float32]:
    """Predict depth in metres (H, W) of one RGB image (H, W, 3) uint8 of any size."""
    small = torch.from_numpy(resize_rgb(rgb, model.size).copy())
    return upsample(predict_batch(model, small[None], flip, "float32")[0], rgb.shape[:2])


def images_of(frames: Frames, count: int) -> Iterator[int]:
    """Indices of ``count`` frames spread evenly over a split."""
    count = min(count, len(frames))
    yield from (round(i * (len(frames) - 1) / max(1, count - 1)) for i in range(count))
