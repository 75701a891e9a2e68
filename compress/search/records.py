"""What a study holds, as plain rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from compress.space import Genotype

Row = TypeVar("Row")

# User attributes of a study.
CONFIG, REFUSED, FINAL, PROTOCOL = "config", "refused", "final", "protocol"
GATES, ENVIRONMENT, ONE_SHOT = "gates", "environment", "one_shot"
CUT = "cut"  # of a trial: it began as a slice of the study's supernet


@dataclass(frozen=True)
class Rung:
    """A candidate after some of its epochs: validation d1 and NetScore.

    ``size`` (H, W) is there where images were smaller than the network's, both in training and in
    scoring; ``share`` is that of the training images it saw, where these were not all.
    """

    epoch: int
    delta1: float
    netscore: float
    seconds: float
    size: tuple[int, int] | None = None
    share: float = 1.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Rung:
        """Read a rung as a trial keeps it."""
        height, width = values["size"] if values.get("size") else (0, 0)
        return cls(**{**values, "size": (height, width) if height else None})


@dataclass(frozen=True)
class Record:
    """One candidate of a study.

    ``state`` is "complete", "stopped" (early, by ``reason``), "failed" or "running". ``delta1``
    and ``netscore`` are those of its last rung; ``metrics`` are there when it is complete. ``cut``
    says that it began as a slice of the study's supernet, not from fresh weights.
    """

    number: int
    state: str
    hash: str
    params: int
    macs: int
    macs_all: int
    rungs: tuple[Rung, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    genotype: str = "{}"
    finished: str = ""
    latency_ms: float | None = None
    cut: bool = False

    @property
    def delta1(self) -> float | None:
        """Validation d1 at the last rung."""
        return self.rungs[-1].delta1 if self.rungs else None

    @property
    def netscore(self) -> float | None:
        """NetScore at the last rung."""
        return self.rungs[-1].netscore if self.rungs else None

    def passes(self, gate: float) -> bool:
        """Whether it was trained to the end and its d1 passes."""
        return self.state == "complete" and self.delta1 is not None and self.delta1 >= gate

    def open_genotype(self) -> Genotype:
        """The candidate's genotype."""
        return Genotype.from_json(self.genotype, f"trial {self.number}")


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def record(trial: FrozenTrial) -> Record | None:
    """Read one trial; None for one that this project did not write or that waits."""
    attrs = trial.user_attrs
    if trial.state not in _STATES or "genotype" not in attrs:
        return None
    done = trial.datetime_complete
    return Record(
        trial.number,
        _STATES[trial.state],
        attrs["hash"],
        attrs["params"],
        attrs["macs"],
        attrs["macs_all"],
        tuple(Rung.of(rung) for rung in attrs.get("rungs", ())),
        attrs.get("metrics", {}),
        float(attrs.get("seconds", 0.0)),
        attrs.get("reason", ""),
        attrs["genotype"],
        done.isoformat(timespec="seconds") if done else "",
        attrs.get("latency_ms"),
        bool(attrs.get(CUT)),
    )


def records(study: Study) -> list[Record]:
    """All candidates of a study, in order.

    An interrupted trial that was put back in the queue is not shown: its candidate is the later
    trial's.
    """
    trials = study.get_trials(deepcopy=False)
    latest = {t.user_attrs["hash"]: t.number for t in trials if "hash" in t.user_attrs}
    rows = (record(t) for t in trials if latest.get(t.user_attrs.get("hash")) == t.number)
    return [row for row in rows if row is not None]


def best(rows: Iterable[Record], gate: float) -> Record | None:
    """The record of highest NetScore among those that pass the gate."""
    passing = [row for row in rows if row.passes(gate)]
    return max(passing, key=lambda row: (row.netscore, -row.number), default=None)


def nearest_miss(rows: Iterable[Record]) -> Record | None:
    """The record of highest d1, complete ones first."""
    tried = [row for row in rows if row.delta1 is not None]
    return max(tried, key=lambda r: (r.state == "complete", r.delta1, -r.number), default=None)


def front(rows: Iterable[Record], cost: str = "macs") -> list[Record]:
    """The complete records that no other beats in both d1 and ``cost``, cheapest first.

    ``cost`` is "macs", "params" or "latency_ms"; records that lack it are left out.
    """
    known = [r for r in rows if r.state == "complete" and getattr(r, cost) is not None]
    known.sort(key=lambda r: r.number)
    return undominated(known, lambda r: (getattr(r, cost), r.delta1 or 0.0))


def undominated(rows: Iterable[Row], place: Callable[[Row], tuple[float, float]]) -> list[Row]:
    """The rows that no other beats in both, cheapest first; of equal ones the first is kept.

    Args:
        rows: anything.
        place: a row's cost, to be small, and its d1, to be large; both finite.
    """
    placed = sorted(((place(row), row) for row in rows), key=lambda one: (one[0][0], -one[0][1]))
    kept: list[Row] = []
    most = -math.inf
    for (_, delta1), row in placed:
        if delta1 > most:
            kept.append(row)
            most = delta1
    return kept


def study_config(study: Study) -> dict[str, Any]:
    """The configuration stored with a study, {} where there is none."""
    stored = study.user_attrs.get(CONFIG)
    return json.loads(stored) if stored else {}
