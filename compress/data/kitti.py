"""KITTI raw images with the annotated LiDAR depth, listed as the Eigen split lists them."""

from __future__ import annotations

import warnings
from pathlib import Path

from compress.data.files import FileFrames, Pair
from compress.data.splits import read_lines, split_fields, warn_of_overlap
from compress.data.types import Dataset
from compress.errors import CompressError

SIZE = (384, 1280)
CAP_M = 80.0
CROP = "garg"
SCALE = 256.0
CAMERAS = {"l": "image_02", "r": "image_03"}
TRAIN, TEST = "train_files.txt", "test_files.txt"


def open_kitti(root: Path, *, split: str | None = None, cap_m: float = CAP_M) -> Dataset:
    """Open KITTI raw with annotated depth (16-bit PNG, metres x 256, 0 = no measurement).

    The lists ``train_files.txt`` and ``test_files.txt`` lie in ``root``, or ``split`` names a
    folder or a prefix of both, or one of the two, or a held-out list of another name; a line is
    ``DATE/DRIVE FRAME l|r``. Frames without annotated depth are left out and counted in the
    name. Raises ``CompressError`` for bad lists, a missing image, or no depth at all.

    Source: Geiger et al., IJRR 2013; Uhrig et al., 3DV 2017 (annotated depth); Eigen et al.,
    NeurIPS 2014 (split: 697 test images, 652 of them annotated).
    """
    train_list, test_list = _lists(root, split)
    heldout, listed = _frames(root, test_list)
    train = _frames(root, train_list)[0] if train_list else None
    warn_of_overlap(test_list, train, heldout)
    name = "kitti"
    if len(heldout) < listed:
        name = f"kitti ({len(heldout)} of {listed} held-out frames have depth)"
    return Dataset(name, train, heldout, SIZE, cap_m, crop=CROP)


def _lists(root: Path, split: str | None) -> tuple[Path | None, Path]:
    """The (train, test) lists; train may be missing."""
    if split is None:
        tries = [root]
    else:
        given = Path(split).expanduser()
        tries = [given] if given.is_absolute() else [Path.cwd() / given, root / given]
    for base in tries:
        if base.is_file():
            return _siblings(base)
        for stem in ("",) if base.is_dir() else ("", "_", "-"):
            train, test = (
                base / f if base.is_dir() else base.with_name(base.name + stem + f)
                for f in (TRAIN, TEST)
            )
            if test.is_file():
                return (train if train.is_file() else None), test
    looked = " or ".join(str(base) for base in tries)
    raise CompressError(
        f"no list of held-out frames at {looked}; put {TRAIN} and {TEST} there, or name a file, a "
        "folder or a prefix with --split"
    )


def _siblings(path: Path) -> tuple[Path | None, Path]:
    if path.name.endswith(TRAIN):
        test = path.with_name(path.name.removesuffix(TRAIN) + TEST)
        if not test.is_file():
            raise CompressError(f"{path} has no {test.name} beside it; the held-out list is needed")
        return path, test
    if path.name.endswith(TEST):
        train = path.with_name(path.name.removesuffix(TEST) + TRAIN)
        return (train if train.is_file() else None), path
    return None, path


def _frames(root: Path, list_path: Path) -> tuple[FileFrames, int]:
    """The frames of a list that have depth, and how many it lists."""
    pairs: list[Pair] = []
    without: list[str] = []
    rows = read_lines(list_path)
    for number, line in rows:
        where = f"{list_path}:{number}"
        drive, frame, side = split_fields(line, where, "DATE/DRIVE FRAME l|r")
        if side not in CAMERAS or not (frame.isascii() and frame.isdecimal()) or "/" not in drive:
            raise CompressError(
                f"{where}: {line!r}; a line is 'DATE/DRIVE FRAME l|r', as in "
                "'2011_09_26/2011_09_26_drive_0002_sync 0000000069 l'"
            )
        camera, stem = CAMERAS[side], f"{int(frame):010d}"
        bases = _bases(root, drive)
        images = [b / camera / "data" / f"{stem}{e}" for b in bases for e in (".png", ".jpg")]
        rgb = next((path for path in images if path.is_file()), None)
        if rgb is None:
            raise CompressError(
                f"{where}: there is no {images[0]} (nor .jpg); add the drive's images, or take "
                "the line out"
            )
        depths = [b / "proj_depth" / "groundtruth" / camera / f"{stem}.png" for b in bases]
        depth = next((path for path in depths if path.is_file()), None)
        name = f"{drive} {stem} {side}"
        if depth is None:
            without.append(f"{name} ({depths[0]})")
        else:
            pairs.append(Pair(name, rgb, depth))
    if not pairs:
        raise CompressError(
            f"{list_path}: none of its {len(rows)} frames has annotated depth, the first is "
            f"{without[0]}; put the annotated depth there, or under {root / 'train'} and "
            f"{root / 'val'} as published"
        )
    if without:
        warnings.warn(
            f"{list_path}: {len(without)} of {len(rows)} frames have no annotated depth and are "
            f"left out, {len(pairs)} stay",
            stacklevel=3,
        )
    return FileFrames(pairs, list_path, scale=SCALE, bits=16), len(rows)


def _bases(root: Path, drive: str) -> list[Path]:
    """Where a drive's folders may lie: the raw layout, then the annotated depth's own."""
    name = drive.rsplit("/", 1)[1]
    tops = (root, root / "data_depth_annotated")
    return [root / drive, *(top / part / name for top in tops for part in ("train", "val"))]
