"""What each epoch of a training sees: all of the data, or before that less or smaller images."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compress.data import Arrays
from compress.data.augment import PointPairs
from compress.train.objective import Batch

# On a GPU the whole data set lies in its memory, up to this share of what is free.
GPU_SHARE = 0.5


@dataclass(frozen=True)
class Stage:
    """Epochs up to and including ``until``, from 1, train on ``data``, or on ``frames`` of it."""

    until: int
    data: Arrays
    frames: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.data) if self.frames is None else len(self.frames)


class Feed:
    """A stage's data as batches, in a new order each epoch; ``steps`` of them make an epoch."""

    def __init__(self, stage: Stage, batch: int, device: torch.device) -> None:
        self.stage, self.data, self.device = stage, stage.data, device
        self.size = min(batch, len(stage))
        self.steps = max(1, len(stage) // batch)
        self._on_gpu = self._upload() if device.type == "cuda" else None

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Each epoch's batches in a new order; images are uint8 still."""
        order = torch.randperm(len(self.stage), generator=generator)
        if self.stage.frames is not None and not self._on_gpu:
            order = torch.from_numpy(self.stage.frames)[order]
        for start in range(0, self.steps * self.size, self.size):
            chosen = order[start : start + self.size]
            if self._on_gpu:
                parts = [part[chosen.to(self.device)] for part in self._on_gpu]
            else:
                index = chosen.sort().values.numpy()  # memory maps are read in file order
                parts = [torch.from_numpy(a[index]).to(self.device) for a in self._parts()]
            yield self._batch(parts)

    def _parts(self) -> list[npt.NDArray[Any]]:
        """The data's arrays: images, depth, and labels or pairs where it has them."""
        data = self.data
        parts: list[npt.NDArray[Any]] = [data.rgb, data.depth_m]
        if data.labels is not None:
            parts.append(data.labels)
        if data.pairs is not None:
            parts += [data.pairs.coordinates, data.pairs.order, data.pairs.valid]
        return parts

    def _batch(self, parts: list[Tensor]) -> Batch:
        rgb, depth_m, *rest = parts
        labels = rest.pop(0) if self.data.labels is not None else None
        pairs = PointPairs(*rest) if rest else None
        return Batch(rgb.permute(0, 3, 1, 2), depth_m[:, None], labels, pairs)

    def _upload(self) -> list[Tensor] | None:
        free, _ = torch.cuda.mem_get_info(self.device)
        parts = self._parts()
        if sum(part.nbytes for part in parts) > GPU_SHARE * free:
            return None
        frames = self.stage.frames
        return [
            torch.from_numpy(part.copy() if frames is None else part[frames]).to(self.device)
            for part in parts
        ]


class Course:
    """A training's stages in order; which one an epoch belongs to follows from its number alone.

    ``ends`` is the number of steps done by the end of each epoch, over which a schedule is planned.

    Args:
        data: what the last epochs train on.
        stages: what earlier ones do, in order.
        epochs: of the whole training.
        batch: images a step.
        device: where batches are wanted.
    """

    def __init__(
        self,
        data: Arrays,
        stages: Sequence[Stage],
        epochs: int,
        batch: int,
        device: torch.device,
    ) -> None:
        self.stages = (*stages, Stage(epochs, data))
        bounds = [0, *(stage.until for stage in self.stages)]
        assert all(a < b for a, b in pairwise(bounds)), bounds
        self._batch, self._device = batch, device
        steps = [max(1, len(self._stage(epoch)) // batch) for epoch in range(epochs)]
        self.ends = list(accumulate(steps))
        self._feed: Feed | None = None

    def feed(self, epoch: int) -> Feed:
        """The batches of an epoch, counted from 0; one stage's data is held at a time."""
        stage = self._stage(epoch)
        if self._feed is None or self._feed.stage is not stage:
            self._feed = None  # room for the next on a GPU
            self._feed = Feed(stage, self._batch, self._device)
        return self._feed

    def passed(self, step: int) -> float:
        """How many epochs, with fractions, ``step`` steps are."""
        if len(self.stages) == 1:
            return step / self.ends[0]
        epoch = bisect_left(self.ends, step)
        before = self.ends[epoch - 1] if epoch else 0
        return epoch + (step - before) / (self.ends[epoch] - before)

    def described(self) -> list[list[int]]:
        """Last epoch, images, height and width of each stage before the last one."""
        return [
            [stage.until, len(stage), *map(int, stage.data.rgb.shape[1:3])]
            for stage in self.stages[:-1]
        ]

    def _stage(self, epoch: int) -> Stage:
        return next(stage for stage in self.stages if epoch < stage.until)


def spread(frames: int, share: float, least: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A share of so many frames, at least ``least``: one drawn from each stretch of equal length.

    Drawn, because in data that alternates (rooms and streets, left and right) every second frame
    would be of one kind.

    >>> spread(40, 0.25, 8).tolist(), len(spread(40, 0.25, 16)), len(spread(10, 0.5, 16))
    ([3, 6, 10, 13, 17, 20, 24, 28, 32, 39], 16, 10)
    """
    count = min(frames, max(least, round(share * frames), 1))
    edges = np.linspace(0, frames, count + 1).round().astype(np.int64)
    found: npt.NDArray[np.int64] = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return found
