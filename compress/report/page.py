"""A study's page: one HTML file that needs nothing else, and the table beside it."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from optuna.study import Study

from compress.metrics import METRICS
from compress.netscore import EXPONENTS
from compress.report import charts, words
from compress.report.effects import ablation
from compress.report.files import png_size, write_whole
from compress.report.findings import MODEL_FILE, Findings, heldout_protocol, protocol_line, read
from compress.report.tables import COLUMNS, FEWEST, listed, rank_fidelity, trials_csv
from compress.search.records import Record

PAGE, TABLE, PICTURES = "index.html", "trials.csv", "samples.png"
# Above so many trials the page lists the fronts and the best of them; the CSV has all.
MOST_LISTED, BEST_LISTED = 500, 300
MOST_REASONS = 100
PICTURE_BYTES = 4 << 20

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


def write_report(study: Study, folder: Path) -> Path:
    """Write ``index.html`` and ``trials.csv`` of a study as it stands into ``folder``.

    Both are replaced whole, so that a browser may read them while the study runs. A study that is
    empty, unfinished or without a network that passes gets a page that says so. Where the folder
    holds ``samples.png`` it becomes part of the page.

    Returns:
        The path of ``index.html``.
    """
    folder = Path(folder)
    found = read(study)
    # Lone surrogates, which JSON may hold and UTF-8 may not, become question marks.
    page = render(found, folder).encode("utf-8", "replace")
    table = trials_csv(found).encode("utf-8", "replace")
    write_whole(folder / TABLE, table)
    return write_whole(folder / PAGE, page)


def render(found: Findings, folder: Path) -> str:
    """The page's HTML."""
    size = found.gates.get("size")
    rows, all_listed = listed(found, MOST_LISTED, BEST_LISTED)
    model = folder / MODEL_FILE
    training = found.config.get("training")
    return _template().render(
        found=found,
        row=found.shown,
        states=found.states,
        size="x".join(map(str, size)) if isinstance(size, list | tuple) else "",
        gates=_gates(found),
        figures=_figures(found, folder),
        metric_names=METRIC_NAMES,
        formula=_formula(found),
        unfinished=_unfinished(found),
        command=words.search_command(found.config, found.name),
        recipe=words.recipe_lines(training) if isinstance(training, Mapping) and training else "",
        model=shlex.quote(str(model)) if model.is_file() else "",
        fronts=_fronts(found),
        history=charts.history(found),
        refused=[(gate, REFUSALS.get(gate, ""), n) for gate, n in _most(found.refused)],
        stopped=_reasons(found, "stopped"),
        failed=_reasons(found, "failed"),
        most_reasons=MOST_REASONS,
        fidelity=rank_fidelity(found.rows),
        ablation=ablation(found.rows),
        fewest=FEWEST,
        picture=_picture(folder),
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
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "si": words.si,
        "fixed": words.fixed,
        "duration": words.duration,
        "plural": words.plural,
    }
    text = files("compress.report").joinpath("template.html").read_text(encoding="utf-8")
    return environment.from_string(text)


def _gates(found: Findings) -> list[dict[str, Any]]:
    """Each gate with what the shown network has, whether that passes and by how much it misses."""
    row, gates = found.shown, []
    for name, key, value in (
        ("Parameters", "max_params", row.params if row else None),
        ("MACs", "max_macs", row.macs if row else None),
    ):
        limit = words.number(found.gates.get(key))
        if limit is None:
            continue
        passes = None if value is None else value <= limit
        miss = "" if passes is not False or value is None else f"{words.si(value - limit)} too many"
        gates.append(
            {
                "name": name,
                "limit": f"at most {words.si(limit)}",
                "value": words.si(value),
                "passes": passes,
                "miss": miss,
            }
        )
    if found.gate:
        d1 = _reached(found)
        passes = None if d1 is None else d1 >= found.gate
        gates.append(
            {
                "name": "d1, validation",
                "limit": f"at least {found.gate:g}",
                "value": words.fixed(d1, 4),
                "passes": passes,
                "miss": "" if d1 is None or passes else f"{words.fixed(found.gate - d1, 4)} short",
            }
        )
    return gates


