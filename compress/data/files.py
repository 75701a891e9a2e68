"""Colour and depth files: decoding them, and frames read from pairs of them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compress.data.types import NO_CLASS, RGB, Depth, Frames, Labels, Sample
from compress.errors import CompressError

# Pillow's mode of a single-channel image -> bits per value; "F" is float and holds metres.
_DEPTH_BITS = {"L": 8, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 0}


@dataclass(frozen=True)
class Pair:
    """One frame on disk: its stable name, its colour image, its depth map, maybe a class map."""

    name: str
    rgb: Path
    depth: Path
    labels: Path | None = None


class FileFrames(Frames):
    """Frames read from pairs of files when asked for.

    A depth file holds integers of ``1 / scale`` metres (``invalid`` and 0 mean no measurement)
    or floats in metres; ``bits`` demands that many bits per value; ``read`` reads other kinds
    of file instead. With ``classes`` every pair has a class map. ``source`` says in messages where
    the pairs were listed. A pair whose file is missing raises ``CompressError`` here, a
    file that cannot be read raises it when its frame is asked for.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        source: object,
        *,
        scale: float,
        invalid: float = 0,
        bits: int | None = None,
        read: Callable[[Path], Depth] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        if not pairs:
            raise CompressError(f"{source}: no frame is listed; at least one is needed")
        self._pairs = list(pairs)
        self._names = [pair.name for pair in pairs]
        self._scale = positive("the depth scale (units per metre)", scale)
        self._invalid = invalid
        self._bits = bits
        self._read = read
        self._classes = tuple(classes)
        files = [path for pair in pairs for path in (pair.rgb, pair.depth)]
        if classes:
            files += [pair.labels for pair in pairs if pair.labels]
            assert len(files) == 3 * len(pairs), "a pair without a class map"
        missing = [path for path in files if not path.exists()]
        if missing:
            raise CompressError(
                f"{source}: {len(missing)} of {len(files)} files are missing, the first is "
                f"{missing[0]}; add the missing files or take their frames out of the list"
            )
        decoding = [f"{self._scale!r} {invalid!r}", *self._classes]
        if read is not None:
            decoding.append(read.__qualname__)
        self._fingerprint = stat_digest(files, [*self._names, *decoding])

    @property
    def names(self) -> Sequence[str]:
        """A stable name for each frame, in order."""
        return self._names

    @property
    def fingerprint(self) -> str:
        """Names, file sizes and times, and how depth is decoded."""
        return self._fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        """What the numbers of the class maps mean; empty where there are none."""
        return self._classes

    def __getitem__(self, index: int) -> Sample:
        pair = self._pairs[index]
        rgb = read_rgb(pair.rgb)
        if self._read is not None:
            depth = self._read(pair.depth)
        else:
            depth = read_depth(pair.depth, self._scale, invalid=self._invalid, bits=self._bits)
        labels = None
        if self._classes and pair.labels:
            labels = read_labels(pair.labels)
            highest = int(labels.max(initial=0, where=labels != NO_CLASS))
            if highest >= len(self._classes):
                raise CompressError(
                    f"{pair.labels}: has class {highest} where there are {len(self._classes)}, "
                    f"from 0; add it to classes.txt, or write {NO_CLASS} for no class"
                )
        for path, part in ((pair.depth, depth), (pair.labels, labels)):
            if part is not None and rgb.shape[:2] != part.shape:
                raise CompressError(
                    f"{pair.rgb} is {rgb.shape[1]}x{rgb.shape[0]} but {path} is "
                    f"{part.shape[1]}x{part.shape[0]}; a pair has one size: register depth to "
                    "colour"
                )
        return Sample(rgb, depth, pair.name, labels)


def positive(what: str, value: float) -> float:
    """Return ``value``; one that is not a finite positive number raises ``CompressError``."""
    if not (math.isfinite(value) and value > 0):
        raise CompressError(f"{what} is {value}; give a finite number above 0")
    return float(value)


