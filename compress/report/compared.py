"""Networks side by side: what each has, and how much that is less or more than the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from compress.metrics import METRICS
from compress.report import words
from compress.report.marks import score
from compress.report.outcome import Outcome
from compress.report.parts import Network, Span
from compress.report.words import number, si

# Metrics that are compared where more than one network has them.
SCORED = (
    ("validation", "delta1", "d1, validation"),
    ("heldout", "delta1", "d1, held-out"),
    ("heldout", "abs_rel", "AbsRel, held-out"),
)


def columns(found: Outcome) -> list[tuple[str, Network]]:
    """The networks side by side; one without any figure is left out."""
    named = [("Before", found.before), ("After", found.after)]
    if found.kind == "gate":
        # What is counted of a gated network is what it would take with every gate open.
        gated = replace(found.after, macs=found.macs.get("mean", found.after.macs))
        named = [("Dense", found.before), ("Gated", gated), ("Static", found.static)]
    return [(label, net) for label, net in named if net != Network()]


def lines_of(nets: list[Network], name: str) -> list[dict[str, Any]]:
    """A line for each figure that any of the networks has, and its change from the first."""
    lines: list[tuple[str, Callable[[Network], Any], Callable[[Any], str], bool]] = [
        ("Latency, median", lambda n: n.latency, span_text, True),
        ("Parameters", lambda n: n.params, si, True),
        ("MACs", lambda n: n.macs, si, True),
        ("MACs, all operators", lambda n: n.macs_all, si, True),
        ("Peak memory (MB)", lambda n: number(n.measured.get("peak_memory_mb")), _one, True),
        ("Energy (J an image)", lambda n: number(n.measured.get("joules_per_image")), _3g, True),
        (name, lambda n: n.accuracy, score, False),
    ]
    for part, key, label in SCORED:
        if sum(key in net.parts.get(part, {}) for net in nets) > 1:
            lines.append((label, partial(_scored, part, key), score, False))
    table = []
    for label, get, text, relative in lines:
        values = [get(net) for net in nets]
        if all(value is None for value in values):
            continue
        plain = [v.median_ms if isinstance(v, Span) else v for v in values]
        changes = [_change(plain[0], value, relative) for value in plain[1:]]
        if label.startswith("Latency"):
            changes = [
                _times(net.speedup) if net.speedup else change
                for net, change in zip(nets[1:], changes, strict=True)
            ]
        table.append(
            {
                "name": label,
                "values": [cell(words.DASH if v is None else text(v)) for v in values],
                "changes": [cell(change) for change in changes],
            }
        )
    return table


def cards(lines: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The figures that matter most, of the network that came out, with those it came from."""
    wanted = ("Latency, median", "Parameters", "MACs", "d1", "Accuracy")
    return [
        (line["name"], line["values"][1][0], line["values"][0][0])
        for line in lines
        if line["name"] in wanted and len(line["values"]) > 1
    ]


def metrics(named: list[tuple[str, Network]]) -> list[dict[str, Any]]:
    """All depth metrics of whichever network has them, with their protocol."""
    return [
        {
            "name": label,
            "part": {"heldout": "held-out", "validation": "validation"}[part],
            "values": {key: net.parts[part].get(key) for key in METRICS},
            "protocol": net.protocols.get(part, ""),
        }
        for label, net in named
        for part in net.parts
    ]


def span_text(span: Span) -> str:
    """A median and its interval, in ms.

    >>> span_text(Span(9.7, 9.61, 9.9)), span_text(Span(9.7))
    ('9.70 [9.61, 9.90]', '9.70')
    """
    if span.low_ms is None or span.high_ms is None:
        return f"{span.median_ms:.2f}"
    return f"{span.median_ms:.2f} [{span.low_ms:.2f}, {span.high_ms:.2f}]"


def cell(text: str) -> tuple[str, str]:
    """A figure and its interval, which stands below it."""
    figure, bracket, rest = text.partition(" [")
    return figure, bracket.strip() + rest


def percent(share: float) -> str:
    """A change with its sign.

    >>> percent(-0.511), percent(0.09)
    ('−51.1 %', '+9.0 %')
    """
    return ("+" if share >= 0 else "") + words.fixed(100 * share, 1) + " %"


def _change(first: float | None, then: float | None, relative: bool) -> str:
    """A change in percent, or for what is a share as a difference."""
    if first is None or then is None:
        return ""
    if not relative:
        return ("+" if then >= first else "") + score(then - first)
    return percent(then / first - 1) if first > 0 else ""


def _scored(part: str, key: str, net: Network) -> float | None:
    return net.parts.get(part, {}).get(key)


def _times(speedup: tuple[float, float | None, float | None]) -> str:
    ratio, low, high = speedup
    interval = f" [{low:.2f}, {high:.2f}]" if low is not None and high is not None else ""
    return f"{ratio:.2f}× as fast{interval}"


def _one(value: float) -> str:
    return f"{value:.1f}"


def _3g(value: float) -> str:
    return f"{value:.3g}"
