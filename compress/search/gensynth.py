"""Generative synthesis as an Optuna sampler: seeds, a generator, an indicator, an inquisitor.

Source: Wong, Shafiee, Chwyl and Li, "FermiNets: learning generative machines to generate efficient
neural networks via generative synthesis", arXiv 1809.05989; Wang, Famouri and Wong, "DepthNet
Nano", arXiv 2004.08008, section 2. They publish neither the generator's form, nor the probes, nor
the updates: those here are ours (docs/generative_synthesis.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from compress.search.axes import Axes, Vector
from compress.search.history import History, read_history
from compress.search.inquisitor import Inquisitor, log_cdf, log_improvement

# User attribute of a trial: module -> (share of the response, share of the cost).
PROBE = "probe"
# Children that a generator offers the inquisitor at once, and rounds of them until enough pass
# the indicator.
CHILDREN, ROUNDS = 48, 8
# Share of finished trials that are seeds, within bounds.
ELITE, FEWEST, MOST = 0.2, 3, 12
# Latest trials that the inquisitor reads: its work grows with their cube.
LATEST = 300


class GenerativeSynthesisSampler(BaseSampler):
    """Proposes genotypes from seeds under an indicator, as an inquisitor's insight directs.

    All state is read from the study's finished trials: a sampler made anew for each trial proposes
    as well as one that is kept. Works for any single-objective Optuna study; constraints set with
    ``trial.set_constraint`` are part of the indicator function.

    Args:
        seed: of all draws.
        startup: finished trials until which proposals are uniform.
        inquisitor: False draws from the generator alone (an ablation).
        seeds: False draws every parameter anew for each proposal, from no parent (an ablation).
        known: the part of the objective that is known of a candidate before training, such as
            NetScore's for parameters and MACs; only the rest is then learnt from trials.
        indicator: whether a candidate passes what can be told before training.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        startup: int = 8,
        inquisitor: bool = True,
        seeds: bool = True,
        known: Callable[[Mapping[str, Any]], float] | None = None,
        indicator: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self.startup, self.inquisitor, self.seeds = startup, inquisitor, seeds
        self.known, self.indicator = known, indicator
        self._rng = np.random.default_rng(seed)
        self._uniform = RandomSampler(seed=seed)

    def reseed_rng(self) -> None:
        """Draw differently from a copy of this sampler in another thread."""
        self._rng = np.random.default_rng()
        self._uniform.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that all finished trials have in common."""
        self._raise_error_if_multi_objective(study)
        found = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: kind for name, kind in found.items() if not kind.single()}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Uniform: for parameters that not all trials have."""
        self._raise_error_if_multi_objective(study)
        return self._uniform.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose one genotype; {} while there is too little to go by."""
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        axes = Axes(search_space)
        history = read_history(study, axes)
        if len(history.values) < max(1, self.startup):
            return {}
        children = self._allowed(axes, history)
        best = 0
        if self.inquisitor and len(children) > 1:
            best = int(np.argmax(self._promise(axes, history, children)))
        return axes.decode(children[best])

    def _allowed(self, axes: Axes, history: History) -> Vector:
        """Children (M, P) that pass the indicator; unsifted ones where none is found."""
        generator = _Generator(axes, history, self._rng)
        wanted = CHILDREN if self.inquisitor else 1
        if self.indicator is None:
            return generator.children(wanted, self.seeds)
        passed: list[Vector] = []
        for _ in range(ROUNDS):
            made = generator.children(wanted, self.seeds)
            passed += [child for child in made if self.indicator(axes.decode(child))]
            if len(passed) >= wanted:
                break
        return np.stack(passed) if passed else made

    def _promise(self, axes: Axes, history: History, children: Vector) -> Vector:
        """How much better than the best trial each child may be, and how surely it passes, (M,).

        The logarithm of the expected improvement times the probability of passing all constraints;
        of the latter alone while no trial has passed. A small network that may well miss the gate
        is worth a trial where it would be much better, which is so near the gate's own edge.

        Source: Schonlau, Welch and Jones, "Global versus local search in constrained optimization
        of computer models", 1998, section 4.
        """
        passed = history.trials[0].state == TrialState.COMPLETE and not history.violations[0] > 0
        best = history.values[0]
        history = history.latest(LATEST)
        probes = [t.user_attrs[PROBE] for t in history.trials if PROBE in t.user_attrs]
        promise: Vector = np.zeros(len(children))
        bound = ~np.isnan(history.violations)
        if np.count_nonzero(bound) >= FEWEST:
            margins = _clipped(-history.violations[bound])
            mean, spread = Inquisitor(axes, history.points[bound], margins, probes, True).predict(
                children
            )
            promise += log_cdf(mean / spread)
        if not passed and np.any(promise):
            return promise
        values, before = history.values, np.zeros(len(children))
        if self.known is not None:
            values = values - np.array([self.known(trial.params) for trial in history.trials])
            before = np.array([self.known(axes.decode(child)) for child in children])
        told = Inquisitor(axes, history.points, _clipped(values), probes, self.known is not None)
        mean, spread = told.predict(children)
        return promise + np.log(spread) + log_improvement((before + mean - best) / spread)


def _clipped(values: Vector) -> Vector:
    """Without failures far below all others, which would flatten every other difference."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    clipped: Vector = np.maximum(values, middle - 3 * max(high - low, 1e-9))
    return clipped