def read_rgb(path: Path) -> RGB:
    """Read a colour image as (H, W, 3) uint8; raises ``CompressError`` naming a bad file."""
    mode, pixels = decode(path, colour=True)
    if mode.startswith(("I", "F")):
        raise CompressError(
            f"{path}: {mode!r} pixels are a depth map's, not a colour image's; "
            "colour comes first, then depth"
        )
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def read_depth(path: Path, scale: float, *, invalid: float = 0, bits: int | None = None) -> Depth:
    """Read a depth map as (H, W) float32 metres, 0 where nothing was measured.

    Integers are divided by ``scale`` (units per metre), floats are metres; ``invalid``, NaN,
    infinite, zero and negative values become 0. Raises ``CompressError`` naming a bad file.
    """
    if path.suffix.lower() == ".npy":
        raw = _load_npy(path)
    else:
        mode, raw = decode(path, colour=False)
        if mode not in _DEPTH_BITS:
            raise CompressError(
                f"{path}: {mode!r} pixels are not depth; give a single-channel 8-bit or 16-bit "
                "PNG or a 2-D .npy"
            )
        if bits is not None and _DEPTH_BITS[mode] != bits:
            raise CompressError(
                f"{path}: {_DEPTH_BITS[mode]}-bit depth where this format has {bits}-bit; "
                "take the file from the original archive, or list the frames for folder:"
            )
    depth = raw.astype(np.float64)
    if raw.dtype.kind in "iu":
        depth /= scale
    depth[raw == invalid] = 0
    return clean_depth(depth)


def read_labels(path: Path) -> Labels:
    """Read a class map as (H, W) uint8, from an 8-bit grey or palette image."""
    mode, pixels = decode(path, colour=False)
    if mode not in ("L", "P"):
        raise CompressError(
            f"{path}: {mode!r} pixels are no class map; give an 8-bit single-channel PNG with the "
            f"class's number in each pixel, {NO_CLASS} for none"
        )
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def clean_depth(depth: npt.NDArray[np.floating]) -> Depth:
    """Return ``depth`` (H, W) as float32 with 0 for NaN, infinite and negative values."""
    with np.errstate(over="ignore"):
        metres = np.array(depth, dtype=np.float32, order="C")
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    return metres


def _load_npy(path: Path) -> npt.NDArray[np.generic]:
    try:
        with path.open("rb") as file:
            raw = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as broken:  # a damaged header is parsed as Python source
        raise CompressError(_unreadable(path, "a plain .npy array", broken)) from broken
    if raw.ndim != 2 or raw.dtype.kind not in "iuf":
        raise CompressError(
            f"{path}: holds {raw.dtype} of shape {raw.shape}; depth is (H, W) of floats in "
            "metres or of integers"
        )
    return raw


def decode(path: Path, *, colour: bool) -> tuple[str, npt.NDArray[np.generic]]:
    """Return Pillow's mode as stored, and the pixels (converted to 8-bit RGB where ``colour``)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode = image.mode
            wanted = image.convert("RGB") if colour and mode[0] not in "IF" else image
            return mode, np.asarray(wanted)
    except Exception as broken:  # Pillow raises almost anything on damaged bytes
        raise CompressError(_unreadable(path, "an image", broken)) from broken


def _unreadable(path: Path, kind: str, broken: Exception) -> str:
    reason = "no such file" if isinstance(broken, FileNotFoundError) else str(broken)
    return f"{path}: cannot be read as {kind} ({reason}); replace it or take its frame out"


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``frame2`` before ``frame10``."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts)]


def stat_digest(files: Sequence[Path], extra: Sequence[str] = ()) -> str:
    """Return 16 hex digits of the files' names, sizes and times and of ``extra``."""
    digest = hashlib.sha256("\n".join(extra).encode())
    for path in files:
        stat = path.stat()
        digest.update(f"\0{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def folder_name(path: Path) -> str:
    """Return the last part of a path, to name a data set without where it lies."""
    return path.resolve().name


def native_size(path: Path) -> tuple[int, int]:
    """Return an image's (H, W), each rounded down to a multiple of 32 (32 at least).

    Networks halve their input up to five times; raises ``CompressError`` naming a bad file.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception as broken:  # as in decode
        raise CompressError(_unreadable(path, "an image", broken)) from broken
    return max(height // 32, 1) * 32, max(width // 32, 1) * 32
