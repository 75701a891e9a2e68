"""A genotype: everything needed to build one network, as plain data."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.errors import CompressError
from compress.space.schema import shown

_KEYS = {"family", "spec", "size", "space", "name", "values"}


@dataclass(frozen=True)
class Genotype:
    """One network of a family, described by numbers.

    ``spec`` is the architecture, in the family's own terms. ``size`` is the network's usual input
    (height, width). ``space``, ``name`` and ``values`` say where it came from: the search space, a
    reference point's name, and the choices that led to it. Only ``family`` and ``spec`` make
    identity: two genotypes that build the same network share a ``hash``.
    """

    family: str
    spec: Mapping[str, Any]
    size: tuple[int, int]
    space: str = ""
    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the architecture alone."""
        canonical = json.dumps([self.family, self.spec], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return int(self.hash, 16)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genotype) and self.hash == other.hash

    def to_dict(self) -> dict[str, Any]:
        """The genotype as JSON-ready values."""
        return {
            "family": self.family,
            "spec": self.spec,
            "size": list(self.size),
            "space": self.space,
            "name": self.name,
            "values": dict(self.values),
        }

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, data: object, source: str = "genotype") -> Genotype:
        """Read ``to_dict``'s form; a wrong or missing key raises ``CompressError``."""
        if not isinstance(data, dict):
            raise CompressError(f"{source}: a genotype is a JSON object, got {type(data).__name__}")
        missing = {"family", "spec", "size"} - data.keys()
        extra = data.keys() - _KEYS
        if missing or extra:
            raise CompressError(
                f"{source}: not a genotype: missing keys {sorted(missing)}, unknown keys "
                f"{shown(sorted(map(str, extra)))}; allowed: {', '.join(sorted(_KEYS))}"
            )
        from compress.space.families import family  # families build on this module

        size = input_size(data["size"], f"{source}: size")
        rules = family(data["family"])
        spec = rules.read_spec(data["spec"], source)
        space, name, values = data.get("space", ""), data.get("name", ""), data.get("values", {})
        for key, text in (("space", space), ("name", name)):
            if not isinstance(text, str):
                raise CompressError(f"{source}: {key} = {shown(text)}: write a text")
        if not isinstance(values, dict) or not all(
            isinstance(value, str | int | float) for value in values.values()
        ):
            raise CompressError(f"{source}: values = {shown(values)}: write numbers and texts")
        return cls(rules.name, spec, size, space, name, dict(values))

    @classmethod
    def from_json(cls, text: str, source: str = "genotype") -> Genotype:
        """Read a genotype from JSON text."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: also too many digits
            raise CompressError(f"{source}: not JSON ({error})") from None
        return cls.from_dict(data, source)

    @classmethod
    def read(cls, path: str | Path) -> Genotype:
        """Read a genotype from a JSON file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CompressError(f"{path}: cannot read a genotype ({error})") from None
        return cls.from_json(text, str(path))


def input_size(value: object, source: str = "size") -> tuple[int, int]:
    """Read a network input size: ``"480x640"`` or ``(480, 640)``, height first.

    >>> input_size("96x128")
    (96, 128)
    """
    try:
        if isinstance(value, str):
            height, width = map(int, value.lower().split("x"))
        else:
            height, width = map(operator.index, value if isinstance(value, list | tuple) else ())
    except (TypeError, ValueError):
        height = width = 0
    if not (16 <= height <= 8192 and 16 <= width <= 8192):
        raise CompressError(
            f"{source}: {shown(value)} is no input size; write HEIGHTxWIDTH, 16 to 8192 each, "
            "as in 480x640"
        )
    return height, width