class _Generator:
    """Maps seeds to points near them, drawing what it changes from where good points lie."""

    def __init__(self, axes: Axes, history: History, rng: np.random.Generator) -> None:
        self.axes, self.rng = axes, rng
        total = len(history.values)
        count = min(total, max(FEWEST, min(MOST, math.ceil(ELITE * total))))
        self.elite = history.points[:count]
        weights = np.log(count + 0.5) - np.log(np.arange(1, count + 1))
        self.weights = weights / weights.sum()
        # A kernel on each elite point: as wide as they are spread, at least half a cell.
        least = np.where(axes.cells > 0, 0.5 / np.maximum(axes.cells, 1), 1.0 / (total + 1))
        self.width = np.maximum(self.elite.std(axis=0), least)

    def children(self, count: int, seeds: bool) -> Vector:
        """Draw ``count`` points (count, P)."""
        drawn = self._draw(count)
        if seeds:
            parents = self.elite[self.rng.choice(len(self.elite), count, p=self.weights)]
            drawn = np.where(self._changed(count), drawn, parents)
        return self.axes.snapped(drawn)

    def _draw(self, count: int) -> Vector:
        """Every coordinate on its own, from a mixture of the elite's kernels and a uniform one."""
        size = (count, len(self.axes.names))
        chosen = self.rng.choice(len(self.elite), size, p=self.weights)
        centre = np.take_along_axis(self.elite, chosen, axis=0)
        moved = centre + np.where(self.axes.ordered, self.width, 0.0) * self.rng.normal(size=size)
        moved = np.abs(moved)  # reflected at both ends
        moved = np.clip(1.0 - np.abs(1.0 - moved), 0.0, 1.0)
        prior = self.rng.random(size) < 1.0 / (1 + len(self.elite))
        return np.where(prior, self.rng.random(size), moved)

    def _changed(self, count: int) -> Vector:
        """Which coordinates (count, P) differ from the parent's: some of a few modules."""
        changed = np.zeros((count, len(self.axes.names)), dtype=bool)
        modules = list(self.axes.modules.values())
        for row in changed:
            few = min(len(modules), 1 + self.rng.poisson(1.0))
            for index in self.rng.choice(len(modules), few, replace=False):
                members = modules[index]
                row[members] = self.rng.random(len(members)) < 0.5
                row[self.rng.choice(members)] = True
        return changed
