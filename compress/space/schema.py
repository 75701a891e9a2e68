"""What a parameter of a family may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from compress.errors import CompressError

Values = Mapping[str, Any]

# A file may hold a value of any size and depth; an error shows the start of it.
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


def shown(value: object) -> str:
    """Give a value for an error message, cut short where it is long or deep."""
    return _SHORT.repr(value)


@dataclass(frozen=True)
class Field:
    """The type of one parameter and its bounds, or the names it may take."""

    type: type
    low: float = 0
    high: float = 0
    allowed: tuple[str, ...] = ()

    @property
    def describe(self) -> str:
        """The allowed values, for people."""
        if self.allowed:
            return ", ".join(self.allowed)
        kind = "whole numbers" if self.type is int else "numbers"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def check(self, value: object, source: str) -> None:
        """Raise ``CompressError`` that gives the value and what is allowed."""
        if self.allowed:
            good = value in self.allowed
        elif self.type is int:
            good = type(value) is int and self.low <= value <= self.high
        else:
            # NaN fails both comparisons.
            good = (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and self.low <= value <= self.high
            )
        if not good:
            raise CompressError(
                f"{source}: {shown(value)} is not allowed; allowed: {self.describe}"
            )


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested tables as one, with dotted keys.

    >>> flat({"stage1": {"modules": [2]}})
    {'stage1.modules': [2]}
    """
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out
