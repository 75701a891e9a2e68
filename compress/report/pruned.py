"""The page of a pruning or a gating: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from compress.metrics import METRICS
from compress.report import compared, gated_charts, pruned_charts, words
from compress.report.files import write_whole
from compress.report.marks import score
from compress.report.outcome import Outcome, open_outcome, read_outcome
from compress.report.page import METRIC_NAMES, PAGE
from compress.report.parts import Network
from compress.report.script import style
from compress.report.words import si

# Steps that the page lists; the JSON has all.
MOST_STEPS = 1000
MODES = {
    "dense": "every channel computed",
    "in": "only open input channels gathered",
    "out": "only open output channels gathered",
    "both": "open inputs and open outputs gathered",
}
# What of a measurement is told beside it.
DEVICE = ("backend", "threads", "size", "preset", "runs", "rounds", "verdict")


def write_pruning_report(
    source: str | Path | Mapping[str, Any], target: str | Path, refresh: int | None = None
) -> Path:
    """Write the page of what ``compress prune`` or ``compress gate`` came to.

    Args:
        source: the JSON file beside its model, or the same as a mapping. Parts that are missing
            are told on the page.
        target: a folder, which gets an ``index.html``, or a file that ends in ``.html``.
        refresh: seconds after which the page loads itself again, while the run goes on.

    Returns:
        The page's path; it is replaced whole.

    Raises:
        CompressError: a file that cannot be read or holds no such result.
    """
    found = read_outcome(source) if isinstance(source, Mapping) else open_outcome(Path(source))
    path = Path(target)
    if path.suffix.lower() not in (".html", ".htm"):
        path = path / PAGE
    # Lone surrogates, which JSON may hold and UTF-8 may not, become question marks.
    return write_whole(path, render(found, refresh).encode("utf-8", "replace"))


def render(found: Outcome, refresh: int | None = None) -> str:
    """The page's HTML."""
    networks = compared.columns(found)
    usable = found.kind == "gate" or bool(found.after.parts)  # a network of our own
    name = "d1" if found.kind == "gate" or found.after.parts else "Accuracy"
    lines = compared.lines_of([net for _, net in networks], name)
    verdict = str(found.after.measured.get("verdict") or "")
    order = found.before.widths or None
    drawn = pruned_charts.timeline(found.steps, order)
    return _template().render(
        found=found,
        refresh=refresh,
        name=Path(found.model).name or "Network without a name",
        accuracy_name=name,
        shown_model=shlex.quote(found.model) if found.model and usable else "",
        asked=_amount(*found.target) if found.target else "",
        reached=_reached(found),
        stands=_amount(found.target[0], _left(found)) if found.target else "",
        columns=[label for label, _ in networks],
        compared=lines,
        cards=compared.cards(lines) if found.kind == "prune" and not found.running else [],
        metrics=compared.metrics(networks),
        metric_names={key: METRIC_NAMES[key] for key in METRICS},
        accuracy=pruned_charts.accuracy(found, name),
        resource=pruned_charts.resource(found),
        unit=found.target[0] if found.target else "macs",
        timeline=drawn[0] if drawn else None,
        left_out=drawn[1] if drawn else 0,
        steps=found.steps[-MOST_STEPS:],
        widths=_widths(found),
        sweeps=gated_charts.sweep(found),
        same=gated_charts.same,
        plan=_plan(found),
        modes=MODES,
        amount=_amount,
        span=compared.span_text,
        cell=compared.cell,
        percent=compared.percent,
        noisy=verdict if verdict.startswith("noisy") else "",
        d1s=(_d1(found.before), _d1(found.after)),
        training=gated_charts.training(found),
        measured=_described(found.after.measured or found.before.measured),
        environment=[(str(k), str(v)) for k, v in found.environment.items() if v is not None],
        style=Markup(style() + _own_style()),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("compress.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "si": si,
        "fixed": words.fixed,
        "duration": words.duration,
        "plural": words.plural,
        "score": score,
    }
    return environment.get_template("pruned.html")


@cache
def _own_style() -> str:
    return files("compress.report").joinpath("assets", "pruned.css").read_text(encoding="utf-8")


def _widths(found: Outcome) -> dict[str, Any]:
    """Layers whose width changed, with a bar each, and the names of those that kept theirs."""
    before, after = found.before.widths, found.after.widths
    both = {layer: (before[layer], after[layer]) for layer in before if layer in after}
    widest = max((width for width, _ in both.values()), default=1)
    changed = [
        (layer, was, left, pruned_charts.bar(was, left, widest))
        for layer, (was, left) in both.items()
        if was != left
    ]
    return {
        "changed": changed,
        "kept": [(layer, was) for layer, (was, left) in both.items() if was == left],
        "known": bool(both),
    }


def _plan(found: Outcome) -> dict[str, Any]:
    """How each layer is run, how many of each way, and what that spares."""
    counts: dict[str, int] = {}
    rows, chosen, dense = [], [], []
    for choice in found.plan:
        counts[_gathered(choice.mode)] = counts.get(_gathered(choice.mode), 0) + 1
        plain = [ms for way, ms in choice.ms.items() if _gathered(way) == "dense"]
        chosen.append(choice.ms.get(choice.mode))
        dense.append(min(plain, default=None))
        others = ", ".join(f"{way} {ms:.3f}" for way, ms in choice.ms.items())
        rows.append((choice.path, choice.mode, chosen[-1], dense[-1], others))
    return {
        "rows": rows,
        "counts": sorted(counts.items(), key=lambda item: -item[1]),
        "chosen": _sum(chosen),
        "dense": _sum(dense),
    }


def _gathered(mode: str) -> str:
    """What is gathered in a mode such as "both/mm"."""
    return mode.partition("/")[0]


def _d1(net: Network) -> float | None:
    """A network's d1 on held-out images, or else on whichever ones there are."""
    return net.parts.get("heldout", {}).get("delta1", net.accuracy)


def _reached(found: Outcome) -> str:
    """What the network came to in the target's unit, with its interval where it was measured."""
    if found.target is None:
        return ""
    name, net = found.target[0], found.before if found.nothing_to_do else found.after
    if name == "latency_ms":
        figure, interval = (
            compared.cell(compared.span_text(net.latency)) if net.latency else ("", "")
        )
        return f"{figure} ms {interval}".strip() if figure else ""
    value = net.macs if name == "macs" else net.params
    return "" if value is None else _amount(name, value)


def _left(found: Outcome) -> float | None:
    """The resource after the last cut."""
    return next((s.resource for s in reversed(found.steps) if s.resource is not None), None)


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return words.DASH
    if name == "latency_ms":
        return f"{value:.4g} ms"
    return f"{si(value)} {'MACs' if name == 'macs' else 'parameters'}"


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if not known or None in known else sum(v for v in known if v is not None)


def _described(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where and how latency was measured."""
    device = measured.get("device")
    values = {key: measured.get(key) for key in DEVICE}
    if isinstance(values["size"], list | tuple):
        values["size"] = "x".join(map(str, values["size"]))
    values |= dict(device) if isinstance(device, Mapping) else {}
    return [(str(key), str(value)) for key, value in values.items() if value is not None]
