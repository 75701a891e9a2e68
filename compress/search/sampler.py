"""Proposals that pass the size gates and were never trained, from any Optuna sampler."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import (
    BaseSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from compress.cost import Cost, cost
from compress.errors import unknown
from compress.netscore import netscore
from compress.search import peers
from compress.search.gates import Gates, Refusals
from compress.search.gensynth import GenerativeSynthesisSampler
from compress.space import Genotype, SearchSpace

# Candidates asked of the inner sampler before the last one is walked towards the budget instead:
# samplers that model the objective cost milliseconds each and do not know the gates.
PROPOSALS = 32
# A Gaussian process takes about a second for each, and proposes much the same again; generative
# synthesis knows the gates.
FEWER = {"gp": 2, "gensynth": 1}
# Rounds in which the inner sampler is asked; then candidates are drawn uniformly, so that a small
# space is searched to its end.
ASKED = 4
# Sizes kept, of candidates that may be asked for again.
REMEMBERED = 20_000
# Rounds without a candidate that is both small enough and new, after which a space is exhausted.
ROUNDS = 400

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # Ten uniform trials, then all parameters modelled together: widths and depths trade off.
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=10),
    "gensynth": lambda seed: GenerativeSynthesisSampler(seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=20),
    "gp": peers.gp,
    "cmaes": peers.cmaes,
    "random": lambda seed: RandomSampler(seed=seed),
}


def distributions(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """The space as Optuna sees it."""
    return {key: CategoricalDistribution(values) for key, values in space.choices.items()}


class GatedSampler(BaseSampler):
    """Draws from an inner sampler until a candidate passes the size gates and is new.

    Refused candidates never reach the study: they cost no trial, no storage and no training. The
    inner sampler is made anew for each trial from the seed and the number of finished trials, so
    that a resumed study proposes what an uninterrupted one would have.

    Args:
        space: where genotypes come from.
        gates: the limits that size alone decides.
        name: a key of ``SAMPLERS``.
        seed: of the study.
        refusals: counted into.
        exponents: of the NetScore that the study maximises.
        make: makes the inner sampler from a seed, where it is not the one called ``name``.
    """

    def __init__(
        self,
        space: SearchSpace,
        gates: Gates,
        name: str,
        seed: int,
        refusals: Refusals,
        exponents: str = "depthnet-nano",
        make: Callable[[int], BaseSampler] | None = None,
    ) -> None:
        if make is None and name not in SAMPLERS:
            raise unknown("sampler", name, SAMPLERS)
        self.space, self.gates, self.name, self.seed = space, gates, name, seed
        self.refusals = refusals
        self.exponents = exponents
        self.make = make or SAMPLERS[name]
        self.exhausted = False
        self._made: dict[tuple[Any, ...], tuple[Genotype, Cost]] = {}
        self._space: dict[str, BaseDistribution] = dict(distributions(space))

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters, drawn together."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw one candidate; ``exhausted`` is set, and {} returned, when none is left."""
        if "fixed_params" in trial.system_attrs:  # enqueued: nothing to draw
            return {}
        known = study.get_trials(deepcopy=False)
        # Failures that a resumed session takes up again are no history of the study.
        history = [t for t in known if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        seen = {t.user_attrs.get("hash") for t in known}
        chance = random.Random(self.seed * 1_000_003 + len(history))
        inner = self.make(chance.getrandbits(31))
        if isinstance(inner, GenerativeSynthesisSampler):
            inner.known = self._known
            inner.indicator = lambda v: self._accepted(v, seen)
        relative = inner.infer_relative_search_space(study, trial) and self._space
        for number in range(ROUNDS):
            if number == ASKED:
                relative = {}
            values: dict[str, Any] = {}
            for _ in range(FEWER.get(self.name, PROPOSALS)):
                drawn = inner.sample_relative(study, trial, relative) if relative else {}
                # Uniform: start-up trials, samplers without a model, and what a mutation left out.
                values = {k: chance.choice(v) for k, v in self.space.choices.items()} | drawn
                if self._accepted(values, seen):
                    return values
            values = self._shrunk(values, chance)
            if self._accepted(values, seen):
                return values
        self.exhausted = True
        return {}

    def _accepted(self, values: Mapping[str, Any], seen: set[Any]) -> bool:
        genotype, size = self._sized(values)
        gate = self.gates.refusal(size, genotype)
        if gate is None and genotype.hash in seen:
            gate = "duplicate"
        if gate:
            self.refusals.by_gate[gate] += 1
        return gate is None

    def _known(self, values: Mapping[str, Any]) -> float:
        """The part of a candidate's NetScore that is no matter of accuracy."""
        _, size = self._sized(values)
        return netscore(100.0, size.params, size.macs, self.exponents)

    def _sized(self, values: Mapping[str, Any]) -> tuple[Genotype, Cost]:
        """A candidate and its size, which take longer to work out than to remember."""
        key = tuple(values[name] for name in self.space.choices)
        if key not in self._made:
            if len(self._made) > REMEMBERED:
                self._made.clear()
            genotype = self.space.genotype(values)
            self._made[key] = genotype, cost(genotype, self.gates.size)
        return self._made[key]

    def _shrunk(self, values: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Change one random choice at a time, wherever that brings the gates nearer."""
        excess = self._excess(values)
        keys = list(values)
        while excess > 0:
            chance.shuffle(keys)
            before = excess
            for key in keys:
                changed = values | {key: chance.choice(self.space.choices[key])}
                now = self._excess(changed)
                if now < excess:
                    values, excess = changed, now
                if excess <= 0:
                    break
            if excess == before and chance.random() < 0.1:
                break  # a local minimum above the gates; the caller draws again
        return values

    def _excess(self, values: dict[str, Any]) -> float:
        genotype, size = self._sized(values)
        over_params = size.params / self.gates.max_params if self.gates.max_params else 0.0
        over_macs = size.macs / self.gates.max_macs if self.gates.max_macs else 0.0
        excess = max(over_params, 1.0) + max(over_macs, 1.0) - 2.0
        if self.gates.max_latency_ms is not None:
            predicted_ms = self.gates.latency_ms(genotype)
            assert predicted_ms is not None
            excess += max(predicted_ms / self.gates.max_latency_ms, 1.0) - 1.0
        return excess

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Uniform: reached only for a parameter outside the space, or an exhausted one."""
        return RandomSampler(seed=self.seed).sample_independent(
            study, trial, param_name, param_distribution
        )


def hush_optuna() -> None:
    """Keep Optuna's own log and experimental warnings off the user's terminal."""
    import warnings

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
