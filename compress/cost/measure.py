"""Measuring a calibration's items inside a backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compress.cost.backends import Array, backend_called, torch_threads
from compress.cost.plan import Item, Measure, Measured, units
from compress.cost.timing import Run, time_callables
from compress.errors import CompressError
from compress.space import Genotype

# Seconds of runs and of warming up, and rounds: items are many, and each is one of many that a
# fitted value rests on.
EFFORT = {"passage": (0.08, 0.03, 8), "network": (0.5, 0.2, 20), "heldout": (0.5, 0.2, 20)}


def measurer(backend: str, threads: int, reference: Genotype) -> Measure:
    """What measures items in turns on this machine, and ``reference`` with them every time."""
    _, clock = clock_of(backend, threads)
    held: list[Run] = []  # the reference, loaded once

    def measure(items: Sequence[Item]) -> list[Measured | None]:
        with TemporaryDirectory(prefix="compress-") as folder, torch_threads(threads):
            if not held:
                item = Item("network", units(reference), reference)
                loaded_reference = _loaded(item, backend, threads, Path(folder))
                if loaded_reference is None:
                    raise CompressError(
                        f"{backend} does not run a network of space {reference.space}, against "
                        "which the others are measured; compress bench says why"
                    )
                held.append(loaded_reference[0])
            loaded = [_loaded(item, backend, threads, Path(folder)) for item in items]
            runs = {str(i): one[0] for i, one in enumerate(loaded) if one is not None}
            seconds, warm_up_s, rounds = EFFORT[items[0].kind]
            samples = time_callables(
                runs | {"reference": held[0]}, seconds=seconds, rounds=rounds,
                warm_up_s=warm_up_s, clock=clock, cpu_clock=None,
            )  # fmt: skip
        reference_ms = samples["reference"].median_ms
        return [
            None if one is None else Measured(samples[str(i)].median_ms, *one[1:], reference_ms)
            for i, one in enumerate(loaded)
        ]

    return measure


def _loaded(
    item: Item, backend: str, threads: int, folder: Path
) -> tuple[Run, int, int, int] | None:
    """What runs an item once, its inputs, outputs and values put in; None where it does not run."""
    from compress.cost.passages import Passage
    from compress.models import build

    model: Any
    if item.genotype is not None:
        model, outputs = build(item.genotype, seed=0), 1
        chance = np.random.default_rng(0)
        shape = (1, 3, *item.genotype.size)
        inputs = [chance.uniform(-1, 1, shape).astype(np.float32)]
    else:
        model = Passage(item.units, item.copies)
        inputs, outputs = model.inputs(), model.outputs
    try:
        run = _prepared(model, inputs, backend, threads, folder)
    except CompressError:
        return None
    return run, len(inputs), outputs, sum(x.size for x in inputs)


def _prepared(model: Any, inputs: Sequence[Array], backend: str, threads: int, folder: Path) -> Run:
    """``compress.cost.backends.prepare`` without the comparison with torch.

    What random weights compute is no one's figure, and comparing takes as long as measuring.
    """
    import torch

    from compress.export.onnx import as_deployed, write_onnx

    chosen = backend_called(backend)
    source: Any
    if chosen.onnx:
        source = folder / f"{len(list(folder.iterdir()))}.onnx"
        names = [f"input{index}" for index in range(len(inputs))]
        tensors = [torch.from_numpy(x) for x in inputs]
        write_onnx(model, tensors, source, inputs_called=names, check=False)
    else:
        source = as_deployed(model)
    try:
        return chosen.load(source, inputs, threads)
    except CompressError:
        raise
    except Exception as error:  # each backend has its own kinds
        said = " ".join(str(error).split())[:300]
        raise CompressError(f"{type(model).__name__} does not run on {backend}: {said}") from error


def clock_of(backend: str, threads: int) -> tuple[str, Callable[[], int]]:
    """The clock that fits: its name, and nanoseconds.

    On one thread of a processor, the time that the thread had the processor: on a quiet machine it
    is the time that passes, and on another one nothing else tells the same twice.
    """
    if threads == 1 and not backend_called(backend).gpu:
        return "processor time of the one thread", time.thread_time_ns
    return "time passed", time.perf_counter_ns
