"""Which trained network a candidate is most like."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from compress.errors import CompressError
from compress.models import DepthNet, load
from compress.space import Genotype, SearchSpace


def distance(space: SearchSpace, one: Genotype, other: Genotype) -> float:
    """How far apart two candidates' choices are: steps in each list, as shares of its length.

    Choices without an order are apart or not.
    """
    total = 0.0
    for key, choices in space.choices.items():
        a, b = one.values.get(key), other.values.get(key)
        if a == b or len(choices) < 2:
            continue
        if isinstance(choices[0], str) or a not in choices or b not in choices:
            total += 1.0
            continue
        ordered = sorted(choices)
        total += abs(ordered.index(a) - ordered.index(b)) / (len(ordered) - 1)
    return total


def nearest(space: SearchSpace, genotype: Genotype, others: Iterable[Genotype]) -> Genotype:
    """The one of ``others`` whose choices are nearest; of equals the first.

    Raises:
        ValueError: there are no others.
    """
    return min(others, key=lambda other: distance(space, genotype, other))


def relative(space: SearchSpace, folder: Path, genotype: Genotype) -> DepthNet | None:
    """The nearest of the networks kept in a study's folder; None where there is none.

    Only their headers say what they are, so all are opened: they are few and small.
    """
    found: dict[Genotype, DepthNet] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            network = load(path)
        except CompressError:  # replaced or dropped by another worker meanwhile
            continue
        found[network.genotype] = network
    return found[nearest(space, genotype, found)] if found else None
