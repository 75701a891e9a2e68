"""The tables of a report: every trial as CSV, and what the page says in rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from compress.metrics import METRICS
from compress.report.findings import Findings
from compress.report.words import number
from compress.search.records import Record, Rung

TABLE = "trials.csv"

COLUMNS = {
    "number": "trial number, from 0, as Optuna counts them",
    "state": "complete (trained to the end), stopped (early), failed or running",
    "passes_gates": "true where it was trained to the end and its d1 passes; sizes always pass, "
    "larger networks are refused before training",
    "on_front": "true where no complete candidate has a higher d1 for as few MACs",
    "on_front_params": "the same against parameters",
    "params": "parameters",
    "macs": "multiply-adds of convolutions and linear layers, one each",
    "macs_all": "those and the ones of normalisation and interpolation",
    "latency_ms": "predicted milliseconds an image, by the device table where a study has one",
    "delta1": "d1, share of pixels within 1.25 times the truth either way, validation, at the "
    "last rung reached",
    "netscore": "NetScore at that rung, in dB, under the study's exponents",
    "delta2": "share of pixels within 1.25² times the truth",
    "delta3": "share of pixels within 1.25³ times the truth",
    "abs_rel": "mean of |error| / truth",
    "sq_rel": "mean of error² / truth, in metres",
    "rmse": "root of the mean squared error, in metres",
    "rmse_log": "the same of natural logarithms",
    "log10": "mean absolute difference of base-10 logarithms",
    "seconds": "training and scoring, wall-clock",
    "epochs": "epochs trained up to the last rung",
    "rungs": "epoch, d1, NetScore and seconds at each rung reached, as JSON; and what it was "
    "spared (size of the images, share of them), where it was",
    "reason": "why it was stopped early, or how it failed",
    "finished": "when, in local time",
    "hash": "identity of the architecture",
    "genotype": "all that is needed to build it, as JSON",
}


def trials_csv(found: Findings) -> str:
    """Every candidate, one a line, in the columns of ``COLUMNS``."""
    on_macs = {row.number for row in found.front("macs")}
    on_params = {row.number for row in found.front("params")}
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in found.rows:
        values: dict[str, Any] = {key: getattr(row, key, None) for key in COLUMNS}
        values |= {key: row.metrics.get(key) for key in METRICS if key != "delta1"}
        values |= {
            "passes_gates": row.passes(found.gate),
            "on_front": row.number in on_macs,
            "on_front_params": row.number in on_params,
            "epochs": row.rungs[-1].epoch if row.rungs else None,
            "netscore": number(row.netscore),
            "rungs": json.dumps([_rung(rung) for rung in row.rungs]),
        }
        writer.writerow({key: _cell(value) for key, value in values.items()})
    return text.getvalue()


def by_merit(rows: Iterable[Record], gate: float) -> list[Record]:
    """Candidates that pass first, by NetScore, then the other complete ones, then the rest."""
    order = {"complete": 1, "stopped": 2, "running": 3, "failed": 4}

    def key(row: Record) -> tuple[int, float, int]:
        score = row.netscore if row.netscore is not None else float("-inf")
        return 0 if row.passes(gate) else order[row.state], -score, row.number

    return sorted(rows, key=key)


def listed(found: Findings, most: int, kept: int) -> tuple[list[Record], bool]:
    """The rows that the page shows, and whether these are all.

    Above ``most`` candidates: both fronts, what is shown on top and the best ``kept``.
    """
    rows = by_merit(found.rows, found.gate)
    if len(rows) <= most:
        return rows, True
    wanted = {row.number for cost in ("macs", "params") for row in found.front(cost)}
    wanted |= {row.number for row in rows[:kept]} | {r.number for r in [found.shown] if r}
    return [row for row in rows if row.number in wanted], False


def _rung(rung: Rung) -> list[Any]:
    """A rung as the table's JSON has it; what it was spared comes last, where it was."""
    spared: dict[str, Any] = {"size": list(rung.size)} if rung.size else {}
    spared |= {"share": rung.share} if rung.share < 1 else {}
    values = [rung.epoch, rung.delta1, number(rung.netscore), rung.seconds]
    return [*values, spared] if spared else values


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
