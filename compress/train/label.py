"""Labels made by trained networks: images without truth become a folder of pairs to train on."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from compress._files import whole
from compress.data import open_data, resized
from compress.data.arrays import resize_rgb
from compress.data.folder import RGB_SUFFIXES
from compress.errors import CompressError
from compress.models import DepthNet, load
from compress.train.device import default_device
from compress.train.evaluate import predict, predict_both
from compress.train.images import read_image, write_classes
from compress.train.teacher import Teacher

Reading = Callable[[str], Callable[[int, int], None] | None]


def make_labels(
    images: str | Path,
    to: str | Path,
    *,
    teacher: str | Path,
    segmenter: str | Path | None = None,
    calibrate: str | None = None,
    heldout: float = 0.1,
    reading: Reading | None = None,
    **data_options: Any,
) -> dict[str, Any]:
    """Label a folder of images with a teacher's depth, and a joint network's class maps.

    The result is read as ``folder:TO``: copies of the images, depth as ``.npy`` in metres, class
    maps as ``.png``, and the lists. What is there already is kept, so that an interrupted run
    goes on.

    Args:
        images: a folder of RGB images.
        to: the folder to write.
        teacher: a model file.
        segmenter: the model file of a network with a segmentation head.
        calibrate: data with truth, as ``open_data`` takes it (``data_options`` are its options):
            the teacher's mean error by distance is measured on its training list and taken out.
        heldout: share of the images, at the end of the list, that is held out.
        reading: is told what is read; returns a callback for (done, of), or None.

    Returns:
        ``train`` and ``heldout``, the numbers of images; ``compensated``, pairs of distance and
        mean error in metres.

    Raises:
        CompressError: no images, or anything wrong with models or data.

    Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight Neural
    Network" (labels made by teachers, depth compensated by distance).
    """
    if not 0 <= heldout < 1:
        raise CompressError(f"heldout = {heldout:g}: give a share from 0 to below 1, as in 0.1")
    told = reading or (lambda what: None)
    source, target = Path(images), Path(to)
    if not source.is_dir():
        raise CompressError(f"{source}: is no folder of images")
    files = sorted(f for f in source.rglob("*") if f.suffix.lower() in RGB_SUFFIXES)
    if len(files) < 2:
        raise CompressError(
            f"{source}: found {len(files)} images ({', '.join(RGB_SUFFIXES)}); at least 2 are "
            "needed, one to train on and one held out"
        )
    deep = load(teacher).to(default_device())
    classes = None
    if segmenter is not None:
        classes = load(segmenter).to(default_device())
        if not classes.classes:
            raise CompressError(f"{segmenter}: has no segmentation head to make class maps with")
    compensation = None
    if calibrate is not None:
        dataset = open_data(calibrate, **data_options)
        frames = dataset.train or dataset.heldout
        arrays = resized(frames, deep.size, progress=told("calibration images"))
        compensation = Teacher(deep).compensated(arrays, dataset.cap_m).compensation
    for part in ("rgb", "depth", *(("labels",) if classes is not None else ())):
        (target / part).mkdir(parents=True, exist_ok=True)
    progress = told("images")
    lines = []
    for number, file in enumerate(files, 1):
        name = _named(file.relative_to(source))
        line = [f"rgb/{name}{file.suffix.lower()}", f"depth/{name}.npy"]
        rgb: npt.NDArray[np.uint8] | None = None
        if not (target / line[1]).exists():
            rgb = read_image(file)
            depth_m = predict(deep, rgb)
            if compensation:
                depth_m = compensation(depth_m)
            with whole(target / line[1]) as path, path.open("wb") as out:
                np.save(out, depth_m.astype(np.float16))
        if classes is not None:
            line.append(f"labels/{name}.png")
            if not (target / line[2]).exists():
                map_ = segment(classes, read_image(file) if rgb is None else rgb)
                write_classes(target / line[2], map_)
        if not (target / line[0]).exists():
            with whole(target / line[0]) as path:
                shutil.copyfile(file, path)
        lines.append(" ".join(line))
        if progress:
            progress(number, len(files))
    held = max(1, round(heldout * len(lines)))
    for name, part in (("train.txt", lines[:-held]), ("heldout.txt", lines[-held:])):
        with whole(target / name) as path:
            path.write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
    table = (
        list(zip(compensation.depth_m, compensation.error_m, strict=True)) if compensation else []
    )
    return {
        "train": len(lines) - held,
        "heldout": held,
        "compensated": table,
        "folder": str(target),
    }


def segment(model: DepthNet, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Classes (H, W) uint8 of one RGB image (H, W, 3) uint8 of any size, by a joint network."""
    small = torch.from_numpy(resize_rgb(rgb, model.size).copy())
    _, maps = predict_both(model, small[None], precision="float32")
    if maps is None:
        raise CompressError("this network has no segmentation head")
    height, width = rgb.shape[:2]
    grown = Image.fromarray(maps[0]).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(grown)


def _named(path: Path) -> str:
    """A file name without blanks or folders, which a list can hold; unique for each path."""
    plain = re.sub(r"[^\w.-]+", "-", path.with_suffix("").as_posix())
    return plain if plain == path.with_suffix("").name else f"{plain}-{_digest(path)}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.as_posix().encode()).hexdigest()[:8]
