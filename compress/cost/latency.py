"""Latency of networks on a backend, with an interval and a verdict on the machine's noise.

The protocol is described in docs/measuring.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compress.cost.backends import Array, backend_called, device_of, prepare, torch_threads
from compress.cost.energy import PowerMeter, find_meter
from compress.cost.memory import cuda_peak_mb, peak_memory_mb
from compress.cost.timing import (
    LEAST_RUNS,
    Clock,
    Ratio,
    Run,
    Samples,
    interval_ms,
    speedup,
    time_callables,
    verdict,
)
from compress.errors import CompressError, unknown

if TYPE_CHECKING:
    from torch import nn

ENERGY_S = 3.0  # a network is run this long for its energy: sensors are slow


@dataclass(frozen=True)
class Preset:
    """How often and on what a network is run: at most ``runs`` times and about ``seconds``."""

    runs: int
    seconds: float
    image: str  # "random", uniform in -1..1, or "zeros"


PRESETS = {
    "default": Preset(1000, 10.0, "random"),
    # MobileDepth's (Wang, arXiv 2011.10189): 300 runs on an image of zeros.
    "mobiledepth": Preset(300, math.inf, "zeros"),
}


@dataclass(frozen=True)
class Latency:
    """What a network takes for one image.

    ``median_ms``, ``p5_ms``, ``p95_ms`` and ``mean_ms`` are of all counted runs; ``low_ms`` and
    ``high_ms`` bound the median, a 95 % bootstrap interval. ``fps`` is images a second, one at a
    time. ``peak_memory_mb`` is in 10^6 bytes. ``device`` says what it was measured on; ``notes``
    why something was not measured.
    """

    backend: str
    threads: int
    size: tuple[int, int]
    preset: str
    image: str
    median_ms: float
    mean_ms: float
    p5_ms: float
    p95_ms: float
    low_ms: float
    high_ms: float
    fps: float
    runs: int
    rounds: int
    warm_up_runs: int
    noisy: bool
    verdict: str
    peak_memory_mb: float | None
    joules_per_image: float | None
    images_per_s_per_watt: float | None
    power_sensor: str
    device: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What ``compress bench --json`` prints of it."""
        return asdict(self) | {"size": list(self.size), "notes": list(self.notes)}


class Comparison(NamedTuple):
    """Networks measured beside one another.

    ``speedups`` has every network but the first: how many times as fast it is as the first, above
    1 where it is faster, with a 95 % interval.
    """

    latencies: dict[str, Latency]
    speedups: dict[str, Ratio]


