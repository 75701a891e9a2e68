"""Class maps of rendered scenes: the list of classes, and their cache beside the scenes' own."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compress.data.types import NO_CLASS, Labels

# Rooms and streets share one list, so that one network learns both; it is never reordered.
SCENE_CLASSES = (
    "wall",  # with its skirting and pictures
    "floor",  # with its rug
    "ceiling",  # with its lights
    "door",
    "window",  # of a room; those of a house are part of it
    "cupboard",
    "seat",
    "bed",
    "table",
    "box",
    "plant",
    "lamp",
    "road",
    "pavement",
    "grass",
    "building",
    "vehicle",
    "person",
    "sky",
)
NUMBER = {name: number for number, name in enumerate(SCENE_CLASSES)}
SKY = NUMBER["sky"]
assert len(SCENE_CLASSES) < NO_CLASS


def cached_classes(
    folder: Path,
    drawings: Sequence[Callable[[], Labels]],
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> Labels:
    """Return the class maps (N, H, W) of the scenes in ``folder``, drawing them if need be.

    ``drawings`` draws each scene's map. They are a file of their own, so that scenes drawn
    without them stay as they are.
    """
    path = folder / "classes.npy"
    labels = _load(path, drawings, size)
    if labels is not None:
        return labels
    labels = np.empty((len(drawings), *size), np.uint8)
    for i, draw in enumerate(drawings):
        labels[i] = draw()
        if progress is not None:
            progress(i + 1, len(drawings))
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            np.save(file, labels)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        warnings.warn(
            f"cannot keep the class maps in {folder} ({error}): they are drawn again next time; "
            "set COMPRESS_CACHE to a folder you can write",
            stacklevel=4,
        )
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return labels
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _load(
    path: Path, drawings: Sequence[Callable[[], Labels]], size: tuple[int, int]
) -> Labels | None:
    try:
        labels: Labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if labels.shape != (len(drawings), *size) or labels.dtype != np.uint8:
        return None
    for i in (0, -1):  # as for depth: processors round differently
        if (labels[i] == drawings[i]()).mean() < 0.98:
            return None
    return labels
