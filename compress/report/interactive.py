"""The data of a study's page: what its script draws, filters and shows of each trial."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from compress.cost.table import DeviceTable, find_table
from compress.report.findings import MODEL_FILE, Findings
from compress.report.layers import layers
from compress.report.references import published, tried
from compress.report.tables import by_merit
from compress.report.words import number
from compress.search.config import SearchConfig
from compress.search.records import Record
from compress.space import Genotype

COSTS = {"macs": "max_macs", "params": "max_params", "latency_ms": "max_latency_ms"}
METRICS_SHOWN = ("delta2", "delta3", "abs_rel", "rmse", "log10")
# Networks whose layers the page holds: the fronts, and the best of the others.
MOST_LAYERED = 400
# Flags of ``compress train`` by configuration key.
TRAINING = {
    "data": "--data",
    "final_epochs": "--epochs",
    "depth_scale": "--depth-scale",
    "cap_m": "--cap",
    "split": "--split",
}
EXPORT = "import sys, compress; compress.export_onnx(compress.load(sys.argv[1]), sys.argv[2])"


def page_data(
    found: Findings, folder: Path, compare: Sequence[Findings] = (), pictures: Sequence[int] = ()
) -> dict[str, Any]:
    """What the page needs at once: every trial as columns, fronts, gates and overlays.

    Places in ``fronts``, ``best``, ``shown`` and ``references`` are those of the columns; figures
    that are not known are null.

    Args:
        found: the study.
        folder: the study's, for the networks that are still there.
        compare: other studies, whose fronts are laid over this one's.
        pictures: numbers of the trials that the page holds depth pictures of.
    """
    rows = found.rows
    place = {row.number: index for index, row in enumerate(rows)}
    costs = [cost for cost in COSTS if any(getattr(row, cost) for row in rows)]
    winner, shown = found.winner, found.shown
    known, published_names = set(costs or ("macs",)), published(found)
    return {
        "name": found.name,
        "gate": found.gate,
        "limits": {cost: number(found.gates.get(key)) for cost, key in COSTS.items()},
        "costs": costs,
        "columns": _columns(found),
        "fronts": {cost: [place[row.number] for row in found.front(cost)] for cost in costs},
        "best": None if winner is None else place[winner.number],
        "shown": None if shown is None else place[shown.number],
        "provisional": found.provisional,
        "full": {
            "delta1": number(found.full.get("delta1")),
            "epochs": number(found.full.get("epochs")),
        },
        "references": [
            {"name": name, "about": about, "at": place[trial]}
            for name, about, trial in tried(found)
        ],
        "published": [entry for entry in published_names if known & entry.keys()],
        "compare": [_overlay(other, costs) for other in compare],
        "pictures": sorted(set(pictures) & place.keys()),
        "train": _training(found),
        "files": _files(found, folder),
    }


def table_of(found: Findings) -> DeviceTable | None:
    """The device table of the study's backend and threads on this device, None without one."""
    defaults = SearchConfig()
    values = {key: found.config.get(key) for key in ("backend", "threads", "table")}
    backend, threads, path = values.values()
    if not isinstance(backend, str) or not isinstance(threads, int):
        backend, threads = defaults.backend, defaults.threads
    try:
        return find_table(backend, threads, path if isinstance(path, str) else None)
    except Exception:  # none, of another device, or not readable
        return None


def page_details(found: Findings, table: DeviceTable | None) -> dict[str, Any]:
    """What the page needs once a trial is opened: genotypes, and the layers of the best.

    ``layers`` maps a trial's place to columns; ``table`` predicts their milliseconds.
    """
    size = _size(found.gates.get("size"))
    place = {row.number: index for index, row in enumerate(found.rows)}
    listed: dict[str, dict[str, list[Any]]] = {}
    for row in _layered(found):
        try:
            columns = _layers(Genotype.from_json(row.genotype), size, table)
        except Exception:  # another version's, or no genotype at all: the page says so
            continue
        listed[str(place[row.number])] = columns
    return {
        "genotypes": [row.genotype for row in found.rows],
        "layers": listed,
        "table": table.describe() if table else "",
        "size": list(size) if size else None,
    }


