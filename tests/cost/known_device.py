"""A device whose times are known: what calibrates on it needs no clock."""

from __future__ import annotations

import math

from compress.cost.passages import Passage
from compress.cost.plan import Item, Measured
from compress.cost.units import CONVOLUTIONS, Unit

RUN_MS = 0.02


def unit_ms(unit: Unit) -> float:
    """A roofline with steps of 16 channels, slower where channels do not divide by 4."""
    cells = unit.height * unit.width
    moved = unit.in_channels * unit.area + unit.out_channels * cells
    if unit.kind not in CONVOLUTIONS:
        return 0.002 + moved * 4e-7 * (3 if unit.detail == "bilinear" else 1)
    taps = unit.kernel * unit.kernel_width
    each = unit.in_channels / unit.groups
    work = 16 * math.ceil(unit.out_channels / 16) * each * taps * cells
    slow = 2.5 if unit.in_channels % 4 else 1.0
    acted = 6e-7 * unit.out_channels * cells if unit.act == "selu" else 0.0
    return 0.003 + slow * max(work * 2e-8, moved * 3e-7) + acted


def network_ms(units: tuple[Unit, ...]) -> float:
    return sum(map(unit_ms, units)) + RUN_MS


class KnownDevice:
    """Measures by ``unit_ms``; each call takes a second of its own clock."""

    def __init__(self, calls: int = 10**9) -> None:
        self.now = 0.0
        self.items: list[Item] = []
        self.left = calls  # until Ctrl-C

    def clock(self) -> float:
        return self.now

    def measure(self, items) -> list[Measured | None]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.now += 1.0
        self.items += items
        found: list[Measured | None] = []
        for item in items:
            if item.genotype is not None:
                found.append(Measured(network_ms(item.units)))
                continue
            inputs = sum(Passage(item.units).fresh) * item.copies
            took_ms = item.copies * sum(map(unit_ms, item.units)) + RUN_MS
            found.append(Measured(took_ms, inputs, item.copies, 0))
        return found
