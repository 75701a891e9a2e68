"""What a data set hands to the rest of the program."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]
Depth = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

NO_CLASS = 255  # of a pixel in a class map


class Pairs(NamedTuple):
    """Pairs of points of which it is known only which one is farther: one frame's, or N frames'.

    ``coordinates`` (..., P, 4) float32 holds y and x of point A, then of point B, from 0 to 1
    across the image: the centre of pixel i of n is at (i + 0.5) / n. ``order`` (..., P) int8 is
    +1 where A is farther, -1 where A is closer, 0 where both are equally far. ``valid`` (..., P)
    is False for what only fills up the array.
    """

    coordinates: npt.NDArray[np.float32]
    order: npt.NDArray[np.int8]
    valid: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One frame at its native resolution.

    ``rgb`` is (H, W, 3) uint8; ``depth_m`` is (H, W) float32 in metres, 0 where nothing was
    measured (never NaN, negative or infinite); in data whose ``Dataset.relative`` is set, it has
    no unit. ``labels`` is (H, W) uint8, an index into ``Frames.classes`` or ``NO_CLASS``.
    """

    rgb: RGB
    depth_m: Depth
    name: str
    labels: Labels | None = None
    pairs: Pairs | None = None


class Frames(ABC):
    """A read-only sequence of samples: one split of one data set."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """A stable name for each frame, in order."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Read frame ``index``; a broken file raises ``CompressError`` that names it."""

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    @property
    def classes(self) -> tuple[str, ...]:
        """What the numbers of the samples' class maps mean; empty where there are no such maps."""
        return ()

    @property
    def most_pairs(self) -> int:
        """No frame has more ordered pairs of points than this; 0 where frames have none."""
        return 0

    @property
    def split_hash(self) -> str:
        """12 hex digits that name exactly this list of frames."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:12]

    @property
    def fingerprint(self) -> str:
        """What a cache of these frames depends on: names and, for files, their size and time."""
        return self.split_hash


class Subset(Frames):
    """Some frames of another split, in the order given."""

    def __init__(self, frames: Frames, indices: Sequence[int]) -> None:
        self._frames = frames
        self._indices = list(indices)
        self._names = [frames.names[i] for i in self._indices]

    @property
    def names(self) -> Sequence[str]:
        """A stable name for each frame, in order."""
        return self._names

    def __getitem__(self, index: int) -> Sample:
        return self._frames[self._indices[index]]

    @property
    def classes(self) -> tuple[str, ...]:
        """The parent's."""
        return self._frames.classes

    @property
    def most_pairs(self) -> int:
        """The parent's."""
        return self._frames.most_pairs

    @property
    def fingerprint(self) -> str:
        """The parent's fingerprint and the frames taken from it."""
        return hashlib.sha256((self._frames.fingerprint + self.split_hash).encode()).hexdigest()[
            :16
        ]


@dataclass(frozen=True)
class Dataset:
    """A data set as the user named it: two splits and how it is evaluated by custom.

    ``train`` may be None (evaluation-only data). ``size`` is the default network input (H, W).
    ``crop`` is a name of ``compress.metrics.CROPS``; depths outside ``min_depth_m`` ..
    ``cap_m`` are not scored. ``zoom`` is the smallest share of an image that a training view
    should show (``compress.data.augment``): few real images need views to generalise, while
    rendered scenes are many and their fixed camera is itself a cue. ``classes`` are those of the
    frames. ``relative`` data knows no metres: only ratios or the order of its depths mean
    anything.
    """

    name: str
    train: Frames | None
    heldout: Frames
    size: tuple[int, int]
    cap_m: float
    min_depth_m: float = 1e-3
    crop: str = "none"
    zoom: float = 0.6
    relative: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the frames' class maps; empty where there are no such maps."""
        return self.heldout.classes
