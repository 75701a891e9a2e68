"""What is to be met, where it is measured, and who is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from compress.cost.latency import Comparison, Latency, compare_latency, measure_latency
from compress.cost.timing import Clock
from compress.errors import CompressError
from compress.pruning.netadapt import Iteration

QUIET_TRIES = 3  # measurements of one network, while the machine is too noisy to tell


@dataclass(frozen=True)
class Target:
    """What is to be met: exactly one of latency, multiply-adds, parameters and a ratio.

    ``ratio`` is the share of channels to drop, of one-shot pruning alone.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in asdict(self).items() if v is not None}
        if len(given) != 1:
            raise CompressError(
                f"{len(given)} targets are given; give one of --target-latency, --target-macs, "
                "--target-params and --ratio"
            )
        name, value = next(iter(given.items()))
        if not (value > 0 and value < float("inf")):
            raise CompressError(f"target {name} = {value:g}: give a number above 0")
        if name == "ratio" and value >= 1:
            raise CompressError(f"ratio = {value:g}: give a share of channels below 1")

    @property
    def name(self) -> str:
        """ "latency_ms", "macs", "params" or "ratio"."""
        return next(key for key, value in asdict(self).items() if value is not None)

    @property
    def value(self) -> float:
        """The target in its unit."""
        return float(next(value for value in asdict(self).values() if value is not None))


class Events:
    """What a pruning tells while it runs; override what is wanted."""

    def note(self, text: str) -> None:
        """Anything worth a line."""

    def iteration(self, step: Iteration, target: float) -> None:
        """One layer was cut."""

    def measured(self, latency: Latency, predicted_ms: float) -> None:
        """The exported network was measured."""

    def so_far(self, values: Mapping[str, Any]) -> None:
        """Parts of what the result's JSON will hold, as they come to be known."""


@dataclass(frozen=True)
class Place:
    """Where and how latency is measured."""

    backend: str = "onnxruntime"
    threads: int = 1
    seconds: float = 5.0
    clock: Clock = time.perf_counter_ns

    def measure(self, model: nn.Module, size: tuple[int, int]) -> Latency:
        """Measure, again where the machine was too noisy to tell; the quietest counts."""
        best: Latency | None = None
        for seed in range(QUIET_TRIES):
            found = measure_latency(
                model, self.backend, threads=self.threads, size=size, seconds=self.seconds,
                seed=seed, memory=False, energy=False, clock=self.clock,
            )  # fmt: skip
            if best is None or found.high_ms / found.median_ms < best.high_ms / best.median_ms:
                best = found
            if not found.noisy:
                return found
        assert best is not None
        return best

    def compare(self, models: Mapping[str, nn.Module], size: tuple[int, int]) -> Comparison:
        """Measure networks beside one another."""
        return compare_latency(
            dict(models), self.backend, threads=self.threads, size=size, seconds=self.seconds,
            memory=False, energy=False, clock=self.clock,
        )  # fmt: skip
