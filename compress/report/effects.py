"""What each choice of a space did: the table of an ablation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from compress.search.records import Record

# With more varied parameters than this a study is no ablation: its table would be mostly empty.
MOST_VARIED = 6
FEWEST = 2  # candidates that share a value, below which their mean says nothing


@dataclass(frozen=True)
class Effect:
    """Means over the candidates that share one value of one parameter."""

    value: str
    count: int
    delta1: float
    abs_rel: float | None
    params: float
    macs: float


@dataclass(frozen=True)
class Ablation:
    """What was varied and what came of it.

    ``effects`` maps each varied parameter to its values, best mean d1 first; ``variants`` are the
    candidates, best d1 first, with their values of those parameters in the same order.
    """

    effects: Mapping[str, Sequence[Effect]]
    variants: Sequence[tuple[Record, Sequence[str]]]


def ablation(rows: Sequence[Record]) -> Ablation | None:
    """Compare candidates trained to the end by what they chose.

    None where nothing or too much was varied, or no value was tried twice: a search over many
    parameters is no ablation.
    """
    chosen = {row.number: _values(row) for row in rows if row.state == "complete"}
    complete = [row for row in rows if chosen.get(row.number)]
    keys = sorted({key for row in complete for key in chosen[row.number]})
    varied = [key for key in keys if len({_text(chosen[r.number].get(key)) for r in complete}) > 1]
    if not 0 < len(varied) <= MOST_VARIED:
        return None
    effects = {}
    for key in varied:
        groups: dict[str, list[Record]] = {}
        for row in complete:
            groups.setdefault(_text(chosen[row.number].get(key)), []).append(row)
        if max(len(group) for group in groups.values()) < FEWEST:
            continue
        found = [_effect(value, group) for value, group in groups.items()]
        effects[key] = sorted(found, key=lambda effect: -effect.delta1)
    if not effects:
        return None
    ordered = sorted(complete, key=lambda row: -(row.delta1 or 0.0))
    variants = [(r, [_text(chosen[r.number].get(key)) for key in effects]) for r in ordered]
    return Ablation(effects, variants)


def _effect(value: str, rows: Sequence[Record]) -> Effect:
    errors = [r.metrics["abs_rel"] for r in rows if "abs_rel" in r.metrics]
    return Effect(
        value,
        len(rows),
        fmean(row.delta1 or 0.0 for row in rows),
        fmean(errors) if errors else None,
        fmean(row.params for row in rows),
        fmean(row.macs for row in rows),
    )


def _values(row: Record) -> dict[str, Any]:
    """What a candidate chose; where that is not known, its spec of one value a parameter."""
    try:
        data = json.loads(row.genotype)
    except ValueError:
        return {}
    if not isinstance(data, dict):
        return {}
    for found in (data.get("values"), data.get("spec")):
        if isinstance(found, dict) and found:
            return {} if any(isinstance(v, list | dict) for v in found.values()) else found
    return {}


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
