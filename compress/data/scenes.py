"""Rendered scenes: rooms and streets with exact metric depth, the data set that needs no files.

One image is enough to tell the depth: camera height, pitch and focal length are fixed, the ground
is in view, and what stands on it has a known size and a metric pattern.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compress.data._classes import SCENE_CLASSES, SKY, cached_classes
from compress.data._render import Scene, class_image, depth_image, visible
from compress.data._rooms import indoor
from compress.data._streets import outdoor
from compress.data._textures import picture
from compress.data.types import RGB, Dataset, Depth, Frames, Labels, Sample
from compress.errors import CompressError, unknown

# Raise it whenever any scene would come out different: sizes, colours, the order of random draws.
# It is part of every frame name, so figures and caches of two versions never mix.
VERSION = 1
CAPS_M = {"indoor": 10.0, "outdoor": 80.0, "mixed": 80.0}
_BLOCK = 1_000_000  # scene seeds that belong to one data set seed
_HELDOUT_FROM = 900_000  # where its held-out ones start
_HELP_FROM = 200  # frames; fewer are drawn before a second process has started
_LAYOUTS: dict[str, tuple[Callable[[np.random.Generator], Scene], int]] = {
    "indoor": (indoor, 0),  # the number is part of the seed
    "outdoor": (outdoor, 1),
}


def render_scene(
    seed: int, kind: str, size: tuple[int, int] = (96, 128), *, labels: bool = False
) -> Sample:
    """Draw one scene, a pure function of its arguments.

    Args:
        seed: number of the scene, 0 or more; other sizes show the same scene.
        kind: "indoor" (depth to 10 m) or "outdoor" (to 80 m).
        size: height and width in pixels.
        labels: whether to draw the class map too; it changes nothing else.

    Returns:
        An antialiased picture, and the z-depth in metres through the centre of each pixel: 0 in
        the sky and beyond the range. With ``labels``, the class (of ``SCENE_CLASSES``) of what
        that same ray meets: every pixel has one, beyond the range and in the sky too.

    >>> frame = render_scene(7, "indoor", (48, 64))
    >>> frame.name, frame.rgb.shape, bool(frame.depth_m.max() <= 10.0)
    ('scenes-v1/indoor/000007@48x64', (48, 64, 3), True)
    """
    rng, scene = _lay_out(seed, kind, size)
    placed = visible(scene)
    rgb = picture(scene, placed, size, rng)
    depth_m = depth_image(scene, placed, size, CAPS_M[kind])
    classes = class_image(scene, placed, size, SKY) if labels else None
    return Sample(rgb, depth_m, _frame_name(kind, seed, size), classes)


def scene_classes(seed: int, kind: str, size: tuple[int, int] = (96, 128)) -> Labels:
    """Draw the class map of ``render_scene`` alone, (H, W) uint8: several times as fast."""
    _, scene = _lay_out(seed, kind, size)
    return class_image(scene, visible(scene), size, SKY)


def _lay_out(seed: int, kind: str, size: tuple[int, int]) -> tuple[np.random.Generator, Scene]:
    if kind not in _LAYOUTS:
        raise unknown("scene kind", kind, _LAYOUTS)
    if seed < 0 or min(size) < 8:
        raise CompressError(
            f"scene {seed} at {size[0]}x{size[1]}: "
            "the seed must be 0 or more and both sides 8 or more"
        )
    layout, number = _LAYOUTS[kind]
    rng = np.random.Generator(np.random.PCG64([VERSION, number, seed]))
    return rng, layout(rng)


def open_scenes(
    kind: str = "mixed",
    *,
    train: int = 1200,
    heldout: int = 200,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    labels: bool = False,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Open the rendered scenes; the first call draws them, later ones map them from the cache.

    Args:
        kind: "mixed" (rooms and streets in turn), "indoor" or "outdoor".
        train: number of training frames; 0 for none.
        heldout: number of held-out frames, never among the training frames of any ``seed``.
        size: height and width in pixels.
        seed: which scenes; every seed has its own.
        labels: whether frames have class maps; they are drawn when first asked for.
        cache_dir: where to keep the arrays; None for the usual place.
        progress: called with the frames drawn so far and all frames.
    """
    if kind not in CAPS_M:
        raise unknown("scenes kind", kind, CAPS_M)
    most = _BLOCK - _HELDOUT_FROM
    if not (0 <= train <= _HELDOUT_FROM and 1 <= heldout <= most and seed >= 0):
        raise CompressError(
            f"scenes with train={train}, heldout={heldout}, seed={seed}: "
            f"train must be 0 to {_HELDOUT_FROM}, heldout 1 to {most}, seed 0 or more"
        )
    kinds = tuple(_LAYOUTS) if kind == "mixed" else (kind,)
    firsts = [(seed * _BLOCK, train), (seed * _BLOCK + _HELDOUT_FROM, heldout)]
    plan = [(kinds[i % len(kinds)], start + i) for start, count in firsts for i in range(count)]
    key = f"scenes-v{VERSION}-{kind}-{train}+{heldout}-{size[0]}x{size[1]}-seed{seed}"
    folder = (cache_dir or _cache_dir()) / key
    rgb, depth = _load_or_draw(folder, plan, size, progress)
    maps = None
    if labels:
        drawings = [functools.partial(scene_classes, number, of, size) for of, number in plan]
        maps = cached_classes(folder, drawings, size, progress)
    names = [_frame_name(*frame, size) for frame in plan]
    first, last = (
        RenderedFrames(names[part], rgb[part], depth[part], None if maps is None else maps[part])
        for part in (slice(train), slice(train, None))
    )
    return Dataset(
        name="scenes" if kind == "mixed" else f"scenes:{kind}",
        train=first if train else None,
        heldout=last,
        size=size,
        cap_m=CAPS_M[kind],
        zoom=1.0,
    )


