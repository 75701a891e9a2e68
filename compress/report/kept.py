"""A study as two text files, from which its page can be made again without its database."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from compress.errors import CompressError
from compress.metrics import METRICS
from compress.report.files import write_whole
from compress.report.findings import Findings
from compress.report.tables import TABLE
from compress.report.toml import toml_lines
from compress.search.records import CONFIG, ENVIRONMENT, FINAL, GATES, ONE_SHOT, PROTOCOL, REFUSED
from compress.search.session import SECONDS
from compress.search.store import check_name

KEPT = "study.toml"
HEAD = f"# A study, beside the {TABLE} of its candidates: compress report makes its page of both.\n"
STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}
SIZES = ("params", "macs", "macs_all")
Scalar = str | int | float | bool


def write_kept(found: Findings, folder: Path) -> Path:
    """Write ``study.toml`` into ``folder``: all of a study but its candidates."""
    values = {
        "name": found.name,
        SECONDS: found.seconds,
        CONFIG: found.config,
        GATES: found.gates,
        PROTOCOL: found.protocol,
        ENVIRONMENT: found.environment,
        REFUSED: found.refused,
        ONE_SHOT: found.one_shot,
        FINAL: found.finals,
    }
    text = HEAD + "\n".join(toml_lines(values))
    return write_whole(Path(folder) / KEPT, text.encode("utf-8", "replace"))


def is_kept(folder: Path) -> bool:
    """Whether a folder holds both files of a kept study."""
    return (folder / KEPT).is_file() and (folder / TABLE).is_file()


def open_kept(folder: Path) -> Study:
    """Read ``study.toml`` and ``trials.csv`` of a folder into a study in memory.

    Raises ``CompressError`` for files that cannot be read as such.
    """
    try:
        values = tomllib.loads((folder / KEPT).read_text("utf-8"))
        with (folder / TABLE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        said = " ".join(str(error).split())
        raise CompressError(
            f"{folder}: {KEPT} and {TABLE} cannot be read ({said}); give a folder in which "
            "compress report wrote both"
        ) from None
    study = optuna.create_study(
        study_name=check_name(str(values.pop("name", folder.name))), direction="maximize"
    )
    if isinstance(values.get(CONFIG), dict):
        values[CONFIG] = json.dumps(values[CONFIG])
    for key, value in values.items():
        study.set_user_attr(key, value)
    choices = _choices(rows)
    for place, row in enumerate(rows, start=2):
        try:
            trial = _trial(row, choices)
            while len(study.get_trials(deepcopy=False)) < trial.number:  # of none of ours
                study.add_trial(optuna.create_trial(state=TrialState.FAIL))
            study.add_trial(trial)
        except (KeyError, TypeError, ValueError) as error:
            raise CompressError(
                f"{folder / TABLE}, line {place}: is no candidate ({error}); give the file as "
                "compress report wrote it"
            ) from None
    return study


def _trial(row: Mapping[str, str], choices: Mapping[str, CategoricalDistribution]) -> FrozenTrial:
    """A candidate's line as the search stores it."""
    state = STATES[row["state"]]
    rungs = [_rung(values) for values in json.loads(row.get("rungs") or "[]")]
    if not rungs and row["delta1"]:
        rungs = [_rung([int(row["epochs"]), row["delta1"], row["netscore"], row["seconds"]])]
    attrs: dict[str, Any] = {key: int(row[key]) for key in SIZES}
    attrs |= {key: row[key] for key in ("hash", "genotype", "reason")}
    attrs |= {"rungs": rungs, "seconds": float(row["seconds"] or 0)}
    if row["latency_ms"]:
        attrs["latency_ms"] = float(row["latency_ms"])
    if state == TrialState.COMPLETE:
        attrs["metrics"] = {key: float(row[key]) for key in METRICS if row[key]}
    over = state.is_finished()
    ended = datetime.fromisoformat(row["finished"]) if row["finished"] else datetime(1970, 1, 2)
    params = {key: value for key, value in _values(row) if key in choices}
    return FrozenTrial(
        number=int(row["number"]),
        state=state,
        value=(rungs[-1]["netscore"] if rungs else 0.0) if state == TrialState.COMPLETE else None,
        datetime_start=ended - timedelta(seconds=attrs["seconds"]),
        datetime_complete=ended if over else None,
        params=params,
        distributions={key: choices[key] for key in params},
        user_attrs=attrs,
        system_attrs={},
        intermediate_values={},
        trial_id=0,
    )


def _rung(values: list[Any]) -> dict[str, Any]:
    epoch, delta1, netscore, seconds, *spared = values
    rung = {
        "epoch": int(epoch),
        "delta1": float(delta1),
        "netscore": -math.inf if netscore in (None, "") else float(netscore),
        "seconds": float(seconds or 0),
    }
    return rung | {key: spared[0][key] for key in ("size", "share") if spared and key in spared[0]}


def _choices(rows: list[dict[str, str]]) -> dict[str, CategoricalDistribution]:
    """Every value that a parameter had in a study."""
    seen: dict[str, dict[str, Scalar]] = {}
    for row in rows:
        for key, value in _values(row):
            seen.setdefault(key, {})[json.dumps(value)] = value
    return {key: CategoricalDistribution(list(found.values())) for key, found in seen.items()}


def _values(row: Mapping[str, str]) -> Iterator[tuple[str, Scalar]]:
    try:
        values = json.loads(row.get("genotype") or "{}").get("values", {})
        yield from ((k, v) for k, v in values.items() if isinstance(v, Scalar))
    except (ValueError, AttributeError):  # no genotype of ours
        return