def _reached(found: Findings) -> float | None:
    """The shown network's validation d1: at full budget where it had that."""
    full = words.number(found.full.get("delta1"))
    return full if full is not None or found.shown is None else found.shown.delta1


def _figures(found: Findings, folder: Path) -> list[dict[str, Any]]:
    """The shown network's metrics by what they were measured on, each with its protocol."""
    row = found.shown
    if row is None:
        return []
    validation = protocol_line(found.protocol)
    short = {"delta1": row.delta1} if row.delta1 is not None else {}
    epochs = row.rungs[-1].epoch if row.rungs else 0
    figures: list[tuple[str, str, Mapping[str, Any], str]] = [
        ("Candidate", f"validation, {words.plural(epochs, 'epoch')}",
         short | dict(row.metrics), validation),
    ]  # fmt: skip
    epochs = int(words.number(found.full.get("epochs")) or 0)
    trained = f", {words.plural(epochs, 'epoch')}" if epochs else ""
    for key, name, about in (
        ("validation", "Full budget", f"validation{trained}"),
        ("heldout", "Held-out", "scored once, at the end"),
    ):
        values = found.full.get(key)
        if not isinstance(values, Mapping):
            continue
        line = validation
        if key == "heldout":
            line = protocol_line(heldout_protocol(folder, row))
        figures.append((name, about, values, line))
    return [
        {
            "name": name,
            "about": about,
            "values": {key: words.number(values.get(key)) for key in METRICS},
            "protocol": line,
        }
        for name, about, values, line in figures
    ]


def _formula(found: Findings) -> str:
    name = str(found.config.get("exponents", ""))
    known = EXPONENTS.get(name)
    if known is None:
        return name and f"exponents {name}"
    return (
        f"exponents {name}: 20\u00a0log10(a^{known.kappa:g}\u00a0/\u00a0(p^{known.beta:g}\u00a0"
        f"m^{known.gamma:g})), "
        "a = validation d1 in percent, p = parameters in millions, m = MACs in billions"
    )


def _unfinished(found: Findings) -> list[str]:
    """What is still to do, in words; empty for a study that came to its end."""
    states, left = found.states, []
    done = states["complete"] + states["stopped"] + states["failed"]
    wanted = words.number(found.config.get("trials"))
    if states["running"]:
        left.append(f"{words.plural(states['running'], 'candidate')} in training")
    # A study whose time is over trains its winner out and leaves the queue as it is.
    if states["running"] or not found.full:
        if found.waiting:
            left.append(f"{words.plural(found.waiting, 'candidate')} waiting")
        if wanted is not None and done < wanted:
            left.append(f"{done:,} of {wanted:,.0f} candidates tried")
    if found.later is not None:
        left.append(f"trial {found.later.number}, which scores higher, not yet at full budget")
    return left


def _fronts(found: Findings) -> list[dict[str, Any]]:
    figures = [("macs", "max_macs", "MACs"), ("params", "max_params", "parameters")]
    if any(row.latency_ms is not None for row in found.rows):
        figures.append(("latency_ms", "max_latency_ms", "latency"))
    drawn = [
        (charts.pareto(found, cost, words.number(found.gates.get(gate))), name)
        for cost, gate, name in figures
    ]
    return [{"chart": chart, "name": name} for chart, name in drawn if chart is not None]


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


def _picture(folder: Path) -> dict[str, Any] | None:
    path = folder / PICTURES
    try:
        data = path.read_bytes() if path.stat().st_size <= PICTURE_BYTES else b""
    except OSError:
        return None
    size = png_size(data)
    if size is None:
        return None
    uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return {"uri": uri, "width": size[0], "height": size[1]}
