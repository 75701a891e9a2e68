"""Which trained network a candidate is most like."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from compress.errors import CompressError
from compress.models import DepthNet, load
from compress.search.records import Record
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


def relative(
    space: SearchSpace, folder: Path, genotype: Genotype, rows: Iterable[Record]
) -> DepthNet | None:
    """The nearest of the networks kept in a study's folder by trial; None where there is none."""
    kept = {path.stem for path in folder.glob("*.safetensors")}
    there = {row.open_genotype(): row.number for row in rows if str(row.number) in kept}
    while there:
        number = there.pop(nearest(space, genotype, there))
        try:
            return load(folder / f"{number}.safetensors")
        except CompressError:  # replaced or dropped by another worker meanwhile
            continue
    return None
