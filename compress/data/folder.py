"""Folders of colour and depth pairs, listed by the user or found by name, and TUM RGB-D."""

from __future__ import annotations

import bisect
import functools
import warnings
from collections.abc import Iterable
from pathlib import Path

from compress.data.files import (
    FileFrames,
    Pair,
    folder_name,
    native_size,
    natural,
    read_labels,
)
from compress.data.splits import cut_heldout, read_lines, split_fields, warn_of_overlap
from compress.data.types import NO_CLASS, Dataset
from compress.errors import CompressError

CAP_M = 10.0
TUM_SCALE = 5000.0
TUM_TOLERANCE_S = 0.02
RGB_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
DEPTH_SUFFIXES = (".png", ".npy", ".tif", ".tiff")


def open_folder(
    root: Path,
    *,
    depth_scale: float = 1000.0,
    cap_m: float = CAP_M,
    seed: int = 0,
    invalid: float = 0,
    labels: bool = False,
) -> Dataset:
    """Open a folder of pairs: lists ``train.txt`` and ``heldout.txt``, or pairs found by name.

    A list line is ``RGB DEPTH [LABELS]``, relative to the folder; with ``heldout.txt`` alone there
    is nothing to train on. Without lists, ``rgb/NAME.*`` goes with ``depth/NAME.*`` and
    ``NAME_rgb.*`` with ``NAME_depth.*``; sorted by name, 20 % are held out in blocks. Depth
    files are integers of ``1 / depth_scale`` metres (``invalid`` and 0 mean no measurement) or
    ``.npy`` of floats in metres. With ``labels`` every line names a class map, an 8-bit PNG;
    ``classes.txt`` has a class on each line, from 0 on (without it they are named by number).
    Raises ``CompressError`` for missing files and bad lists.
    """
    train_list, heldout_list = root / "train.txt", root / "heldout.txt"
    frames_of = functools.partial(FileFrames, scale=depth_scale, invalid=invalid)
    if heldout_list.exists():
        pairs = _listed(root, heldout_list, labels)
        listed = _listed(root, train_list, labels) if train_list.exists() else []
        classes = _classes(root, [*listed, *pairs]) if labels else ()
        heldout = frames_of(pairs, heldout_list, classes=classes)
        train = frames_of(listed, train_list, classes=classes) if listed else None
        warn_of_overlap(root, train, heldout)
        size = native_size(pairs[0].rgb)
        return Dataset(f"folder:{folder_name(root)}", train, heldout, size, cap_m)
    if train_list.exists():
        raise CompressError(
            f"{root} has train.txt but no heldout.txt; write it too, or rename train.txt to have "
            "the folder split by name"
        )
    if labels:
        raise CompressError(
            f"class maps are asked for, but {root} has no lists that name them; write train.txt "
            "and heldout.txt with lines 'RGB DEPTH LABELS'"
        )
    pairs = _found(root)
    kept, cut = cut_heldout(frames_of(pairs, root), seed)
    size = native_size(pairs[0].rgb)
    return Dataset(f"folder:{folder_name(root)} (split by name)", kept, cut, size, cap_m)


def _listed(root: Path, list_path: Path, labels: bool) -> list[Pair]:
    pairs = []
    for number, line in read_lines(list_path):
        where = f"{list_path}:{number}"
        rgb, depth, *rest = split_fields(line, where, "RGB DEPTH", "LABELS")
        if rest and not rest[0].lower().endswith(".png"):  # a focal length, or a name with blanks
            raise CompressError(
                f"{where}: {line!r} has 3 fields where a line is 'RGB DEPTH [LABELS]' and LABELS "
                "is a .png; take the third out, or quote names with blanks in them"
            )
        if labels and not rest:
            raise CompressError(
                f"{where}: {line!r} names no class map; where they are asked for, a line is "
                "'RGB DEPTH LABELS'"
            )
        pairs.append(Pair(rgb, root / rgb, root / depth, root / rest[0] if rest else None))
    return pairs


