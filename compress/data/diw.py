"""Depth in the Wild: photographs with one pair of points each, of which one is farther."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from compress.data.files import folder_name, read_rgb, stat_digest
from compress.data.splits import read_lines, warn_of_overlap
from compress.data.types import Dataset, Frames, Pairs, Sample
from compress.errors import CompressError

SIZE = (288, 384)  # the published network sees 240x320; these are whole multiples of 32
CAP_M = 80.0  # there is no depth to score; it only bounds what a network predicts
TRAIN = ("DIW_train.csv", "DIW_train_val.csv", "train.csv")
TEST = ("DIW_test.csv", "test.csv")
_LIST_FOLDERS = (".", "DIW_Annotations", "DIW_Annotations_splitted")
_IMAGE_FOLDERS = ("DIW_train_val", "DIW_test", ".")
_ORDER = {">": 1, "<": -1, "=": 0}
_ROW = "'y_A,x_A,y_B,x_B,ORDER,width,height'"


def open_diw(root: Path) -> Dataset:
    """Open Depth in the Wild: ``DIW_train.csv`` and ``DIW_test.csv`` and the images they list.

    In a list, an image's path is followed by its pairs of points, published with one each:
    ``y_A,x_A,y_B,x_B,ORDER,width,height`` in pixels counted from 1, ORDER ``>`` where A is
    farther, ``<`` where B is, ``=`` for equal. An image is looked for where its path says, from
    the folder, then by its name in ``DIW_train_val/``, ``DIW_test/`` and the folder itself.
    Frames have ``pairs`` and no depth at all. Raises ``CompressError`` for a missing test list,
    missing images and bad lines.

    Source: Chen et al., NeurIPS 2016; its DataLoader_DIW.lua (one pair, counted from 1).
    """
    train_list, test_list = _list(root, TRAIN), _list(root, TEST)
    if test_list is None:
        raise CompressError(
            f"diw:{root}: there is no {' or '.join(TEST)}; put the published annotations there"
        )
    heldout = OrderedFrames(root, test_list)
    train = OrderedFrames(root, train_list) if train_list else None
    warn_of_overlap(f"diw:{root}", train, heldout)
    return Dataset(f"diw:{folder_name(root)}", train, heldout, SIZE, CAP_M, relative=True)


class OrderedFrames(Frames):
    """Images of one list, with their pairs of points and depth 0 throughout."""

    def __init__(self, root: Path, list_path: Path) -> None:
        self._names, rows, counts = _read(list_path)
        self._paths = _locate(root, list_path, self._names)
        self._ends = np.cumsum([0, *counts])
        table = np.array(rows, np.float32)
        self._coordinates, self._order = table[:, :4], table[:, 4].astype(np.int8)
        self._most = max(counts)
        content = hashlib.sha256(table.tobytes()).hexdigest()
        self._fingerprint = stat_digest(self._paths, [*self._names, content])

    @property
    def names(self) -> Sequence[str]:
        """The paths as listed."""
        return self._names

    @property
    def most_pairs(self) -> int:
        """Of any image of the list."""
        return self._most

    @property
    def fingerprint(self) -> str:
        """Names, file sizes and times, and the pairs."""
        return self._fingerprint

    def __getitem__(self, index: int) -> Sample:
        rgb = read_rgb(self._paths[index])
        index %= len(self._names)
        own = slice(self._ends[index], self._ends[index + 1])
        order: npt.NDArray[np.int8] = self._order[own].copy()
        pairs = Pairs(self._coordinates[own].copy(), order, np.ones(len(order), bool))
        depth_m = np.zeros(rgb.shape[:2], np.float32)
        return Sample(rgb, depth_m, self._names[index], pairs=pairs)


def _list(root: Path, names: Sequence[str]) -> Path | None:
    tries = (root / folder / name for folder in _LIST_FOLDERS for name in names)
    return next((path for path in tries if path.is_file()), None)


def _read(list_path: Path) -> tuple[list[str], list[tuple[float, ...]], list[int]]:
    """The images of a list, all rows of pairs (coordinates 0 to 1, order), how many each has."""
    names: list[str] = []
    rows: list[tuple[float, ...]] = []
    counts: list[int] = []
    for number, line in read_lines(list_path):
        where = f"{list_path}:{number}"
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 1:
            if counts and counts[-1] == 0:
                raise _without_pair(list_path, names[-1])
            names.append(fields[0])
            counts.append(0)
        elif not names:
            raise CompressError(f"{where}: {line!r}; a list starts with the path of an image")
        else:
            rows.append(_parse(where, line, fields))
            counts[-1] += 1
    if counts[-1] == 0:
        raise _without_pair(list_path, names[-1])
    return names, rows, counts


def _without_pair(list_path: Path, name: str) -> CompressError:
    return CompressError(
        f"{list_path}: {name} has no pair of points; the line after a path is {_ROW}, the file "
        "may have been cut off"
    )


def _parse(where: str, line: str, fields: list[str]) -> tuple[float, ...]:
    if len(fields) != 7:
        raise CompressError(f"{where}: {line!r} has {len(fields)} fields where a pair is {_ROW}")
    *numbers, order = (*fields[:4], *fields[5:], fields[4])
    if order not in _ORDER:
        raise CompressError(
            f"{where}: the order is {order!r}; write > where A is farther, < where B is, = where "
            "both are equally far"
        )
    try:
        y_a, x_a, y_b, x_b, width, height = (float(number) for number in numbers)
    except ValueError:
        raise CompressError(f"{where}: {line!r}; a pair is {_ROW} in pixels") from None
    points = ((y_a, height), (x_a, width), (y_b, height), (x_b, width))
    if not all(1 <= at <= length for at, length in points):
        raise CompressError(
            f"{where}: a point of {line!r} lies outside its image; y is 1 to {height:g}, "
            f"x is 1 to {width:g}"
        )
    return (*((at - 0.5) / length for at, length in points), _ORDER[order])


def _locate(root: Path, list_path: Path, names: Sequence[str]) -> list[Path]:
    """Where each image lies; folders are listed once, not asked for half a million names each."""
    inside = {}
    for folder in _IMAGE_FOLDERS:
        if (root / folder).is_dir():
            inside[root / folder] = {path.name for path in (root / folder).iterdir()}
    paths, missing = [], []
    for name in names:
        base = PurePosixPath(name.replace("\\", "/")).name
        found = next((folder / base for folder, files in inside.items() if base in files), None)
        if (root / name).is_file():
            found = root / name
        if found is None:
            missing.append(name)
        else:
            paths.append(found)
    if missing:
        raise CompressError(
            f"{list_path}: {len(missing)} of {len(names)} images are missing, the first is "
            f"{missing[0]}; put them in {root / _IMAGE_FOLDERS[0]} or {root / _IMAGE_FOLDERS[1]}, "
            "or take them out of the list"
        )
    return paths
