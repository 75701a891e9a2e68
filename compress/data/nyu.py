"""NYU Depth v2 in the three forms it travels in."""

from __future__ import annotations

import csv
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.files import (
    FileFrames,
    Pair,
    clean_depth,
    folder_name,
    natural,
    stat_digest,
)
from compress.data.splits import cut_validation, read_lines, warn_of_overlap
from compress.data.types import Dataset, Frames, Sample, Subset
from compress.errors import CompressError

SIZE = (480, 640)
CAP_M = 10.0
CROP = "nyu"
MAT = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
_KNOWN = (
    f"{MAT} (with {SPLITS} beside it), a folder with data/nyu2_test.csv, or a folder with "
    "train/ and val/ of .h5 files"
)


def open_nyu(path: Path, *, cap_m: float = CAP_M, seed: int = 0) -> Dataset:
    """Open NYU Depth v2: the labelled .mat, DenseDepth's CSV folder or FastDepth's HDF5 folders.

    Raises ``CompressError`` when ``path`` is none of them or a file is missing or broken.

    Source: Silberman et al., ECCV 2012 (labelled set); Alhashim and Wonka, arXiv 1812.11941
    (CSV folder); Wofk et al., ICRA 2019 (HDF5 folders).
    """
    if path.is_file():
        return _labelled(path, cap_m, seed)
    for mat in (path / MAT, *sorted(path.glob("*.mat"))):
        if mat.is_file() and mat.name != SPLITS:
            return _labelled(mat, cap_m, seed)
    for folder in (path / "data", path):
        if (folder / "nyu2_test.csv").is_file():
            return _csv_folder(folder, cap_m)
    if (path / "val").is_dir():
        return _h5_folders(path, cap_m)
    raise CompressError(f"nyu:{path}: is none of the known forms: {_KNOWN}")


# The labelled .mat ------------------------------------------------------------------------------


class LabelledMat(Frames):
    """The frames of the labelled .mat: ``images`` (N, 3, W, H) and ``depths`` (N, W, H) in metres.

    The file is opened when a frame is first asked for, and again in a forked process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._pid = 0
        with _hdf5(path) as file:
            shapes = {key: file[key].shape for key in ("images", "depths") if key in file}
        images, depths = shapes.get("images", ()), shapes.get("depths", ())
        if len(images) != 4 or images[1] != 3 or images[:1] + images[2:] != depths:
            raise CompressError(
                f"{path}: images {images or 'missing'} and depths {depths or 'missing'} are not "
                f"(N, 3, W, H) and (N, W, H); give {MAT} as published"
            )
        self._names = [f"labelled/{i + 1:04d}" for i in range(images[0])]
        self._fingerprint = stat_digest([path])

    @property
    def names(self) -> Sequence[str]:
        """``labelled/NNNN``, counted from 1 as the official split does."""
        return self._names

    @property
    def fingerprint(self) -> str:
        """Size and time of the file."""
        return self._fingerprint

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_pid": 0}

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        if self._file is None or self._pid != os.getpid():
            self._file, self._pid = _hdf5(self._path), os.getpid()
        try:
            number = range(len(self))[index]
            rgb = np.asarray(self._file["images"][number])  # (3, W, H)
            depth = np.asarray(self._file["depths"][number])  # (W, H)
        except (OSError, KeyError, RuntimeError, ValueError) as broken:
            raise CompressError(f"{self._path}: frame {name} is broken ({broken})") from broken
        pixels = np.ascontiguousarray(rgb.transpose(2, 1, 0), dtype=np.uint8)
        return Sample(pixels, clean_depth(depth.T), name)


def _labelled(path: Path, cap_m: float, seed: int) -> Dataset:
    frames = LabelledMat(path)
    split = _official_split(path.parent, len(frames))
    if split is not None:
        train, test = (Subset(frames, indices) for indices in split)
        warn_of_overlap(path, train, test)
        return Dataset("nyu:labelled", train, test, SIZE, cap_m, crop=CROP)
    warnings.warn(
        f"{path.parent} has no {SPLITS} (nor train.txt and test.txt of frame numbers from 1): the "
        "frames are split in blocks, and figures do not compare with the official 795/654 split",
        stacklevel=3,
    )
    # 654 of 1449 as officially, so that at least the amounts are alike.
    cut = cut_validation(frames, 654 / 1449, 20, seed, gap=2)
    return Dataset("nyu:labelled (not the official split)", *cut, SIZE, cap_m, crop=CROP)


def _official_split(folder: Path, count: int) -> tuple[list[int], list[int]] | None:
    """0-based (train, test) indices from splits.mat or from lists of 1-based numbers."""
    if (folder / SPLITS).is_file():
        source: Path = folder / SPLITS
        arrays = read_mat(source)
        if not {"trainNdxs", "testNdxs"} <= set(arrays):
            raise CompressError(
                f"{source}: holds {', '.join(sorted(arrays)) or 'nothing'}; the official file "
                "holds trainNdxs and testNdxs"
            )
        lists = [arrays[key].ravel().tolist() for key in ("trainNdxs", "testNdxs")]
    elif (folder / "train.txt").is_file() and (folder / "test.txt").is_file():
        source = folder / "test.txt"
        lists = []
        for path in (folder / "train.txt", source):
            rows = [(n, word) for n, line in read_lines(path) for word in line.split()]
            wrong = [f"{path}:{n}: {word!r}" for n, word in rows if not word.isdecimal()]
            if wrong:
                raise CompressError(f"{wrong[0]} is no frame number; give whole numbers from 1")
            lists.append([int(word) for _, word in rows])
    else:
        return None
    for numbers in lists:
        wild = [n for n in numbers if not 1 <= n <= count]
        if wild:
            raise CompressError(f"{source}: names frame {wild[0]}; the .mat has 1 to {count}")
        if not numbers:
            raise CompressError(f"{source}: one of its two lists is empty; fetch it again")
    train, test = ([int(n) - 1 for n in numbers] for numbers in lists)
    return train, test


def read_mat(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Read the real numeric arrays of a MATLAB file, version 5 (or 7.3, which is HDF5).

    Raises ``CompressError`` for anything else.

    Source: MathWorks, MAT-File Format, "Level 5 MAT-File Format".
    """
    import h5py

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return {k: np.asarray(v) for k, v in file.items() if isinstance(v, h5py.Dataset)}
        data = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}[data[126:128]]
        arrays = {}
        for kind, body in _elements(data[128:], order):
            if kind == 15:  # compressed: one element inside
                kind, body = _elements(zlib.decompress(body), order)[0]
            if kind == 14 and len(parts := _elements(body, order)) >= 4:
                if parts[3][0] not in _NUMERIC:
                    continue
                shape = np.frombuffer(parts[1][1], f"{order}i4")
                values = np.frombuffer(parts[3][1], order + _NUMERIC[parts[3][0]])
                if values.size == shape.prod():
                    arrays[parts[2][1].decode("latin-1")] = values.reshape(shape, order="F")
        return arrays
    except (OSError, KeyError, IndexError, ValueError, struct.error, zlib.error) as broken:
        raise CompressError(
            f"{path}: is no MATLAB 5 or 7.3 file ({broken!r}); fetch it again, or write "
            "train.txt and test.txt of frame numbers beside the .mat instead"
        ) from broken