def _columns(found: Findings) -> dict[str, list[Any]]:
    rows = found.rows
    start, ends = _clock(rows)
    return {
        "number": [row.number for row in rows],
        "state": [row.state for row in rows],
        "passes": [int(row.passes(found.gate)) for row in rows],
        "params": [row.params for row in rows],
        "macs": [row.macs for row in rows],
        "macs_all": [row.macs_all for row in rows],
        "latency_ms": [_short(row.latency_ms) for row in rows],
        "delta1": [_short(row.delta1) for row in rows],
        "netscore": [_short(number(row.netscore)) for row in rows],
        **{key: [_short(number(row.metrics.get(key))) for row in rows] for key in METRICS_SHOWN},
        "seconds": [round(row.seconds, 1) for row in rows],
        "hours": [
            None if end is None else round((end - start).total_seconds() / 3600, 4) for end in ends
        ],
        "reason": [row.reason for row in rows],
        "hash": [row.hash for row in rows],
        "rungs": [
            [[r.epoch, _short(r.delta1), _short(number(r.netscore))] for r in row.rungs]
            for row in rows
        ],
    }


def _clock(rows: Sequence[Record]) -> tuple[datetime, list[datetime | None]]:
    """When the first candidate began, and when each one ended."""
    ends: list[datetime | None] = []
    starts = []
    for row in rows:
        try:
            end = datetime.fromisoformat(row.finished).replace(tzinfo=None)
        except (TypeError, ValueError):
            ends.append(None)
            continue
        ends.append(end)
        starts.append(end.timestamp() - row.seconds)
    return datetime.fromtimestamp(min(starts, default=0.0)), ends


def _layered(found: Findings) -> list[Record]:
    """Whose layers are worth their room: all of a small study, else the fronts and the best."""
    if len(found.rows) <= MOST_LAYERED:
        return list(found.rows)
    first = {row.number: row for cost in COSTS for row in found.front(cost)}
    first |= {row.number: row for row in (found.shown,) if row is not None}
    for row in by_merit(found.rows, found.gate):
        if len(first) >= MOST_LAYERED:
            break
        first.setdefault(row.number, row)
    return list(first.values())


def _layers(
    genotype: Genotype, size: tuple[int, int] | None, table: DeviceTable | None
) -> dict[str, list[Any]]:
    listed = layers(genotype, size, table)
    columns: dict[str, list[Any]] = {
        key: [getattr(layer, key) for layer in listed]
        for key in ("name", "channels", "height", "width", "params", "macs")
    }
    if table is not None:
        columns["latency_ms"] = [_short(layer.latency_ms) for layer in listed]
    return columns


def _overlay(found: Findings, costs: Sequence[str]) -> dict[str, Any]:
    """Another study's fronts, as points."""
    best = found.winner
    return {
        "name": found.name,
        "best": None if best is None else best.number,
        "fronts": {
            cost: [
                [row.number, _short(number(getattr(row, cost))), _short(row.delta1), row.params]
                for row in found.front(cost)
            ]
            for cost in costs
        },
    }


def _training(found: Findings) -> str:
    """The flags of ``compress train`` that train a network as this study would."""
    config, defaults = found.config, SearchConfig().to_dict()
    words: list[str] = []
    for key, flag in TRAINING.items():
        value = config.get(key, defaults.get(key))
        if value is None or (key in ("depth_scale",) and value == defaults.get(key)):
            continue
        words += [flag, f"{value:.12g}" if isinstance(value, float) else str(value)]
    size = _size(found.gates.get("size"))
    if size is not None:
        words += ["--size", f"{size[0]}x{size[1]}"]
    return shlex.join(words)


def _files(found: Findings, folder: Path) -> dict[str, dict[str, str]]:
    """The networks that can be exported: where each lies, by trial number, and the command."""
    try:
        there = {path.name: path for path in (folder / "networks").iterdir()}
    except OSError:
        there = {}
    numbers = {f"{row.number}.safetensors": row.number for row in found.rows} if there else {}
    paths = {numbers[name]: path for name, path in sorted(there.items()) if name in numbers}
    if found.winner is not None and (folder / MODEL_FILE).is_file():
        paths[found.winner.number] = folder / MODEL_FILE
    return {
        str(number): {
            "path": str(path),
            "export": shlex.join(["python", "-c", EXPORT, str(path), f"trial-{number}.onnx"]),
        }
        for number, path in paths.items()
    }


def _size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2:
        height, width = value
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
    return None


def _short(value: float | None) -> float | None:
    """Six digits: more than anybody reads, and half the room."""
    return None if value is None else float(f"{value:.6g}")