class RenderedFrames(Frames):
    """Frames in arrays, usually mapped from files: (N, H, W, 3) uint8 and (N, H, W) float32.

    ``labels``, where there are any, are (N, H, W) uint8.
    """

    def __init__(
        self, names: Sequence[str], rgb: RGB, depth_m: Depth, labels: Labels | None = None
    ) -> None:
        self._names, self._rgb, self._depth_m = list(names), rgb, depth_m
        self._labels = labels

    @property
    def names(self) -> Sequence[str]:
        """Version, kind, number and size of each scene."""
        return self._names

    def __getitem__(self, index: int) -> Sample:
        rgb, depth_m = np.array(self._rgb[index]), np.array(self._depth_m[index])
        labels = None if self._labels is None else np.array(self._labels[index])
        return Sample(rgb, depth_m, self._names[index], labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """``SCENE_CLASSES`` where class maps were asked for."""
        return () if self._labels is None else SCENE_CLASSES


# --- Cache ---------------------------------------------------------------------------------------

Plan = Sequence[tuple[str, int]]  # kind and seed of each frame


def _frame_name(kind: str, seed: int, size: tuple[int, int]) -> str:
    return f"scenes-v{VERSION}/{kind}/{seed:06d}@{size[0]}x{size[1]}"


def _cache_dir() -> Path:
    from compress.data.arrays import default_cache_dir

    return default_cache_dir()


def _load_or_draw(
    folder: Path, plan: Plan, size: tuple[int, int], progress: Callable[[int, int], None] | None
) -> tuple[RGB, Depth]:
    arrays = _load(folder, plan, size)
    if arrays is not None:
        return arrays
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        need, free = len(plan) * size[0] * size[1] * 7, shutil.disk_usage(folder.parent).free
        if need > free:
            raise OSError(f"{need >> 20} MiB needed, {free >> 20} MiB free")
        work = Path(tempfile.mkdtemp(prefix=".scenes-", dir=folder.parent))
    except OSError as error:
        warnings.warn(
            f"cannot keep the scenes in {folder.parent} ({error}): drawn in memory, and again next "
            "time; set COMPRESS_CACHE to a folder you can write",
            stacklevel=3,
        )
        rgb, depth = np.empty((len(plan), *size, 3), np.uint8), np.empty((len(plan), *size), "f4")
        for i, (kind, seed) in enumerate(plan):
            frame = render_scene(seed, kind, size)
            rgb[i], depth[i] = frame.rgb, frame.depth_m
            if progress is not None:
                progress(i + 1, len(plan))
        return rgb, depth
    try:
        _draw_all(work, plan, size, progress)
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    arrays = _load(folder, plan, size)
    assert arrays is not None, f"what was just written to {folder} cannot be read"
    return arrays


def _load(folder: Path, plan: Plan, size: tuple[int, int]) -> tuple[RGB, Depth] | None:
    """Map the cached arrays; None if they are missing, broken or not what would be drawn now."""
    try:
        rgb = np.load(folder / "rgb.npy", mmap_mode="r", allow_pickle=False)
        depth = np.load(folder / "depth_m.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    count = len(plan)
    if (rgb.shape, rgb.dtype) != ((count, *size, 3), np.uint8):
        return None
    if (depth.shape, depth.dtype) != ((count, *size), np.float32):
        return None
    for i in (0, count - 1):  # processors round differently: nearly equal is enough
        now = render_scene(plan[i][1], plan[i][0], size)
        near = np.isclose(depth[i], now.depth_m, rtol=1e-3).mean()
        if near < 0.98 or np.abs(rgb[i].astype(np.int16) - now.rgb).mean() > 1:
            return None
    return rgb, depth


def _publish(work: Path, folder: Path) -> None:
    """Rename the finished folder to its place, over a broken one if need be."""
    try:
        work.replace(folder)
    except OSError:
        old = Path(tempfile.mkdtemp(prefix=".scenes-", dir=folder.parent))
        folder.replace(old / "old")
        work.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def _processes() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)


def _draw_all(
    work: Path, plan: Plan, size: tuple[int, int], progress: Callable[[int, int], None] | None
) -> None:
    """Draw into arrays in ``work``, shared with helper processes; what they leave is drawn here.

    Helpers are plain interpreters: unlike forked ones they cannot inherit a held lock, and unlike
    spawned ones they do not run the caller's main module again.
    """
    count = len(plan)
    for name, shape, kind in (
        ("rgb", (count, *size, 3), "u1"),
        ("depth_m", (count, *size), "<f4"),
        ("done", (count,), "u1"),
    ):
        np.lib.format.open_memmap(work / f"{name}.npy", "w+", kind, shape).flush()
    (work / "plan.json").write_text(json.dumps([list(size), list(plan)]), "utf-8")
    shares = _processes() if count >= _HELP_FROM else 1
    code = "import sys; from compress.data.scenes import _draw_share as f; f(*sys.argv[1:])"
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        with contextlib.suppress(OSError):  # no second process to be had: this one draws it all
            helpers += [
                subprocess.Popen(
                    [sys.executable, "-c", code, str(work), str(share), str(shares)],
                    env={**os.environ, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for share in range(1, shares)
            ]
        _draw_share(work, 0, shares, progress)
        while any(helper.poll() is None for helper in helpers):
            time.sleep(0.05)
        _draw_share(work, 0, 1, progress)  # the share of a helper that failed
        if progress is not None:
            progress(count, count)
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
    for name in ("done.npy", "plan.json"):
        (work / name).unlink()


def _draw_share(
    work: str | Path,
    share: str | int,
    shares: str | int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw what is not yet done of every ``shares``-th frame in ``work``, from ``share`` on."""
    work = Path(work)
    size, plan = json.loads((work / "plan.json").read_text("utf-8"))
    rgb, depth, done = (
        np.load(work / f"{name}.npy", mmap_mode="r+") for name in ("rgb", "depth_m", "done")
    )
    for i in range(int(share), len(plan), int(shares)):
        if not done[i]:
            frame = render_scene(plan[i][1], plan[i][0], (size[0], size[1]))
            rgb[i], depth[i] = frame.rgb, frame.depth_m
            done[i] = 1
            if progress is not None:
                progress(int(done.sum()), len(plan))
    for array in (rgb, depth, done):
        array.flush()
