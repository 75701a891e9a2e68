"""What a study found, read once and in a form that nothing in a report trips over."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from compress.metrics import METRICS, Protocol
from compress.report.importance import Importance
from compress.report.words import number
from compress.search.records import (
    CONFIG,
    ENVIRONMENT,
    FINAL,
    GATES,
    ONE_SHOT,
    PROTOCOL,
    REFUSED,
    Record,
    Rung,
    best,
    front,
    nearest_miss,
    record,
    records,
)
from compress.search.session import SECONDS
from compress.search.winner import ATTEMPTS

MODEL_FILE = "best.safetensors"


@dataclass(frozen=True)
class Findings:
    """One moment of a study.

    ``rows`` are its candidates with finite figures only. ``winner`` is the network that passed
    the gates at full budget, or else (``provisional``) the best one at a candidate's budget;
    ``full`` is what full training made of it, or of the nearest miss where there is no winner.
    """

    name: str
    rows: tuple[Record, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    gates: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    one_shot: Mapping[str, float] = field(default_factory=dict)
    finals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float | None = None
    waiting: int = 0
    unreadable: int = 0
    winner: Record | None = None
    provisional: bool = False
    miss: Record | None = None
    full: Mapping[str, Any] = field(default_factory=dict)
    later: Record | None = None
    importance: Importance = field(default_factory=Importance)

    @property
    def gate(self) -> float:
        """The least d1 that passes; 0 where the study names none."""
        return number(self.gates.get("delta1")) or 0.0

    @property
    def states(self) -> Counter[str]:
        """How many candidates are in which state."""
        return Counter(row.state for row in self.rows)

    @property
    def shown(self) -> Record | None:
        """The network that the page is about: the winner, or the nearest miss."""
        return self.winner or self.miss

    def front(self, cost: str = "macs") -> list[Record]:
        """The candidates on the front of d1 against ``cost``."""
        return front((row for row in self.rows if row.delta1 is not None), cost)


def _numbers(value: Any) -> dict[str, float]:
    """The entries of a table that are numbers."""
    read = {str(key): number(entry) for key, entry in _table(value).items()}
    return {key: entry for key, entry in read.items() if entry is not None}


def read(study: Study) -> Findings:
    """Read a study; parts that are missing or not as expected come out empty."""
    attrs = study.user_attrs
    rows, unreadable = _rows(study)
    gates = _table(attrs.get(GATES))
    gate = number(gates.get("delta1")) or 0.0
    finals = {str(k): _table(v) for k, v in _table(attrs.get(FINAL)).items()}
    refused = {str(k): int(number(v) or 0) for k, v in _table(attrs.get(REFUSED)).items()}
    found = Findings(
        name=study.study_name,
        rows=tuple(rows),
        config=_config(attrs.get(CONFIG)),
        gates=gates,
        protocol=_table(attrs.get(PROTOCOL)),
        environment=_table(attrs.get(ENVIRONMENT)),
        refused={k: v for k, v in refused.items() if v > 0},
        one_shot=_numbers(attrs.get(ONE_SHOT)),
        finals=finals,
        seconds=number(attrs.get(SECONDS)),
        waiting=len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,))),
        unreadable=unreadable,
    )
    return replace(found, **_verdict(rows, finals, gate))


def _verdict(
    rows: Sequence[Record], finals: Mapping[str, Mapping[str, Any]], gate: float
) -> dict[str, Any]:
    """Find the winner as the search itself does, or the nearest miss."""
    ranked = sorted((r for r in rows if r.passes(gate)), key=lambda r: -(r.netscore or 0.0))
    miss = nearest_miss(rows)
    tried = ranked + [r for r in rows if r.hash in finals and r not in ranked]
    reached = {r.number: number(finals[r.hash].get("delta1")) for r in tried if r.hash in finals}
    for row in tried:
        d1 = reached.get(row.number)
        if d1 is not None and d1 >= gate and finals[row.hash].get("model"):
            leader = best(rows, gate)
            overtaken = leader if leader and leader.hash not in finals else None
            return {"winner": row, "full": finals[row.hash], "later": overtaken}
    if any(row.hash not in finals for row in ranked[:ATTEMPTS]):
        # What full training already refused is no longer a candidate for the first place.
        leader = next(row for row in ranked if row.hash not in finals)
        return {"winner": leader, "provisional": True}
    trained = [r for r in tried if reached.get(r.number) is not None]
    if trained:
        miss = max(trained, key=lambda r: (reached[r.number], -r.number))
    return {"miss": miss, "full": finals.get(miss.hash, {}) if miss else {}}


def _rows(study: Study) -> tuple[list[Record], int]:
    try:
        rows, unreadable = records(study), 0
    except Exception:  # one malformed trial must not hide the others
        rows, unreadable = [], 0
        for trial in study.get_trials(deepcopy=False):
            try:
                row = record(trial)
            except Exception:
                unreadable += 1
                continue
            rows += [row] if row else []
    clean: list[Record] = []
    for row in rows:
        try:
            clean.append(_finite(row))
        except (TypeError, ValueError, AttributeError, OverflowError):
            unreadable += 1
    return clean, unreadable


def _finite(row: Record) -> Record:
    """Drop what is no finite number or no share, so that comparing and drawing are safe.

    A NetScore that is none becomes minus infinity, as that of d1 = 0 is.
    """
    sizes = [number(value) for value in (row.params, row.macs, row.macs_all)]
    if None in sizes or min(size for size in sizes if size is not None) < 1:
        raise ValueError("a candidate without a size")
    rungs = tuple(
        Rung(
            int(rung.epoch),
            rung.delta1,
            rung.netscore if _within(rung.netscore, -1e6, 1e6) else -math.inf,
            number(rung.seconds) or 0.0,
            (int(rung.size[0]), int(rung.size[1])) if rung.size else None,
            float(rung.share) if _within(rung.share, 0, 1) else 1.0,
        )
        for rung in row.rungs
        if _within(rung.delta1, 0, 1)
    )
    metrics = {k: v for k, v in _table(row.metrics).items() if number(v) is not None}
    return replace(
        row,
        rungs=rungs,
        metrics={k: metrics[k] for k in METRICS if k in metrics},
        seconds=number(row.seconds) or 0.0,
        reason=str(row.reason or ""),
        hash=str(row.hash),
        genotype=row.genotype if isinstance(row.genotype, str) else json.dumps(row.genotype),
        latency_ms=number(row.latency_ms),
    )


def _within(value: Any, low: float, high: float) -> bool:
    known = number(value)
    return known is not None and low <= known <= high


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _config(value: Any) -> dict[str, Any]:
    try:
        return _table(json.loads(value) if isinstance(value, str) else value)
    except ValueError:
        return {}


def protocol_line(values: Mapping[str, Any]) -> str:
    """A stored protocol as one line, "" where there is none."""
    try:
        return Protocol.from_dict(values).describe() if values else ""
    except (ValueError, TypeError):
        return ", ".join(f"{key} {value}" for key, value in values.items())


def heldout_protocol(folder: Path, winner: Record) -> dict[str, Any]:
    """The protocol of the held-out figures, from the header of the winner's file; {} without."""
    from safetensors import safe_open

    opened: Callable[..., Any] = safe_open
    try:
        with opened(folder / MODEL_FILE, framework="np") as file:
            info = json.loads((file.metadata() or {}).get("info", "{}"))
        if info.get("trial") != winner.number:
            return {}
        return _table(info["heldout"]["protocol"])
    except Exception:  # absent, truncated, of another kind: the figures stand without it
        return {}
