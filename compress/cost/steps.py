"""At which multiples of channels this device's latency rises: the widths worth keeping."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.cost.backends import backend_called
from compress.cost.timing import time_callables
from compress.export.onnx import as_deployed, write_onnx

WIDTHS = tuple(range(36, 100, 4))  # multiples of 4: others leave the libraries' blocked layouts
STEPS = (4, 8, 16, 32)
CLEARLY = 0.7  # of the residual of a smooth rise: a staircase must leave less than this
SIDE, CHANNELS = 28, 64


def measure_step(backend: str, threads: int = 1, seconds: float = 0.25) -> int:
    """Measure by how many channels a convolution must grow for its latency to rise.

    A 3x3 convolution of a 28x28 map is run at sixteen widths between two others of 64 channels.

    Args:
        backend: a name of ``compress.cost.backends.BACKENDS``.
        threads: of the backend.
        seconds: about how long each width is run.

    Returns:
        one of ``STEPS``; 4 where latency rises with every width.
    """
    chosen = backend_called(backend)
    image = np.random.default_rng(0).standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for width in WIDTHS:
            model = nn.Sequential(
                nn.Conv2d(CHANNELS, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, CHANNELS, 3, padding=1),
            ).eval()
            source: object = as_deployed(model)
            if chosen.onnx:
                source = Path(folder) / f"{width}.onnx"
                write_onnx(
                    model, [torch.from_numpy(image)], source, inputs_called=["input0"], check=False
                )
            runs[str(width)] = chosen.load(source, [image], threads)
        taken = time_callables(runs, seconds=seconds, warm_up_s=0.2)
        return step_of(WIDTHS, {int(name): samples.median_ms for name, samples in taken.items()})


def step_of(widths: Sequence[int], latency_ms: Mapping[int, float]) -> int:
    """The step whose staircase fits best: latency = a + b x ceil(width / step).

    >>> step_of(range(4, 68, 4), {w: 1 + -(-w // 16) * 0.1 for w in range(4, 68, 4)})
    16
    >>> step_of(range(4, 68, 4), {w: 1 + w * 0.01 for w in range(4, 68, 4)})
    4
    """
    at = np.array(widths, dtype=float)
    taken = np.array([latency_ms[width] for width in widths])
    left = {}
    for step in STEPS:
        terms = np.stack([np.ones_like(at), np.ceil(at / step)], 1)
        weights, *_ = np.linalg.lstsq(terms, taken, rcond=None)
        left[step] = float(((terms @ weights - taken) ** 2).sum())
    best = min(STEPS, key=lambda step: left[step])
    return best if left[best] < CLEARLY * left[STEPS[0]] else STEPS[0]