# Data types of the MAT-file format that hold numbers.
_NUMERIC = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_NUMERIC |= {12: "i8", 13: "u8"}


def _elements(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """The (type, bytes) elements of a stretch of a MAT-file, each padded to 8 bytes."""
    found, at = [], 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a small element: size and type share a word, the data follow in 4 bytes
            found.append((kind & 0xFFFF, data[at + 4 : at + 4 + (kind >> 16)]))
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError(f"ends within an element of {size} bytes")
        found.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size + (-size % 8 if kind != 15 else 0)
    return found


# DenseDepth's folder and FastDepth's folders ----------------------------------------------------


def _csv_folder(folder: Path, cap_m: float) -> Dataset:
    """nyu2_train.csv: 8-bit depth, 255 = 10 m; nyu2_test.csv: 16-bit millimetres."""
    train_list, test_list = folder / "nyu2_train.csv", folder / "nyu2_test.csv"
    test = FileFrames(_csv_pairs(test_list), test_list, scale=1000, bits=16)
    train = None
    if train_list.is_file():
        train = FileFrames(_csv_pairs(train_list), train_list, scale=25.5, bits=8)
    warn_of_overlap(folder, train, test)
    return Dataset("nyu:densedepth", train, test, SIZE, cap_m, crop=CROP)


def _csv_pairs(path: Path) -> list[Pair]:
    rows = []
    for number, line in read_lines(path):
        row = [field.strip() for field in next(csv.reader([line]))]
        if len(row) != 2:
            raise CompressError(f"{path}:{number}: {line!r}; a row is 'RGB,DEPTH'")
        rows.append((row[0], row[1]))
    # The archive's rows start at "data/"; re-packed copies count from the CSV's own folder.
    first = rows[0][0]
    base = next((b for b in (path.parent.parent, path.parent) if (b / first).exists()), path.parent)
    return [Pair(rgb, base / rgb, base / depth) for rgb, depth in rows]


class H5Frames(Frames):
    """One HDF5 file per frame: ``rgb`` (3, H, W) uint8 and ``depth`` (H, W) in metres."""

    def __init__(self, root: Path) -> None:
        found = [(p.relative_to(root).as_posix(), p) for p in root.rglob("*.h5")]
        found.sort(key=lambda item: natural(item[0]))
        if not found:
            raise CompressError(f"{root}: has no .h5 files; known forms: {_KNOWN}")
        self._names = [f"{root.name}/{name}" for name, _ in found]
        self._paths = [path for _, path in found]
        self._fingerprint = stat_digest(self._paths)

    @property
    def names(self) -> Sequence[str]:
        """Paths from the data set's folder."""
        return self._names

    @property
    def fingerprint(self) -> str:
        """Names, sizes and times of the files."""
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        try:
            with _hdf5(path) as file:
                rgb, depth = np.asarray(file["rgb"]), np.asarray(file["depth"])
        except (OSError, KeyError, RuntimeError) as broken:
            raise CompressError(f"{path}: cannot be read ({broken}); fetch it again") from broken
        if rgb.ndim != 3 or rgb.shape != (3, *depth.shape) or rgb.dtype != np.uint8:
            raise CompressError(
                f"{path}: rgb {rgb.dtype} {rgb.shape} and depth {depth.shape} are not uint8 "
                "(3, H, W) and (H, W)"
            )
        pixels = np.ascontiguousarray(rgb.transpose(1, 2, 0))
        return Sample(pixels, clean_depth(depth), self._names[index])


def _h5_folders(root: Path, cap_m: float) -> Dataset:
    train = H5Frames(root / "train") if (root / "train").is_dir() else None
    name = f"nyu:fastdepth ({folder_name(root)})"
    return Dataset(name, train, H5Frames(root / "val"), SIZE, cap_m, crop=CROP)


def _hdf5(path: Path) -> Any:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as broken:
        raise CompressError(
            f"{path}: cannot be read as HDF5 ({broken}); fetch the file again. Known: {_KNOWN}"
        ) from broken
