"""Which layers compute only the channels that are wanted, decided by measuring them here."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from compress.errors import CompressError, unknown
from compress.gating._kernels import Convolve, modes_of
from compress.gating._steps import Conv, Gate, Graph
from compress.gating._values import Value

CHOICES = ("measure", "gather", "dense")
ROUNDS = 5
LONGEST_S = 0.05  # of one layer in all its modes, beyond two rounds
SHORT_MS = 10.0
HOPELESS = 2.5  # times as long as the fastest mode
PASSED = 1 << 21  # numbers that pass between two runs of a layer, as those of other layers do


@dataclass(frozen=True)
class LayerPlan:
    """How a convolution is run, and what its modes took.

    ``size`` is that of the output; ``ms`` holds the milliseconds of each mode that was measured.
    """

    path: str
    channels: tuple[int, int]
    kernel: tuple[int, int]
    size: tuple[int, int]
    gated: bool
    mode: str
    ms: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """How every convolution is run, in order."""

    size: tuple[int, int]
    threads: int
    layers: tuple[LayerPlan, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which ``from_dict`` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Plan:
        """Read what ``to_dict`` wrote.

        Raises:
            CompressError: something is missing.
        """
        try:
            layers = tuple(
                LayerPlan(
                    str(one["path"]), _two(one["channels"]), _two(one["kernel"]),
                    _two(one["size"]), bool(one["gated"]), str(one["mode"]),
                    {str(name): float(ms) for name, ms in one["ms"].items()},
                )
                for one in given["layers"]
            )  # fmt: skip
            return cls(_two(given["size"]), int(given["threads"]), layers)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CompressError(f"no plan of an executor: {error!r}; give Plan.to_dict()") from None


def _two(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


class Chooser:
    """Gives each convolution its mode while values of real images pass through."""

    def __init__(
        self, choose: str, threads: int, given: Plan | None, graph: Graph | None = None
    ) -> None:
        if choose not in CHOICES:
            raise unknown("way to choose", choose, CHOICES)
        self.choose = choose
        # With one thread the processor time is blind to what else runs here.
        self.clock = time.process_time_ns if threads == 1 else time.perf_counter_ns
        self.given = {} if given is None else {one.path: one for one in given.layers}
        self.known = given is not None
        # By the time a layer runs again its weights are where those of a large network leave them.
        others = (
            sum(step.weight.numel() for step in graph.steps if isinstance(step, Conv | Gate))
            if graph
            else 0
        )
        self.others = torch.zeros(min(others, PASSED))

    def __call__(
        self, step: Conv, seen: Sequence[tuple[Value, Value | None]]
    ) -> tuple[Convolve, LayerPlan]:
        """Choose for a convolution that was given these inputs and scales, one for each image."""
        compact = any(x.index is not None for x, _ in seen)
        modes = modes_of(step, compact, "measure" if self.known else self.choose)
        kernels: dict[str, Convolve] = {}
        ms: dict[str, float] = {}
        if self.known:
            layer = self.given.get(step.path)
            names = {str(mode): mode for mode in modes}
            if layer is None or layer.mode not in names:
                mode = "no mode" if layer is None else f"the mode {layer.mode}"
                raise CompressError(
                    f"the plan given has {mode} for {step.path}; it can run as {', '.join(names)}"
                )
            best, ms = layer.mode, dict(layer.ms)
            kernels[best] = Convolve(step, names[best])
        else:
            kernels = {str(mode): Convolve(step, mode) for mode in modes}
            best = next(iter(kernels))
            if len(kernels) > 1:
                ms = self._measure(kernels, seen)
                best = min(ms, key=lambda name: ms[name])
        outs, _, *kernel = step.weight.shape
        gated = step.scales is not None
        plan = LayerPlan(
            step.path, (step.channels[0], outs), _two(kernel), step.size, gated, best, ms
        )
        return kernels[best], plan

    def _measure(
        self, kernels: Mapping[str, Convolve], seen: Sequence[tuple[Value, Value | None]]
    ) -> dict[str, float]:
        """Milliseconds of an image in each mode: the least of interleaved rounds.

        What disturbs a run makes it longer, never shorter. Modes that are far behind once warmed
        up are not run again.
        """
        ms = {name: self._ms(kernel, seen) for name, kernel in kernels.items()}
        for name, first in ms.items():
            if first < SHORT_MS:  # in which the first run's preparations would weigh
                ms[name] = self._ms(kernels[name], seen)
        hopeful = [name for name in ms if ms[name] <= HOPELESS * min(ms.values())]
        ms.update(dict.fromkeys(hopeful, math.inf))
        began = time.perf_counter()
        for number in range(ROUNDS):
            if number > 1 and time.perf_counter() - began > LONGEST_S * len(seen):
                break
            for name in hopeful[:: -1 if number % 2 else 1]:
                ms[name] = min(ms[name], self._ms(kernels[name], seen))
        return {name: round(least, 4) for name, least in ms.items()}

    def _ms(self, kernel: Convolve, seen: Sequence[tuple[Value, Value | None]]) -> float:
        taken = 0
        for x, scales in seen:
            self.others.sum()
            start = self.clock()
            kernel(x, scales)
            taken += self.clock() - start
        return taken / 1e6 / len(seen)


def noise(count: int, size: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    """Images of noise, the same each time, where no real ones were given."""
    chance = torch.Generator().manual_seed(0)
    return [torch.rand(1, 3, *size, generator=chance, dtype=dtype) * 2 - 1 for _ in range(count)]
