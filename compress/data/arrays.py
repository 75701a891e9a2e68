"""Frames brought once to the network's input size and kept as memory-mapped arrays."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from compress.data.types import RGB, Depth, Frames, Labels, Pairs, Sample
from compress.errors import CompressError

# Raised when resizing or the layout of a cached folder changes, so that old ones are not read.
FORMAT = 1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Arrays:
    """Frames of one size: ``rgb`` (N, H, W, 3) uint8, ``depth_m`` (N, H, W) float32, 0 = none.

    Where frames have them, ``labels`` is (N, H, W) uint8 and ``pairs`` holds (N, P, 4), (N, P)
    and (N, P), P the most that any frame has. The arrays are read-only and usually memory maps.
    """

    rgb: npt.NDArray[np.uint8]
    depth_m: npt.NDArray[np.float32]
    names: tuple[str, ...]
    labels: npt.NDArray[np.uint8] | None = None
    pairs: Pairs | None = None

    def __len__(self) -> int:
        return len(self.names)


def default_cache_dir() -> Path:
    """Return ``$COMPRESS_CACHE``, or ``~/.cache/depth-compress`` where it is not set."""
    chosen = os.environ.get("COMPRESS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    try:
        return Path.home() / ".cache" / "depth-compress"
    except RuntimeError:  # a user without a home folder
        return Path(tempfile.gettempdir()) / "depth-compress"


def resized(
    frames: Frames,
    size: tuple[int, int],
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Arrays:
    """Return all frames at ``size`` (H, W), from the cache where it has them.

    Colour is resized with antialiasing, depth as ``resize_depth`` and class maps as
    ``resize_labels`` do; pairs of points are where they were. The cache lies in
    ``cache_dir`` (``default_cache_dir()``); where it cannot be written the arrays stay in memory,
    with a warning. ``progress`` gets (frames done, frames in all). Raises ``CompressError`` for a
    bad size, no frames, or a frame that cannot be read.
    """
    height, width = size
    if height < 1 or width < 1:
        raise CompressError(f"the size is {height}x{width}; give (H, W) of at least 1x1")
    if len(frames) == 0:
        raise CompressError("there are no frames to resize; give a split that has some")
    folder = (cache_dir or default_cache_dir()).expanduser()
    key = f"{FORMAT} {frames.fingerprint} {frames.split_hash} {height}x{width}"
    if frames.classes:  # a cache of its own: one made without class maps stays as it is
        key = "\n".join((key, *frames.classes))
    target = folder / f"frames-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    layout = _layout(frames, size)
    arrays = _load(target, frames.names, layout)
    if arrays is not None:
        return arrays
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=folder))
        try:
            _write(draft, _frames_at(frames, size, progress), frames.names, layout)
            _replace(draft, target, frames.names, layout)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        arrays = _load(target, frames.names, layout)
        if arrays is not None:
            return arrays
        reason = "what was written does not read back"
    except OSError as broken:
        reason = str(broken)
    warnings.warn(
        f"the cache {folder} cannot be used ({reason}); the resized frames stay in memory and are "
        "made again next time: set COMPRESS_CACHE to a folder with room",
        stacklevel=2,
    )
    made = {name: np.empty(shape, kind) for name, (kind, shape) in layout.items()}
    for i, parts in enumerate(_frames_at(frames, size, progress)):
        for array, part in zip(made.values(), parts, strict=True):
            array[i] = part
    for array in made.values():
        array.flags.writeable = False
    return _arrays(made, frames.names)


def resize_rgb(rgb: RGB, size: tuple[int, int]) -> RGB:
    """Resize (H, W, 3) to ``size`` (h, w), antialiased bilinear."""
    if rgb.shape[:2] == tuple(size):
        return rgb
    from PIL import Image

    bilinear = Image.Resampling.BILINEAR  # Pillow widens the kernel when shrinking
    return np.asarray(Image.fromarray(rgb).resize((size[1], size[0]), bilinear))


def resize_depth(depth_m: Depth, size: tuple[int, int]) -> Depth:
    """Resize (H, W) metres to ``size`` (h, w) without mixing depths or losing sparse ones.

    Each target cell takes the measured pixel of its own area that is nearest to its centre, 0
    if there is none; where the target is finer than the source, the nearest pixel.
    """
    if depth_m.shape == tuple(size):
        return depth_m
    order, starts = _cells(depth_m.shape[0], depth_m.shape[1], *size)
    values = depth_m.ravel()[order]
    rank = np.where(values > 0, np.arange(values.size, dtype=np.int32), values.size - 1)
    # Ranks ascend within a cell, so a cell with nothing measured keeps the very last value, which
    # is some other cell's: tell it by its rank lying outside the cell, or by being 0 itself.
    first = np.minimum.reduceat(rank, starts)
    inside = first < np.append(starts[1:], values.size)
    return np.where(inside, values[first], np.float32(0)).reshape(size)


def resize_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """Resize a class map (H, W) to ``size`` (h, w): of each target cell, the pixel at its centre.

    Of several equally near ones it is the one whose depth ``resize_depth`` takes too.
    """
    if labels.shape == tuple(size):
        return labels
    order, starts = _cells(labels.shape[0], labels.shape[1], *size)
    return labels.ravel()[order[starts]].reshape(size)


@functools.lru_cache(maxsize=8)
def _cells(
    height: int, width: int, rows: int, columns: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Flat source indices grouped by target cell, nearest to its centre first, and group starts."""
    source_y, cell_y, off_y = _axis(height, rows)
    source_x, cell_x, off_x = _axis(width, columns)
    # In units of 1 / (2 * rows * columns) pixels distances are whole, and equal ones tie exactly.
    distance = ((off_y * columns)[:, None] ** 2 + (off_x * rows)[None] ** 2).ravel()
    cell = (cell_y[:, None] * columns + cell_x[None]).ravel()
    source = (source_y[:, None] * width + source_x[None]).ravel()
    order = np.lexsort((distance, cell))  # stable: ties go to the upper left
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    return source[order].astype(np.int32), starts


