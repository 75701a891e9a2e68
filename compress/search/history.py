"""What finished trials say, as arrays: the only memory that the project's own samplers have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from compress.search.axes import Axes, Vector


@dataclass(frozen=True)
class History:
    """Finished trials, best first: feasible ones by value, others by violation, stopped ones last.

    ``points`` (N, P); ``values`` (N,) are to be maximised; ``violations`` (N,) is each trial's
    largest constraint, NaN where it has none. Constraints of a stopped trial were read early: it is
    taken to miss them by no more than the median of those that miss them in the end.
    """

    points: Vector
    values: Vector
    violations: Vector
    trials: tuple[FrozenTrial, ...]

    def latest(self, count: int) -> History:
        """Only the ``count`` trials that began last."""
        if len(self.trials) <= count:
            return self
        kept = np.sort(np.argsort([trial.number for trial in self.trials])[-count:])
        return History(
            self.points[kept],
            self.values[kept],
            self.violations[kept],
            tuple(self.trials[index] for index in kept),
        )


def read_history(study: Study, axes: Axes) -> History:
    """Read a study's finished trials; those of other parameters or without a value are left out."""
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=states)
    gains, typical = _gains(trials), _typical_miss(trials)
    rows = []
    for trial in trials:
        point, value = axes.encode(trial.params), _value(trial, gains)
        if point is None or value is None or not math.isfinite(value):
            continue
        limits = trial.constraints.values()
        violation = max(limits) if limits else math.nan
        stopped = trial.state == TrialState.PRUNED
        if stopped and violation > 0:
            violation = min(violation, typical)
        key = (stopped, violation if violation > 0 else 0.0, -sign * value, trial.number)
        rows.append((key, point, sign * value, violation, trial))
    rows.sort(key=lambda row: row[0])
    return History(
        np.array([row[1] for row in rows]).reshape(len(rows), len(axes.names)),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        tuple(row[4] for row in rows),
    )


def _typical_miss(trials: Sequence[FrozenTrial]) -> float:
    """The median of what trials that ended miss their constraints by; infinite without one."""
    missed = [
        max(trial.constraints.values(), default=0.0)
        for trial in trials
        if trial.state == TrialState.COMPLETE
    ]
    return float(np.median([m for m in missed if m > 0] or [math.inf]))


def _gains(trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """What finished trials gained on average from each step to their end."""
    gained: dict[int, list[float]] = {}
    for trial in trials:
        if trial.value is not None and trial.state == TrialState.COMPLETE:
            for step, value in trial.intermediate_values.items():
                if math.isfinite(trial.value - value):
                    gained.setdefault(step, []).append(trial.value - value)
    return {step: float(np.mean(found)) for step, found in gained.items()}


def _value(trial: FrozenTrial, gains: Mapping[int, float]) -> float | None:
    """A trial's value; for a stopped one, the last reported one and the gain it missed."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if not trial.intermediate_values:
        return None
    step = max(trial.intermediate_values)
    return float(trial.intermediate_values[step]) + gains.get(step, 0.0)
