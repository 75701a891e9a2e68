"""What a calibration measures: passages of networks, whole networks, and others held out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from compress.cost.count import operators
from compress.cost.units import CONVOLUTIONS, Unit, units_of
from compress.space import Genotype, SearchSpace

KINDS = ("passage", "network", "heldout")
LENGTHS = (1, 1, 2, 3, 4)  # of passages
PASSAGE_MS = 0.4  # about what the copies of a passage take together
MOST_COPIES = 16
HELD = 4  # every fourth genotype, by its hash, is held out
TRIES = 200


class Item(NamedTuple):
    """Something to measure: a passage of a network's units, or a genotype as a whole."""

    kind: str  # one of KINDS
    units: tuple[Unit, ...]
    genotype: Genotype | None = None
    copies: int = 1


class Measured(NamedTuple):
    """What was measured of an item: the time, and what went in and out.

    ``reference_ms`` is what one and the same network took meanwhile, 0 where none ran.
    """

    latency_ms: float
    inputs: int = 1
    outputs: int = 1
    values: int = 0
    reference_ms: float = 0.0


# Measures items in turns; None for one that the backend cannot run.
Measure = Callable[[Sequence[Item]], list[Measured | None]]


class Plan:
    """The items of a calibration, each the same whenever it is asked for.

    Networks are drawn from the spaces in turn. Passages are runs of one to four units of further
    networks. Which networks are held out follows from their hashes: none of them is ever fitted.
    """

    def __init__(self, spaces: Sequence[SearchSpace]) -> None:
        self.spaces = spaces

    def items(self, kind: str, start: int = 0) -> Iterator[tuple[int, Item]]:
        """Items of a kind and their numbers, from number ``start`` on, while there are any."""
        number, missed = start, 0
        while missed < TRIES:
            item = self._passage(number) if kind == "passage" else self._whole(kind, number)
            missed = 0 if item else missed + 1
            if item:
                yield number, item
            number += 1

    def _whole(self, kind: str, number: int) -> Item | None:
        genotype = self._network(number, kind == "heldout")
        return Item(kind, units(genotype), genotype) if genotype else None

    def _network(self, number: int, held: bool) -> Genotype | None:
        space = self.spaces[number % len(self.spaces)]
        genotype = None
        for seed in range(number * TRIES, (number + 1) * TRIES):
            genotype = space.sample(seed)
            if (int(genotype.hash, 16) % HELD == 0) == held:
                return genotype
        return None if held else genotype  # a space of one network or two

    def _passage(self, number: int) -> Item | None:
        from compress.cost.passages import measurable

        chance = random.Random(number)
        # Of other networks, so that the fit sees more shapes.
        space = self.spaces[number % len(self.spaces)]
        every = units(space.sample(chance.randrange(10**9, 10**12)))
        length = min(chance.choice(LENGTHS), len(every))
        first = chance.randrange(len(every) - length + 1)
        chosen = every[first : first + length]
        if not all(map(measurable, chosen)):
            return None
        guess_ms = sum(map(_work, chosen)) / 5e7 + 0.01 * length
        return Item("passage", chosen, None, int(min(MOST_COPIES, max(2, PASSAGE_MS / guess_ms))))


def units(genotype: Genotype) -> tuple[Unit, ...]:
    """The units of a genotype at its own size."""
    return tuple(units_of(operators(genotype))[0])


def _work(unit: Unit) -> float:
    """Operations, roughly."""
    each = unit.in_channels / unit.groups if unit.kind in CONVOLUTIONS else 1
    return unit.out_channels * unit.height * unit.width * unit.kernel * unit.kernel_width * each
