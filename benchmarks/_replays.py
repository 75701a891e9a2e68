"""Searches replayed over networks whose results cost nothing to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import BaseSampler

from compress.search.gates import Gates, Refusals
from compress.search.gensynth import PROBE, GenerativeSynthesisSampler
from compress.search.sampler import SAMPLERS, GatedSampler, distributions
from compress.space import Genotype, SearchSpace

Curve = npt.NDArray[np.float64]


class Problem(Protocol):
    """What trials are asked of: made up, or looked up in a table."""

    space: SearchSpace

    def delta1(self, genotype: Genotype) -> float: ...

    def score(self, genotype: Genotype, delta1: float) -> float: ...

    def probe(self, genotype: Genotype) -> Mapping[str, Sequence[float]]: ...


@dataclass(frozen=True)
class Replayed:
    """One candidate of a replayed search: what the search was told of it."""

    genotype: Genotype
    delta1: float
    score: float


class Untold(GenerativeSynthesisSampler):
    """Generative synthesis that learns all of NetScore from trials, as the others must."""

    def _promise(self, *args: Any) -> Any:
        self.known = None
        return super()._promise(*args)


# Beside those of --sampler: generative synthesis without one of its parts, or without probes.
ABLATIONS: dict[str, Callable[[int], BaseSampler]] = {
    "gensynth-no-probe": lambda seed: GenerativeSynthesisSampler(seed),
    "gensynth-no-inquisitor": lambda seed: GenerativeSynthesisSampler(seed, inquisitor=False),
    "gensynth-no-seeds": lambda seed: GenerativeSynthesisSampler(seed, seeds=False),
    "gensynth-untold": Untold,
}
PROBED = ("gensynth", "gensynth-no-seeds", "gensynth-untold")
NAMES = ["gensynth", *ABLATIONS, *(name for name in SAMPLERS if name != "gensynth")]


def replay(problem: Problem, gates: Gates, name: str, seed: int, trials: int) -> list[Replayed]:
    """Let a sampler search as a study would, each candidate trained to the end; shorter than
    ``trials`` where no candidate is left."""
    make = ABLATIONS.get(name, SAMPLERS.get(name))
    # The inner sampler's kind decides how many proposals it is asked for at once.
    kind = "gensynth" if name in ABLATIONS else name
    sampler = GatedSampler(problem.space, gates, kind, seed, Refusals(), make=make)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kinds = distributions(problem.space)
    found: list[Replayed] = []
    for _ in range(trials):
        trial = study.ask(kinds)
        if sampler.exhausted:
            break
        genotype = problem.space.genotype(trial.params)
        trial.set_user_attr("hash", genotype.hash)
        delta1 = problem.delta1(genotype)
        if name in PROBED:
            trial.set_user_attr(PROBE, problem.probe(genotype))
        trial.set_constraint("delta1", gates.delta1 - delta1)
        score = problem.score(genotype, delta1)
        study.tell(trial, score)
        found.append(Replayed(genotype, delta1, score))
    return found


def best_so_far(
    found: Sequence[Replayed], gate: float, worth: Callable[[Replayed], float]
) -> Curve:
    """The highest worth among candidates that passed the gate, after each trial; NaN before."""
    values = [worth(one) if one.delta1 >= gate else np.nan for one in found]
    curve: Curve = np.fmax.accumulate(np.array(values))
    return curve


def interval(values: Curve) -> tuple[float, float, float]:
    """Median and its 95 % interval by resampling seeds, NaN counted as worst."""
    filled = np.where(np.isnan(values), -np.inf, values)
    chance = np.random.default_rng(0)
    drawn = np.median(chance.choice(filled, (2000, len(filled))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return float(np.median(filled)), float(low), float(high)


def first_reached(curves: Curve, goals: Curve) -> Curve:
    """The trial (S,) in which each curve (S, T) first reaches its goal (S,); inf for never."""
    reached = np.where(np.isnan(curves), -np.inf, curves) >= goals[:, None] - 1e-9
    return np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf)
