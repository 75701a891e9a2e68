"""A few small networks of every shipped space, for tests that run real values through them."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
from measured import measured

from compress.cost import cost
from compress.models import DepthNet, build
from compress.space import Genotype, SearchSpace, load_space, space_names

MOST = 8  # members a space


def members(space: SearchSpace) -> list[Genotype]:
    """The smallest network, and others hardly larger that between them show every named choice.

    Each next member has as many choices as it can that none before had, of parameters with few of
    them: kinds of blocks, of skips, of targets, numbers of stages.
    """
    chosen = [space.smallest]
    limit = max(1e6, 1.5 * cost(space.smallest).params)
    drawn = [space.sample(seed) for seed in range(400)]
    drawn = [one for one in drawn if cost(one).params <= limit]
    few = [key for key, choices in space.choices.items() if 1 < len(choices) <= 6]

    def shown(genotype: Genotype) -> set[tuple[str, Any]]:
        return {(key, genotype.values[key]) for key in few}

    def named(pairs: set[tuple[str, Any]]) -> set[tuple[str, Any]]:
        return {pair for pair in pairs if isinstance(pair[1], str)}

    seen = shown(chosen[0])
    every = set().union(seen, *map(shown, drawn))
    while len(chosen) < 3 or (named(every - seen) and len(chosen) < MOST):
        best = max(drawn, key=lambda one: (len(named(shown(one) - seen)), len(shown(one) - seen)))
        seen |= shown(best)
        chosen.append(best)
    return chosen


MEMBERS: dict[str, Genotype] = {
    f"{name}-{number}": genotype
    for name in space_names()
    if load_space(name).family == name  # a second space of a family has the same modules
    for number, genotype in enumerate(members(load_space(name)))
}
EACH_MEMBER = pytest.mark.parametrize("genotype", MEMBERS.values(), ids=MEMBERS)
SMALLEST = {name: genotype for name, genotype in MEMBERS.items() if name.endswith("-0")}
EACH_SPACE = pytest.mark.parametrize("genotype", SMALLEST.values(), ids=SMALLEST)


def fresh(genotype: Genotype) -> DepthNet:
    """An untrained network, as ``build`` gives it: the test's own."""
    return copy.deepcopy(_built(genotype))


def ready(genotype: Genotype) -> DepthNet:
    """One in evaluation, whose batch norms have seen images: the test's own."""
    return copy.deepcopy(_measured(genotype))


@cache
def _built(genotype: Genotype) -> DepthNet:
    return build(genotype, seed=0)


@cache
def _measured(genotype: Genotype) -> DepthNet:
    return measured(fresh(genotype))