def _axis(
    length: int, cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Along one axis: source pixels, the cell each serves, 2 * cells * their distance."""
    source = np.arange(length)
    cell = (2 * source + 1) * cells // (2 * length)  # the cell that holds the pixel's centre
    empty = np.setdiff1d(np.arange(cells), cell)
    nearest = (2 * empty + 1) * length // (2 * cells)  # the pixel that holds the cell's centre
    source, cell = np.concatenate([source, nearest]), np.concatenate([cell, empty])
    return source, cell, (2 * source + 1) * cells - (2 * cell + 1) * length


Part = npt.NDArray[np.generic]
Layout = dict[str, tuple[str, tuple[int, ...]]]  # of each array, in the order of a frame's parts


def _layout(frames: Frames, size: tuple[int, int]) -> Layout:
    count, most = len(frames), frames.most_pairs
    layout: Layout = {"rgb": ("|u1", (count, *size, 3)), "depth_m": ("<f4", (count, *size))}
    if frames.classes:
        layout["labels"] = ("|u1", (count, *size))
    if most:
        layout["coordinates"] = ("<f4", (count, most, 4))
        layout["order"] = ("|i1", (count, most))
        layout["valid"] = ("|b1", (count, most))
    return layout


def _frames_at(
    frames: Frames, size: tuple[int, int], progress: Progress | None
) -> Iterator[list[Part]]:
    """Each frame's parts, in the order of ``_layout``."""
    for i, sample in enumerate(frames):
        parts: list[Part] = [resize_rgb(sample.rgb, size), resize_depth(sample.depth_m, size)]
        if frames.classes:
            assert sample.labels is not None, f"{sample.name} of a labelled split has no labels"
            parts.append(resize_labels(sample.labels, size))
        if frames.most_pairs:
            parts.extend(_padded(sample, frames.most_pairs))
        yield parts
        if progress is not None:
            progress(i + 1, len(frames))


def _padded(sample: Sample, most: int) -> Pairs:
    """A frame's pairs, filled up to ``most`` with invalid ones."""
    full = Pairs(np.zeros((most, 4), np.float32), np.zeros(most, np.int8), np.zeros(most, bool))
    if sample.pairs is not None:
        own = slice(len(sample.pairs.order))
        full.coordinates[own], full.order[own], full.valid[own] = sample.pairs
    return full


def _arrays(made: Mapping[str, npt.NDArray[Any]], names: Sequence[str]) -> Arrays:
    pairs = Pairs(made["coordinates"], made["order"], made["valid"]) if "valid" in made else None
    return Arrays(made["rgb"], made["depth_m"], tuple(names), made.get("labels"), pairs)


def _write(
    folder: Path, frames: Iterator[list[Part]], names: Sequence[str], layout: Layout
) -> None:
    """Stream frames to .npy files; a full disk is an ``OSError``, as it is not in a memory map."""
    with contextlib.ExitStack() as stack:
        files = []
        for name, (kind, shape) in layout.items():
            file = stack.enter_context((folder / f"{name}.npy").open("wb"))
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            files.append((file, kind))
        for parts in frames:
            for (file, kind), part in zip(files, parts, strict=True):
                file.write(np.ascontiguousarray(part, dtype=kind).tobytes())
        for file, _ in files:
            _settle(file)
    with (folder / "frames.json").open("wb") as index:
        index.write(json.dumps({"format": FORMAT, "names": list(names)}).encode())
        _settle(index)


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _replace(draft: Path, target: Path, names: Sequence[str], layout: Layout) -> None:
    """Rename ``draft`` to ``target`` unless another process has put a whole one there."""
    if target.exists() and _load(target, names, layout) is None:
        shutil.rmtree(target)
    try:
        draft.rename(target)
    except OSError:
        if _load(target, names, layout) is None:
            raise


def _load(folder: Path, names: Sequence[str], layout: Layout) -> Arrays | None:
    """Open a cached folder; None where anything about it is not as it was written."""
    try:
        index = json.loads((folder / "frames.json").read_bytes())
        if index != {"format": FORMAT, "names": list(names)}:
            return None
        found = {}
        for name, (kind, shape) in layout.items():
            path = folder / f"{name}.npy"
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            whole = array.offset + array.nbytes == path.stat().st_size
            if array.dtype != np.dtype(kind) or array.shape != shape or not whole:
                return None
            found[name] = array
    except (OSError, ValueError, EOFError, SyntaxError, AttributeError):
        return None
    return _arrays(found, names)
