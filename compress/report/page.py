"""A study's page: one HTML file that needs nothing else, and the table beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from optuna.study import Study

from compress.cost.table import DeviceTable
from compress.report import charts, summary, words
from compress.report.effects import ablation
from compress.report.export import write_parquet
from compress.report.files import write_whole
from compress.report.findings import MODEL_FILE, Findings, read
from compress.report.front import summary as front_of
from compress.report.importance import importance
from compress.report.interactive import page_data, page_details, table_of
from compress.report.kept import write_kept
from compress.report.pictures import PICTURES, pictures
from compress.report.script import packed, page_script, plotly, plotly_text, policy, style
from compress.report.tables import COLUMNS, TABLE, listed, trials_csv
from compress.search.fidelity import FEWEST, rank_fidelity
from compress.search.records import Record

PAGE = "index.html"
# Above so many trials the page's plain table lists the fronts and the best of them; its script's
# table and the CSV have all.
MOST_LISTED, BEST_LISTED = 500, 300
MOST_REASONS = 100

# What a metric is called on the page, and which way is better.
METRIC_NAMES = {
    "delta1": ("d1", "↑"),
    "delta2": ("d2", "↑"),
    "delta3": ("d3", "↑"),
    "abs_rel": ("AbsRel", "↓"),
    "sq_rel": ("SqRel (m)", "↓"),
    "rmse": ("RMSE (m)", "↓"),
    "rmse_log": ("RMSE log", "↓"),
    "log10": ("log10", "↓"),
}
REFUSALS = {
    "params": "more parameters than the budget",
    "macs": "more MACs than allowed",
    "latency": "slower than allowed",
    "duplicate": "the same network as an earlier candidate",
    "invalid": "no buildable network",
}


def write_report(
    study: Study,
    folder: Path,
    compare: Sequence[Study | Findings] = (),
    refresh: int | None = None,
) -> Path:
    """Write ``index.html``, ``trials.csv``, ``trials.parquet`` and ``study.toml`` of a study.

    All are replaced whole, so that a browser may read them while the study runs. A study that is
    empty, unfinished or without a network that passes gets a page that says so. Where the folder
    holds ``samples.png`` it becomes part of the page.

    Args:
        study: what to report.
        folder: the study's folder, into which they are written.
        compare: others whose fronts are laid over this one's.
        refresh: seconds after which the page loads itself again, for a study that is followed.

    Returns:
        The path of ``index.html``.
    """
    folder = Path(folder)
    found = replace(read(study), importance=importance(study))
    others = [other if isinstance(other, Findings) else read(other) for other in compare]
    # Lone surrogates, which JSON may hold and UTF-8 may not, become question marks.
    page = render(found, folder, others, refresh).encode("utf-8", "replace")
    table = trials_csv(found).encode("utf-8", "replace")
    write_whole(folder / TABLE, table)
    write_parquet(found, folder)
    write_kept(found, folder)
    return write_whole(folder / PAGE, page)


def render(
    found: Findings,
    folder: Path,
    compare: Sequence[Findings] = (),
    refresh: int | None = None,
) -> str:
    """The page's HTML."""
    size = found.gates.get("size")
    rows, all_listed = listed(found, MOST_LISTED, BEST_LISTED)
    model = folder / MODEL_FILE
    shown = pictures(folder, found.shown)
    script = page_script()
    table = table_of(found)
    measured = summary.measured(found)
    template = _environment().get_template("page.html")
    return template.render(
        policy=policy(script, plotly_text()),
        style=Markup(style()),
        script=Markup(script),
        plotly=plotly(),
        data=packed(page_data(found, folder, compare, list(shown))),
        details=packed(page_details(found, table)),
        refresh=refresh,
        found=found,
        row=found.shown,
        winner=found.winner,
        states=found.states,
        size="x".join(map(str, size)) if isinstance(size, list | tuple) else "",
        gates=summary.gates(found),
        figures=summary.figures(found, folder),
        metric_names=METRIC_NAMES,
        formula=summary.formula(found),
        unfinished=summary.unfinished(found),
        command=words.search_command(found.config, found.name),
        recipe=words.recipe_lines(found.config),
        model=shlex.quote(str(model)) if model.is_file() else "",
        fronts=_fronts(found),
        compared=[other.name for other in compare],
        history=charts.history(found),
        refused=[(gate, REFUSALS.get(gate, ""), n) for gate, n in _most(found.refused)],
        stopped=_reasons(found, "stopped"),
        stopped_after=summary.stopped_after(found),
        failed=_reasons(found, "failed"),
        most_reasons=MOST_REASONS,
        fidelity=rank_fidelity(found.rows),
        importance=found.importance,
        measured=measured,
        predicted=_predicted(table, measured),
        device_table=found.environment.get("device_table"),
        ablation=ablation(found.rows),
        fewest=FEWEST,
        pictures=shown,
        picture_file=PICTURES,
        rows=rows,
        all_listed=all_listed,
        front={row.number for cost in ("macs", "params") for row in found.front(cost)},
        latency=any(row.latency_ms is not None for row in found.rows),
        protocol=_described(found.protocol),
        config=_described(found.config),
        environment=_described(found.environment),
        columns=COLUMNS,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        table=TABLE,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("compress.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "si": words.si,
        "fixed": words.fixed,
        "duration": words.duration,
        "plural": words.plural,
    }
    return environment


def _fronts(found: Findings) -> list[dict[str, Any]]:
    figures = [("macs", "max_macs", "MACs"), ("params", "max_params", "parameters")]
    if any(row.latency_ms is not None for row in found.rows):
        figures.append(("latency_ms", "max_latency_ms", "latency"))
    drawn = [
        (charts.pareto(found, cost, words.number(found.gates.get(gate))), name, cost)
        for cost, gate, name in figures
    ]
    return [
        {"chart": chart, "name": name, "front": front_of(found, cost)}
        for chart, name, cost in drawn
        if chart is not None
    ]


def _predicted(
    table: DeviceTable | None, measured: Sequence[Mapping[str, Any]]
) -> charts.Chart | None:
    """Predicted against measured latency: the device table's proof, and the study's networks."""
    proof = table.proof if table else None
    known = list(zip(proof.predicted_ms, proof.measured_ms, strict=True)) if proof else []
    own = [(entry["predicted"], entry["measured"]) for entry in measured]
    return charts.predicted(known, own) if len(known) + len(own) > 1 else None


def _reasons(found: Findings, state: str) -> list[Record]:
    return [row for row in found.rows if row.state == state]


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _described(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and values for a definition list; what is not set is left out."""
    return [(str(k), _plain(v)) for k, v in values.items() if v is not None and v != {}]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
