"""A density for each stage of a network: which stages can spare their channels is searched for.

Every candidate has the multiply-adds of the one density that is asked for; what is compared is d1
alone. Networks are not trained in between: their norms are, and they are scored as they are, so
that a candidate takes seconds. The search begins with the same density everywhere and can only end
with something better.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from compress.errors import CompressError
from compress.gating._operators import Operators
from compress.gating.macs import gated_macs
from compress.models import DepthNet
from compress.models.gates import gates_of, set_density, without_gates
from compress.pruning.task import DepthTask
from compress.train import Recipe
from compress.train.norms import recalibrate

LEAST, STEP = 0.1, 0.05  # density
IMAGES = 64  # that norms are taken anew on
HALVINGS = 24
Stages = dict[str, list[str]]


@dataclass(frozen=True)
class Tried:
    """One candidate: density by stage, and d1 of the task's few validation images."""

    number: int
    densities: Mapping[str, float]
    macs: int
    delta1: float


def stages_of(model: DepthNet, size: tuple[int, int], graph: Operators | None = None) -> Stages:
    """Paths of the gates by stage: neighbours whose outputs have one size, in running order.

    Stages are named "1 48x64", "2 24x32" and so on. ``graph`` is of the network without gates,
    where it is known already.
    """
    graph = graph or Operators(without_gates(model), size)
    gates = gates_of(model)
    found: list[tuple[tuple[int, int], list[str]]] = []
    for conv in graph.convs.values():
        if conv.path not in gates:
            continue
        if not found or found[-1][0] != conv.size_out:
            found.append((conv.size_out, []))
        found[-1][1].append(conv.path)
    return {f"{n} {h}x{w}": paths for n, ((h, w), paths) in enumerate(found, start=1)}


def search_stages(
    model: DepthNet,
    task: DepthTask,
    density: float,
    *,
    trials: int = 40,
    journal: Path | None = None,
    on_trial: Callable[[Tried], None] | None = None,
) -> tuple[Tried, Stages]:
    """Search a density for each stage at the multiply-adds of one density everywhere.

    Args:
        model: with gates, trained at about this density; it stays as it is.
        task: scores, and has the images that norms are taken anew on.
        density: whose multiply-adds no candidate exceeds.
        trials: candidates, the first of which has this density everywhere.
        journal: a file in which candidates are kept, so that an interrupted search goes on.
        on_trial: is told of each candidate.

    Returns:
        the best candidate, and the gates of each stage.

    Raises:
        CompressError: fewer than one trial, or fewer than two stages.
    """
    if isinstance(trials, bool) or trials < 1:
        raise CompressError(f"{trials} trials of densities: give a number from 1")
    graph = Operators(without_gates(model), task.size)
    stages = stages_of(model, task.size, graph)
    if len(stages) < 2:
        raise CompressError(f"{len(stages)} stage with gates: there is nothing to share out")

    def macs(by_stage: Mapping[str, float]) -> int:
        return gated_macs(model, task.size, by_gate(stages, by_stage), graph).total

    budget = macs(dict.fromkeys(stages, density))
    augment = Recipe.for_data(task.dataset, task.recipe).augment
    study = _study(journal, task.seed)
    if not study.trials:
        study.enqueue_trial(dict.fromkeys(stages, 0.5))

    def objective(trial: optuna.Trial) -> float:
        shares = {name: trial.suggest_float(name, LEAST, 1.0, step=STEP) for name in stages}
        candidate = _within(shares, macs, budget, min(LEAST, density))
        tried = copy.deepcopy(model)
        set_density(tried, by_gate(stages, candidate))
        recalibrate(tried, task.arrays, augment, most=IMAGES)
        delta1 = task.score(tried)
        told = Tried(trial.number, candidate, macs(candidate), delta1)
        trial.set_user_attr("densities", candidate)
        trial.set_user_attr("macs", told.macs)
        if on_trial:
            on_trial(told)
        return delta1

    done = sum(one.state == optuna.trial.TrialState.COMPLETE for one in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    best = study.best_trial
    attributes: dict[str, Any] = best.user_attrs
    assert best.value is not None
    chosen = Tried(best.number, attributes["densities"], attributes["macs"], best.value)
    return chosen, stages


def by_gate(stages: Stages, densities: Mapping[str, float]) -> dict[str, float]:
    """Densities by the path of the convolution, from those by stage."""
    return {path: densities[name] for name, paths in stages.items() for path in paths}


def _within(
    shares: Mapping[str, float],
    macs: Callable[[Mapping[str, float]], int],
    budget: int,
    least: float,
) -> dict[str, float]:
    """Densities in the proportion of ``shares``, as high as the budget allows."""

    def scaled(by: float) -> dict[str, float]:
        return {name: min(1.0, max(least, by * share)) for name, share in shares.items()}

    low, high = 0.0, 1.0 / min(shares.values())
    if macs(scaled(high)) <= budget:
        return scaled(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if macs(scaled(middle)) <= budget else (low, middle)
    return scaled(low)


def _study(journal: Path | None, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    if journal is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        storage=storage, study_name="densities", load_if_exists=True, direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True),
    )  # fmt: skip
