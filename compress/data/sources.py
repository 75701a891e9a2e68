"""Where data comes from: the one place where ``--data`` becomes frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.data.files import positive
from compress.data.splits import cut_validation
from compress.data.types import Dataset
from compress.errors import CompressError, unknown

__all__ = ["SOURCES", "Options", "cut_validation", "open_data"]

DEPTH_SCALE = 1000.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What a user may say beside the name of a data set."""

    depth_scale: float
    split: str | None
    seed: int
    scenes: dict[str, Any]
    labels: bool


def _scenes(kind: str, options: Options) -> Dataset:
    from compress.data.scenes import open_scenes

    labels = {"labels": True} if options.labels else {}
    return open_scenes(kind or "mixed", **(options.scenes | labels))


def _folder(path: str, options: Options) -> Dataset:
    from compress.data.folder import open_folder

    root = _existing("folder", path, "DIR")
    scale, seed = options.depth_scale, options.seed
    return open_folder(root, depth_scale=scale, seed=seed, labels=options.labels)


def _tum(path: str, options: Options) -> Dataset:
    from compress.data.folder import open_tum

    return open_tum(_existing("tum", path, "DIR"), seed=options.seed)


def _nyu(path: str, options: Options) -> Dataset:
    from compress.data.nyu import open_nyu

    return open_nyu(_existing("nyu", path, "PATH"), seed=options.seed)


def _kitti(path: str, options: Options) -> Dataset:
    from compress.data.kitti import open_kitti

    return open_kitti(_existing("kitti", path, "DIR"), split=options.split)


def _diw(path: str, options: Options) -> Dataset:
    from compress.data.diw import open_diw

    return open_diw(_existing("diw", path, "DIR"))


def _redweb(path: str, options: Options) -> Dataset:
    from compress.data.redweb import open_redweb

    return open_redweb(_existing("redweb", path, "DIR"), seed=options.seed)


SOURCES: dict[str, Callable[[str, Options], Dataset]] = {
    "scenes": _scenes,
    "folder": _folder,
    "tum": _tum,
    "nyu": _nyu,
    "kitti": _kitti,
    "diw": _diw,
    "redweb": _redweb,
}
LABELLED = ("scenes", "folder")


def open_data(
    spec: str,
    *,
    depth_scale: float = DEPTH_SCALE,
    cap_m: float | None = None,
    split: str | None = None,
    seed: int = 0,
    labels: bool = False,
    scenes_options: dict[str, Any] | None = None,
) -> Dataset:
    """Open the data set that ``spec`` names.

    Args:
        spec: ``scenes``, ``scenes:indoor``, ``scenes:outdoor``, ``folder:DIR``, ``tum:DIR``,
            ``nyu:PATH``, ``kitti:DIR``, ``diw:DIR`` or ``redweb:DIR``; paths count from
            the current folder, ``~`` is home.
        depth_scale: units per metre of a folder's integer depth files.
        cap_m: metres beyond which depth is not scored, where the data set's custom is not wanted.
        split: the list, folder or prefix of lists of ``kitti:``.
        seed: where a data set without a split of its own is cut.
        labels: whether frames have class maps; ``scenes`` draws them, ``folder:`` has them in
            the third column of its lists.
        scenes_options: keyword arguments of ``open_scenes``.

    Raises ``CompressError`` for an unknown kind, a missing path, an option that the kind does not
    read, or anything wrong with the data.
    """
    kind, _, rest = spec.strip().partition(":")
    if kind not in SOURCES:
        hint = "write KIND:PATH"
        if Path(spec).expanduser().is_dir():
            hint = f"a folder of pairs is written folder:{spec}"
        raise unknown("data set", kind, SOURCES, hint)
    positive("the depth scale (units per metre)", depth_scale)
    if depth_scale != DEPTH_SCALE and kind != "folder":
        raise CompressError(
            f"a depth scale of {depth_scale:g} is given with {kind}:, whose scale is fixed; only "
            "folder: reads one, leave it out"
        )
    if split is not None and kind != "kitti":
        raise CompressError(f"a split ({split}) is given with {kind}:; only kitti: reads one")
    if labels and kind not in LABELLED:
        raise CompressError(
            f"class maps are asked for with {kind}:; only {' and '.join(LABELLED)} have them"
        )
    if scenes_options and kind != "scenes":
        raise CompressError(f"options of rendered scenes are given with {kind}:; leave them out")
    cap = None if cap_m is None else positive("the depth cap in metres", cap_m)
    options = Options(depth_scale, split, seed, scenes_options or {}, labels)
    dataset = SOURCES[kind](rest.strip(), options)
    if cap is None:
        return dataset
    if cap <= dataset.min_depth_m:
        raise CompressError(
            f"the depth cap is {cap:g} m; give more than the least depth scored, "
            f"{dataset.min_depth_m:g} m"
        )
    return dataclasses.replace(dataset, cap_m=cap)


def _existing(kind: str, path: str, word: str) -> Path:
    """The path of a spec, expanded; it must be there, and a folder where ``word`` is DIR."""
    if not path:
        raise CompressError(f"{kind}: names no place; write {kind}:{word}")
    try:
        found = Path(path).expanduser()
    except RuntimeError as broken:  # ~name of an unknown user
        raise CompressError(f"{kind}:{path}: {broken}; write the path in full") from broken
    if not found.exists():
        raise CompressError(
            f"{kind}:{path}: there is no such {'folder' if word == 'DIR' else 'file or folder'} "
            f"(looked at {found.absolute()}); check the path"
        )
    if word == "DIR" and not found.is_dir():
        raise CompressError(f"{kind}:{path}: is a file; give the folder that holds the data")
    return found
