"""A search space: the choices a TOML or Python file gives for a family of networks."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from compress.errors import CompressError, unknown
from compress.space.families import Family, family
from compress.space.genotype import Genotype, input_size
from compress.space.operators import totals
from compress.space.schema import Values, flat, shown


@dataclass(frozen=True)
class Reference:
    """A named point of a space: a published network and what was published of it."""

    genotype: Genotype
    description: str = ""
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchSpace:
    """Choices for every parameter of a family, and named reference points.

    ``choices`` maps each parameter of the family's schema to the values it may take; ``size`` is
    the usual network input (height, width).

    >>> from compress.space import load_space
    >>> space = load_space("depthnet-nano")
    >>> space.sample(0) == space.sample(0)
    True
    """

    name: str
    family: str
    size: tuple[int, int]
    choices: Mapping[str, tuple[Any, ...]]
    references: Mapping[str, Reference] = field(default_factory=dict)
    description: str = ""
    paper: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Check every choice against the family's schema."""
        where = self.source or f"space {self.name}"
        object.__setattr__(self, "size", input_size(self.size, f"{where}: size"))
        schema = self.rules.schema
        for key, values in self.choices.items():
            if key not in schema:
                raise CompressError(f"{where}: {unknown('parameter', key, schema)}")
            if not isinstance(values, list | tuple) or not values:
                raise CompressError(
                    f"{where}: {key} = {shown(values)}: write a list of choices; each: "
                    f"{schema[key].describe}"
                )
            for value in values:
                schema[key].check(value, f"{where}: {key}")
            if len(set(values)) != len(values):
                raise CompressError(f"{where}: {key} = {list(values)!r}: a choice stands twice")
        missing = [key for key in schema if key not in self.choices]
        if missing:
            raise CompressError(
                f"{where}: no choices for {', '.join(missing)}; a fixed value is a list of one, "
                f"as in {missing[0].rsplit('.', 1)[-1]} = [...] with {schema[missing[0]].describe}"
            )
        # One order for all spaces of a family, whatever order the file was written in.
        ordered = {key: tuple(self.choices[key]) for key in schema}
        object.__setattr__(self, "choices", ordered)

    @cached_property
    def rules(self) -> Family:
        """The family's own rules."""
        return family(self.family)

    @property
    def cardinality(self) -> int:
        """How many combinations of choices there are."""
        return math.prod(len(values) for values in self.choices.values())

    def sample(self, seed: int) -> Genotype:
        """Draw a genotype: every parameter uniformly, the same for the same seed."""
        choose = random.Random(seed).random
        return self._decode({k: v[int(choose() * len(v))] for k, v in self.choices.items()})

    def genotype(self, values: Values) -> Genotype:
        """Build the genotype of one choice per parameter; a wrong one raises ``CompressError``."""
        for key in values:
            if key not in self.choices:
                raise unknown(f"parameter of space {self.name}", key, self.choices)
        chosen = {}
        for key, allowed in self.choices.items():
            value = values.get(key)
            if isinstance(value, bool) or value not in allowed:
                raise CompressError(
                    f"space {self.name}: {key} = {shown(value)} is not a choice; allowed: "
                    f"{', '.join(map(str, allowed))}"
                )
            chosen[key] = allowed[allowed.index(value)]  # 3.0 is the choice 3
        return self._decode(chosen)

    def reference(self, name: str) -> Genotype:
        """Return a named reference point; an unknown name offers the nearest."""
        if name not in self.references:
            raise unknown(f"reference of space {self.name}", name, self.references)
        return self.references[name].genotype

    def restricted(self, choices: Mapping[str, Any]) -> SearchSpace:
        """This space with other choices for some parameters: a value, or a list of values.

        Raises ``CompressError`` for an unknown parameter or a value that its family does not allow.
        """
        given = flat(choices)
        for key in given:
            if key not in self.choices:
                raise unknown(f"parameter of space {self.name}", key, self.choices)
        chosen = {
            key: tuple(value) if isinstance(value, list | tuple) else (value,)
            for key, value in given.items()
        }
        return replace(self, choices={**self.choices, **chosen})

    @cached_property
    def smallest(self) -> Genotype:
        """The network with the fewest parameters, found choice by choice.

        Exact where parameters grow with every number apart from the others, as in all shipped
        families.
        """
        # From the least numbers, for a choice that others leave unused has none to prefer.
        best = {key: min(values) for key, values in self.choices.items()}
        for _ in range(2):  # the second round catches choices that hid one another
            for key, values in self.choices.items():
                best[key] = min(values, key=lambda value: self._params(best | {key: value}))
        return self._decode(best)

    @cached_property
    def largest(self) -> Genotype:
        """The network with the most of every number; of names without an order the first."""
        return self._decode(
            {
                key: values[0] if isinstance(values[0], str) else max(values)
                for key, values in self.choices.items()
            }
        )

    def _params(self, values: Values) -> int:
        return totals(self.rules.operators(self.rules.decode(values), self.size)).params

    def _decode(self, values: dict[str, Any]) -> Genotype:
        return Genotype(self.family, self.rules.decode(values), self.size, self.name, "", values)
