"""Scales, ticks and the little markup that charts are made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An SVG element; text and attribute values are escaped, other elements are not.

    >>> print(element("text", "a < b", x=1, text_anchor="end"))
    <text x="1" text-anchor="end">a &lt; b</text>
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


@dataclass(frozen=True)
class Axis:
    """A scale from values ``low`` .. ``high`` to pixels ``start`` .. ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value.

        >>> Axis(1, 100, 0, 200, log=True).at(10), Axis(0, 1, 300, 100).at(0.25)
        (100.0, 250.0)
        """
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, spacing: float = 56) -> list[float]:
        """Round values inside, at least ``spacing`` pixels apart."""
        if not self.log:
            return _linear(self.low, self.high, max(2, int(abs(self.end - self.start) / spacing)))
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
            values = [digit * 10.0**k for k in decades for digit in digits]
            inside = [v for v in values if self.low <= v <= self.high]
            if len(inside) >= 4:
                break
        kept: list[float] = []
        for value in inside:
            if not kept or abs(self.at(value) - self.at(kept[-1])) >= spacing:
                kept.append(value)
        return kept


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis with some room around positive values."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.07, 1.12 if high / low > 1.2 else 1.6)
    return Axis(low / room, high * room, start, end, log=True)


def linear_axis(
    values: Iterable[float],
    start: float,
    end: float,
    least: float = 0.1,
    within: Axis | None = None,
) -> Axis:
    """A linear axis with some room around values, at least ``least`` wide, cut to ``within``."""
    known = list(values)
    low, high = min(known), max(known)
    room = max((high - low) * 0.09, (least - (high - low)) / 2)
    low, high = low - room, high + room
    if within is not None:
        low, high = max(low, within.low), min(high, within.high)
    return Axis(low, high, start, end)


def _linear(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]
