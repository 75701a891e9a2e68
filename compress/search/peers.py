"""Optuna's and CMA-ES's samplers for spaces of choices whose values have an order."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from compress.errors import CompressError
from compress.search.axes import Axes
from compress.search.history import read_history


class SteppedSampler(BaseSampler):
    """Shows an inner sampler every list of numbers as the steps 0, 1, 2 ... along it.

    A Gaussian process would otherwise see only whether two widths are the same, not how far apart.

    Args:
        inner: draws from whole numbers and names, and keeps nothing between trials.
    """

    def __init__(self, inner: BaseSampler) -> None:
        self.inner = inner
        self._seen: tuple[Any, Study] | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The inner sampler's."""
        found: dict[str, BaseDistribution] = self.inner.infer_relative_search_space(study, trial)
        return found

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw from a copy of the study in steps."""
        axes = Axes(search_space)
        lists = {
            name: axis.choices
            for name, axis in zip(axes.names, axes.axes, strict=True)
            if axis.ordered and axis.choices
        }
        steps = {
            name: IntDistribution(0, len(lists[name]) - 1) if name in lists else kind
            for name, kind in search_space.items()
        }
        copy = self._copy(study, axes, lists, steps)
        asking = copy.get_trials(deepcopy=False)[-1]  # the one that is not finished
        drawn = self.inner.sample_relative(copy, asking, steps)
        return {k: lists[k][v] if k in lists else v for k, v in drawn.items()}

    def _copy(
        self,
        study: Study,
        axes: Axes,
        lists: dict[str, tuple[Any, ...]],
        steps: dict[str, BaseDistribution],
    ) -> Study:
        trials = read_history(study, axes).trials
        key = (study.study_name, [trial.number for trial in trials])
        if self._seen is None or self._seen[0] != key:
            uniform = optuna.samplers.RandomSampler(seed=0)
            copy = optuna.create_study(direction=study.direction, sampler=uniform)
            for trial in trials:
                values = {name: trial.params[name] for name in steps}
                copy.add_trial(
                    optuna.trial.create_trial(
                        state=trial.state,
                        value=trial.value,
                        intermediate_values=trial.intermediate_values,
                        system_attrs=trial.system_attrs,  # its constraints
                        params={
                            k: lists[k].index(v) if k in lists else v for k, v in values.items()
                        },
                        distributions=steps,
                    )
                )
            copy.ask()
            self._seen = (key, copy)
        return self._seen[1]

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The inner sampler's."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)


class CmaSampler(BaseSampler):
    """CMA-ES over positions in the lists of choices, replayed from the finished trials.

    Optuna's own takes no categorical parameters and keeps its state in trials' attributes, which
    draws that the gates refuse would leave in disorder.

    Source: Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772; the package cmaes.

    Args:
        seed: of all draws.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._seen: tuple[Any, Any] | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that all finished trials have in common."""
        self._raise_error_if_multi_objective(study)
        return optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw from the distribution after all whole generations of finished trials."""
        from cmaes import CMA

        axes = Axes(search_space)
        movable = np.flatnonzero(axes.cells != 1)
        if len(movable) < 2:
            return {}
        history = read_history(study, axes)
        key = (study.study_name, [trial.number for trial in history.trials])
        if self._seen is None or self._seen[0] != key:
            bounds = np.tile([0.0, 1.0], (len(movable), 1))
            strategy = CMA(np.full(len(movable), 0.5), 0.3, bounds, seed=self.seed)
            order = np.argsort([t.number for t in history.trials])
            size = strategy.population_size
            for start in range(0, len(order) - size + 1, size):
                # Only ranks count, and history is sorted by rank.
                ranks = order[start : start + size]
                strategy.tell([(history.points[r][movable], float(r)) for r in ranks])
            self._seen = (key, strategy)
        point = np.full(len(axes.names), 0.5)
        point[movable] = np.clip(self._seen[1].ask(), 0.0, 1.0)
        return axes.decode(point)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Uniform."""
        self._raise_error_if_multi_objective(study)
        uniform = optuna.samplers.RandomSampler(seed=self.seed)
        return uniform.sample_independent(study, trial, param_name, param_distribution)


def gp(seed: int) -> BaseSampler:
    """Optuna's Gaussian process, after ten uniform trials."""
    need("scipy", "gp")
    return SteppedSampler(GPSampler(seed=seed, n_startup_trials=10))


def cmaes(seed: int) -> BaseSampler:
    """CMA-ES, from the middle of the space."""
    need("cmaes", "cmaes")
    return CmaSampler(seed)


def need(package: str, sampler: str) -> None:
    """Raise ``CompressError`` where a package that a sampler needs is not installed."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise CompressError(
            f"--sampler {sampler} needs the package {package}, which is not installed: "
            f"pip install {package}, or take another sampler, as in --sampler tpe"
        )
