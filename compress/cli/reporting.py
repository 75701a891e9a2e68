"""``compress report``: pages, tables and figures of what was done."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError

if TYPE_CHECKING:
    from optuna.study import Study

    from compress.data import Dataset
    from compress.report.findings import Findings


def report(args: Namespace) -> int:
    """Write the page of a study, or of the JSON of a pruning or gating."""
    from compress.cli.commands import print_json

    path = Path(args.study)
    written = _outcome(args, path) if path.suffix.lower() == ".json" else _study(args)
    if args.json:
        print_json(written)
    else:
        print(written["report"])
        for file in written.get("figures", ()):
            print(file)
    return 0


def _study(args: Namespace) -> dict[str, Any]:
    from compress.report import write_report
    from compress.report.export import PARQUET
    from compress.report.figures import write_figures
    from compress.report.findings import read
    from compress.report.gallery import draw_front
    from compress.report.kept import KEPT
    from compress.report.live import checked_every, follow
    from compress.report.tables import TABLE
    from compress.search.sampler import hush_optuna
    from compress.search.store import prepare_folder

    every_s = checked_every(args.every, args.live)
    hush_optuna()
    out = Path(args.out)
    study = _opened(args.study, out, args.storage)
    others = [_compared(word, out, args.storage, study) for word in args.compare or ()]
    folder = _folder(args.study, out)
    prepare_folder(folder)

    def write(refresh: int | None = None) -> Path:
        more: dict[str, Any] = {}
        if others:
            more["compare"] = [other() for other in others]
        if refresh is not None:
            more["refresh"] = refresh
        return write_report(study, folder, **more)

    def drawn() -> None:
        found = read(study)
        draw_front(found, folder, partial(_data, found), partial(print, file=sys.stderr))

    if every_s is None:
        drawn()
    page = write()
    if every_s is not None:
        print(f"{page}: written again every {every_s:g} s; Ctrl-C ends", file=sys.stderr)
        try:
            follow(study, folder, write, every_s)
            drawn()
            write()
        except KeyboardInterrupt:
            print("the last report stands", file=sys.stderr)
    written = {
        "study": study.study_name,
        "report": str(page),
        "csv": str(folder / TABLE),
        "parquet": str(folder / PARQUET),
        "kept": str(folder / KEPT),
    }
    if args.figures:
        return written | {"figures": [str(file) for file in write_figures(read(study), folder)]}
    return written


def _data(found: Findings) -> Dataset:
    """A study's data set, as its configuration names it."""
    from compress.data import open_data
    from compress.search.config import SearchConfig

    if "data" not in found.config:
        raise CompressError(f"study {found.name} does not say on which data it was made")
    config = SearchConfig.from_dict(dict(found.config), f"study {found.name}")
    return open_data(
        config.data, depth_scale=config.depth_scale, cap_m=config.cap_m, split=config.split
    )


def _outcome(args: Namespace, path: Path) -> dict[str, Any]:
    from compress.report.outcome import open_outcome
    from compress.report.pruned import write_pruning_report

    for flag in ("live", "every", "compare", "storage"):
        if getattr(args, flag):
            raise CompressError(f"--{flag} goes with a study; {path} is the result of one run")
    found = open_outcome(path)
    written: dict[str, Any] = {
        "result": str(path),
        "report": str(write_pruning_report(path, path.with_suffix(".html"))),
    }
    if args.figures:
        from compress.report.pruned_figures import write_outcome_figures

        files = write_outcome_figures(found, path.parent, path.stem)
        return written | {"figures": [str(file) for file in files]}
    return written


def _compared(word: str, out: Path, storage: str | None, study: Study) -> Callable[[], Findings]:
    """What reads another study as it stands, or a model file at this study's input size."""
    from compress.report.findings import read
    from compress.report.overlay import model_findings

    if word.endswith(".safetensors"):
        size = read(study).gates.get("size")
        found = model_findings(word, tuple(size) if size else None)
        return lambda: found
    other = _opened(word, out, storage)
    return lambda: read(other)


def _opened(word: str, out: Path, storage: str | None) -> Study:
    """A study by its name, or by the path of its folder; without a database, as it was kept."""
    from compress.report.kept import is_kept, open_kept
    from compress.search.store import DATABASE, find_study

    folder = _folder(word, out)
    if storage is None and is_kept(folder) and not (folder / DATABASE).is_file():
        return open_kept(folder)
    return find_study(folder.name, folder.parent, storage)


def _folder(word: str, out: Path) -> Path:
    return Path(word) if "/" in word else out / word
