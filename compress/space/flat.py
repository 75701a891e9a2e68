"""Families whose architecture is one value per parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.errors import CompressError, unknown
from compress.space.draft import Draft
from compress.space.operators import Operator
from compress.space.schema import Field, Values, flat, shown

# How a head's map is read: as log depth, as inverse depth, as depth (models.base.to_depth).
TARGETS = ("log", "inverse", "linear")


class FlatFamily:
    """Rules shared by families whose spec is the table of their parameters.

    A family names itself, lists its ``schema`` and writes its operators in ``draft``. Where some
    choices make no difference to others (the levels of skips that are not there), ``settled``
    gives them one value, so that two ways to write one network share a hash.
    """

    name: str
    schema: dict[str, Field]

    def decode(self, values: Values) -> dict[str, Any]:
        """Turn one choice per parameter into a spec."""
        return self.settled(
            {
                key: float(values[key]) if field.type is float else values[key]
                for key, field in self.schema.items()
            }
        )

    def settled(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Give choices that make no difference their one value; default: nothing to settle."""
        return spec

    def read_spec(self, spec: object, source: str) -> dict[str, Any]:
        """Read a network from a file, whose parameters may stand in tables of their prefix."""
        if not isinstance(spec, Mapping):
            raise CompressError(f"{source}: spec = {shown(spec)}: write a table of parameters")
        values = flat(spec)
        self._check(values, source)
        return self.decode(values)

    def check_spec(self, spec: object, source: str) -> None:
        """Raise ``CompressError`` unless ``spec`` describes a network of this family."""
        if not isinstance(spec, Mapping):
            raise CompressError(f"{source}: spec = {shown(spec)}: write a table of parameters")
        self._check(spec, source)

    def _check(self, values: Mapping[str, Any], source: str) -> None:
        for key in values:
            if key not in self.schema:
                raise CompressError(f"{source}: {unknown('parameter', str(key), self.schema)}")
        for key, field in self.schema.items():
            if key not in values:
                raise CompressError(f"{source}: {key} is missing; allowed: {field.describe}")
            field.check(values[key], f"{source}: {key}")
        self.check_together(values, source)

    def check_together(self, values: Mapping[str, Any], source: str) -> None:
        """Raise ``CompressError`` where parameters are allowed alone but not together."""

    def operators(self, spec: Mapping[str, Any], size: tuple[int, int]) -> list[Operator]:
        """List what runs for one image of ``size`` (height, width), in order."""
        draft = Draft(size)
        self.draft(draft, spec)
        return draft.operators

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        raise NotImplementedError