def measure_latency(
    model: nn.Module,
    backend: str = "onnxruntime",
    *,
    threads: int = 1,
    size: tuple[int, int] | str | None = None,
    preset: str = "default",
    runs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    memory: bool = True,
    energy: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> Latency:
    """Measure how long a network takes for one image on this machine.

    Args:
        model: any module that takes (1, 3, H, W); it is measured as it would be deployed (in
            evaluation, float32), and stays as it is.
        backend: a name of ``BACKENDS``.
        threads: of the backend; torch's own number is restored afterwards.
        size: input (height, width); default: the model's own.
        preset: a name of ``PRESETS``.
        runs: at most so many counted runs, instead of the preset's.
        seconds: about so long at most, instead of the preset's; 10 runs are always made.
        seed: of the random image and of the bootstrap.
        memory: whether to measure peak memory too, in a process of its own.
        energy: whether to measure energy too, for three more seconds, where there is a sensor.
        clock: nanoseconds; ``time.thread_time_ns`` leaves out what other programs take of a busy
            machine, for one thread of a processor.

    Raises:
        CompressError: the backend is unknown, not installed or cannot run the module.
    """
    both = compare_latency(
        {"model": model}, backend, threads=threads, size=size, preset=preset, runs=runs,
        seconds=seconds, seed=seed, memory=memory, energy=energy, clock=clock,
    )  # fmt: skip
    return both.latencies["model"]


def compare_latency(
    models: Mapping[str, nn.Module],
    backend: str = "onnxruntime",
    *,
    threads: int = 1,
    size: tuple[int, int] | str | None = None,
    preset: str = "default",
    runs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    memory: bool = True,
    energy: bool = True,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Measure several networks in interleaved rounds, and how much faster each is than the first.

    The machine's drift falls on all of them alike, so that their ratio is known better than their
    times. Arguments as in ``measure_latency``; ``runs`` and ``seconds`` are for each.
    """
    from compress.export.onnx import image_size

    if not models:
        raise CompressError("no network to measure: give one or more")
    chosen, protocol = backend_called(backend), _protocol(preset, runs, seconds, seed)
    prepared: dict[str, tuple[Run, Any]] = {}
    images: dict[str, Array] = {}
    meter = find_meter(gpu=chosen.gpu) if energy else PowerMeter("not asked for")
    with TemporaryDirectory(prefix="compress-") as folder, torch_threads(threads):
        for name, model in models.items():
            images[name] = _image(protocol.image, image_size(model, size), seed)
            prepared[name] = prepare(backend, model, [images[name]], threads, Path(folder))
        samples = time_callables(
            {name: run for name, (run, _) in prepared.items()},
            runs=protocol.runs,
            seconds=protocol.seconds,
            clock=clock,
            cpu_clock=None if chosen.gpu else time.process_time_ns,
        )
        latencies = {}
        for name, (run, source) in prepared.items():
            low_ms, high_ms = interval_ms(samples[name], seed)
            peak_mb, why = None, ""
            if memory and chosen.gpu:
                peak_mb = cuda_peak_mb(run)
            elif memory:
                peak_mb, why = peak_memory_mb(backend, source, [images[name]], threads)
            joules = _joules_per_image(meter, run, samples[name].median_ms)
            height, width = images[name].shape[2:]
            latencies[name] = Latency(
                backend=backend,
                threads=threads,
                size=(height, width),
                preset=preset,
                image=protocol.image,
                **_of(samples[name]),
                low_ms=low_ms,
                high_ms=high_ms,
                verdict=(said := verdict(samples[name], low_ms, high_ms)),
                noisy=said != "quiet",
                peak_memory_mb=peak_mb,
                joules_per_image=joules,
                images_per_s_per_watt=None if joules is None else 1 / joules,
                power_sensor=meter.name,
                device=device_of(backend),
                notes=(why,) if why else (),
            )
    first = next(iter(models))
    ratios = {
        name: speedup(samples[first], samples[name], seed) for name in models if name != first
    }
    return Comparison(latencies, ratios)


def _protocol(preset: str, runs: int | None, seconds: float | None, seed: int) -> Preset:
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known = PRESETS[preset]
    if runs is not None and runs < LEAST_RUNS:
        raise CompressError(f"runs {runs}: an interval needs {LEAST_RUNS} or more")
    if seconds is not None and not seconds > 0:
        raise CompressError(f"seconds {seconds}: give more than 0")
    if seed < 0:
        raise CompressError(f"seed {seed}: give 0 or more")
    if seconds is None:
        # Runs that were asked for are all made.
        seconds = known.seconds if runs is None else math.inf
    return Preset(known.runs if runs is None else runs, seconds, known.image)


def _image(kind: str, size: tuple[int, int], seed: int) -> Array:
    """(1, 3, H, W) float32, normalised."""
    if kind == "zeros":
        return np.zeros((1, 3, *size), np.float32)
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, *size)).astype(np.float32)


def _of(samples: Samples) -> dict[str, Any]:
    runs_ms = np.array(samples.runs_ms)
    p5_ms, median_ms, p95_ms = (float(one) for one in np.quantile(runs_ms, [0.05, 0.5, 0.95]))
    return {
        "median_ms": median_ms,
        "mean_ms": float(runs_ms.mean()),
        "p5_ms": p5_ms,
        "p95_ms": p95_ms,
        "fps": 1e3 / median_ms,
        "runs": len(runs_ms),
        "rounds": len(samples.rounds_ms),
        "warm_up_runs": samples.warm_up_runs,
    }


def _joules_per_image(meter: PowerMeter, run: Run, typical_ms: float) -> float | None:
    """Energy of an image, over runs that together take some seconds."""
    images = max(3, math.ceil(ENERGY_S * 1e3 / typical_ms))

    def many() -> None:
        for _ in range(images):
            run()

    joules = meter.joules(many)
    return joules / images if joules else None
