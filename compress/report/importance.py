"""Which parameters of a space the NetScore of a study depended on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from compress.report.words import number, plural

# Below so many complete trials an importance is chance.
FEWEST_TRIALS = 20
# Trials that are looked at, spread over the study: enough to rank parameters, within a second.
MOST_TRIALS = 1500
MOST_SHOWN = 12


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters, largest first and 1 in all; where there are none, ``why`` not."""

    shares: Mapping[str, float] = field(default_factory=dict)
    trials: int = 0
    why: str = ""

    @property
    def most(self) -> float:
        """The largest share, which a bar of full length stands for; 1 where all are 0."""
        return max(self.shares.values(), default=0.0) or 1.0


def importance(study: Study) -> Importance:
    """Share of each parameter in what sets the best tenth of a study's trials apart.

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA", arXiv 2304.10255, as Optuna computes it.
    """
    try:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        known = [t for t in complete if t.params and number(t.value) is not None]
        if len(known) < FEWEST_TRIALS:
            found = plural(len(known), "candidate")
            return Importance(why=f"{found} trained to the end; {FEWEST_TRIALS} say something.")
        step = -(-len(known) // MOST_TRIALS)
        shares = _shares(known[::step])
        # Of parameters that never varied Optuna says that all matter as much.
        varied = {key for key in shares if len({str(t.params.get(key)) for t in known}) > 1}
        shares = {key: share for key, share in shares.items() if key in varied}
    except Exception as error:  # a study of others holds what Optuna may trip over
        return Importance(why=f"Optuna could not compute it ({type(error).__name__}).")
    if not shares:
        return Importance(why="No parameter was varied.")
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return Importance(dict(ordered[:MOST_SHOWN]), len(known[::step]))


def _shares(trials: list[FrozenTrial]) -> dict[str, float]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy = optuna.create_study(direction="maximize")
            copy.add_trials(trials)
            found = optuna.importance.get_param_importances(copy)
    finally:
        optuna.logging.set_verbosity(level)
    return {str(key): float(share) for key, share in found.items() if number(share) is not None}
