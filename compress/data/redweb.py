"""ReDWeb: photographs with dense relative depth, from stereo pairs found on the web."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from compress.data.files import FileFrames, Pair, decode, folder_name, natural
from compress.data.splits import read_lines, warn_of_overlap
from compress.data.types import Dataset, Depth
from compress.errors import CompressError

SIZE = (384, 384)  # images are of all shapes, upright ones too
CAP_M = 80.0  # medians; what is farther is as good as the horizon
IMAGES, MAPS = "Imgs", "RDs"
TRAIN, VAL = "train.txt", "val.txt"
HELDOUT = 0.1
_SUFFIXES = (".jpg", ".jpeg", ".png")
_FULL = {"L": 255, "I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": 65535}


def open_redweb(root: Path, *, seed: int = 0) -> Dataset:
    """Open a folder laid out as ReDWeb V1: ``Imgs/NAME.jpg`` and ``RDs/NAME.png``.

    ``train.txt`` and ``val.txt`` name the images of each part, one on a line; without them, 10 %
    are held out by a hash of their names. Depth is ``read_relative``'s. Raises ``CompressError``
    for missing files and bad lists.

    Source: Xian et al., CVPR 2018.
    """
    images, maps = _by_stem(root / IMAGES, _SUFFIXES), _by_stem(root / MAPS, (".png",))
    whole = sorted(images, key=natural)
    for stem in whole:
        if stem not in maps:
            raise CompressError(
                f"{images[stem]} has no {root / MAPS / stem}.png; add it, or remove the image"
            )
    name = f"redweb:{folder_name(root)}"
    if (root / VAL).exists():
        held = _listed(root / VAL, images)
        kept = _listed(root / TRAIN, images) if (root / TRAIN).exists() else []
    elif (root / TRAIN).exists():
        raise CompressError(
            f"{root} has {TRAIN} but no {VAL}; write it too, or rename {TRAIN} to have the folder "
            "split by name"
        )
    else:
        if len(whole) < 2:
            raise CompressError(f"{root} has {len(whole)} images; a split needs at least 2")
        # Photographs of unrelated places: neighbours in the list are no nearer than others.
        drawn = sorted(whole, key=lambda s: hashlib.sha256(f"{seed} {s}".encode()).digest())
        cut = set(drawn[: max(round(len(whole) * HELDOUT), 1)])
        held, kept = [s for s in whole if s in cut], [s for s in whole if s not in cut]
        name += " (split by name)"

    def frames(stems: list[str]) -> FileFrames:
        pairs = [Pair(f"{IMAGES}/{images[s].name}", images[s], maps[s]) for s in stems]
        return FileFrames(pairs, root, scale=1.0, read=read_relative)

    train, heldout = frames(kept) if kept else None, frames(held)
    warn_of_overlap(name, train, heldout)
    return Dataset(name, train, heldout, SIZE, CAP_M, relative=True)


def read_relative(path: Path) -> Depth:
    """Read a ReDWeb map as (H, W) float32 depth without unit, its median 1, 0 for the background.

    A map is a *negative* disparity of 8 or 16 bits: 0 is nearest, the highest value is sky or
    background. Depth is the inverse of (highest - value). The disparity of the highest value is
    published nowhere and taken as 0, so the order of depths is sure, their ratios less so.

    Source: Ranftl et al.'s reading of the files, github.com/isl-org/MiDaS, issue 16.
    """
    mode, pixels = decode(path, colour=False)
    if mode not in _FULL:
        raise CompressError(
            f"{path}: {mode!r} pixels are no relative depth; give a single-channel 8-bit or "
            "16-bit PNG, 0 nearest"
        )
    disparity = _FULL[mode] - pixels.astype(np.float32)
    measured = disparity > 0
    if not measured.any():
        return np.zeros(disparity.shape, np.float32)
    disparity[~measured] = np.inf
    depth: Depth = np.median(disparity[measured]) / disparity
    return depth.astype(np.float32)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    if not folder.is_dir():
        raise CompressError(
            f"{folder} is missing; a ReDWeb folder holds {IMAGES}/NAME.jpg and {MAPS}/NAME.png"
        )
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes}
    if not found:
        raise CompressError(f"{folder} holds no {' or '.join(suffixes)}; add the images")
    return found


def _listed(list_path: Path, images: dict[str, Path]) -> list[str]:
    """Names of a list as stems: ``NAME``, ``NAME.jpg`` and ``Imgs/NAME.jpg`` are all understood."""
    stems = []
    for number, line in read_lines(list_path):
        name = line.rsplit("/", 1)[-1]
        stem = name if name in images else Path(name).stem
        if stem not in images:
            raise CompressError(
                f"{list_path}:{number}: there is no image {line!r} in {IMAGES}/; a line is the "
                "name of one"
            )
        stems.append(stem)
    return stems