def _classes(root: Path, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """The names in classes.txt, else a number for each class up to the highest in any map."""
    path = root / "classes.txt"
    if path.exists():
        names = tuple(line for _, line in read_lines(path))
        if len(names) > NO_CLASS or len(set(names)) < len(names):
            raise CompressError(
                f"{path}: lists {len(names)} classes, {len(set(names))} of them different; write "
                f"each once, {NO_CLASS} at most"
            )
        return names
    highest = 0
    for pair in pairs:
        assert pair.labels is not None
        labels = read_labels(pair.labels)
        highest = max(highest, int(labels.max(initial=0, where=labels != NO_CLASS)))
    return tuple(str(number) for number in range(highest + 1))


def _found(root: Path) -> list[Pair]:
    """Pair the files of rgb/ and depth/, or those named _rgb and _depth, by name."""
    if (root / "rgb").is_dir() and (root / "depth").is_dir():
        where = f"{root}: rgb/ and depth/"
        rgb = _by_stem((root / "rgb").iterdir(), RGB_SUFFIXES, "")
        depth = _by_stem((root / "depth").iterdir(), DEPTH_SUFFIXES, "")
    else:
        where = f"{root}: *_rgb.* and *_depth.*"
        rgb = _by_stem(root.iterdir(), RGB_SUFFIXES, "_rgb")
        depth = _by_stem(root.iterdir(), DEPTH_SUFFIXES, "_depth")
    both = sorted(set(rgb) & set(depth), key=natural)
    if not both:
        raise CompressError(
            f"{root}: found no pairs; write train.txt and heldout.txt with lines 'RGB DEPTH', or "
            "name the files rgb/NAME.* and depth/NAME.*, or NAME_rgb.* and NAME_depth.*"
        )
    lone = sorted(set(rgb) ^ set(depth), key=natural)
    if lone:
        warnings.warn(
            f"{where}: {len(lone)} files have no partner of the same name and are left out, "
            f"the first is {lone[0]!r}",
            stacklevel=3,
        )
    return [Pair(rgb[stem].relative_to(root).as_posix(), rgb[stem], depth[stem]) for stem in both]


def _by_stem(files: Iterable[Path], suffixes: tuple[str, ...], ending: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(files):
        if path.suffix.lower() not in suffixes or not path.stem.endswith(ending):
            continue
        stem = path.stem.removesuffix(ending)
        if stem in found:
            raise CompressError(
                f"{found[stem]} and {path} both claim the frame {stem!r}; remove one of them, or "
                "write train.txt and heldout.txt"
            )
        found[stem] = path
    return found


def open_tum(root: Path, *, cap_m: float = CAP_M, seed: int = 0) -> Dataset:
    """Open a TUM RGB-D sequence, its colour and depth images matched by time within 0.02 s.

    An ``associations.txt`` (``TIME RGB TIME DEPTH``) is followed where there is one, else
    ``rgb.txt`` and ``depth.txt`` (``TIME NAME``) are matched to the nearest, one to one. Depth is
    in 1/5000 m; 20 % of the frames are held out in blocks. Raises ``CompressError`` for missing
    files and bad lists.

    Source: Sturm et al., IROS 2012, and the benchmark's file formats page.
    """
    listed = root / "associations.txt"
    if listed.exists():
        names = []
        for number, line in read_lines(listed):
            where = f"{listed}:{number}"
            _, rgb, _, depth = split_fields(line, where, "TIME RGB TIME DEPTH")
            if Path(rgb).parent.name == "depth" and Path(depth).parent.name == "rgb":
                rgb, depth = depth, rgb  # the public tool writes either order
            names.append((rgb, depth))
    else:
        listed = root / "rgb.txt"
        colours, depths = _timed(root / "rgb.txt"), _timed(root / "depth.txt")
        matches = associate([t for t, _ in colours], [t for t, _ in depths], TUM_TOLERANCE_S)
        names = [(colours[i][1], depths[j][1]) for i, j in matches]
        if not names:
            raise CompressError(
                f"{root}: no image of rgb.txt is within {TUM_TOLERANCE_S} s of one of depth.txt; "
                "check the time stamps, or write associations.txt"
            )
    pairs = [Pair(rgb, root / rgb, root / depth) for rgb, depth in names]
    train, heldout = cut_heldout(FileFrames(pairs, listed, scale=TUM_SCALE), seed)
    size = native_size(pairs[0].rgb)
    return Dataset(f"tum:{folder_name(root)} (split by time)", train, heldout, size, cap_m)


def _timed(path: Path) -> list[tuple[float, str]]:
    rows = []
    for number, line in read_lines(path):
        stamp, name = split_fields(line, f"{path}:{number}", "TIME NAME")
        try:
            rows.append((float(stamp), name))
        except ValueError:
            raise CompressError(
                f"{path}:{number}: {stamp!r} is no time stamp; a line is 'TIME NAME' in seconds"
            ) from None
    return sorted(rows)


def associate(first: list[float], second: list[float], tolerance: float) -> list[tuple[int, int]]:
    """Match two sorted lists of times one to one, nearest pairs first, within ``tolerance`` s.

    >>> associate([0.0, 1.0, 2.0], [0.01, 1.5, 2.0], 0.02)
    [(0, 0), (2, 2)]
    """
    close: list[tuple[float, int, int]] = []
    for i, time in enumerate(first):
        low = bisect.bisect_left(second, time - tolerance)
        high = bisect.bisect_right(second, time + tolerance)
        close.extend((abs(second[j] - time), i, j) for j in range(low, high))
    matched: dict[int, int] = {}
    used: set[int] = set()
    for _, i, j in sorted(close):
        if i not in matched and j not in used:
            matched[i] = j
            used.add(j)
    return sorted(matched.items())
