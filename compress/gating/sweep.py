"""What a gating came to at each density on its way down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress.gating.train import Progress

DIGITS = 6  # by which two densities are told apart


def entry(
    progress: Progress, before: Sequence[Mapping[str, Any]], macs: Callable[[], int]
) -> dict[str, Any]:
    """An epoch as a run keeps it, JSON-ready; d1 is None where it was no number.

    Args:
        progress: of the training.
        before: the entries of earlier epochs.
        macs: counts the network as it is; asked once for each density.
    """
    step, epoch = progress.step, progress.epoch
    counted = {_key(one): one.get("macs") for one in before}
    return {
        "phase": step.phase,
        "density": step.density,
        "epoch": epoch.number,
        "loss": epoch.loss,
        "delta1": progress.delta1 if math.isfinite(progress.delta1) else None,
        "macs": counted.get(round(step.density, DIGITS)) or macs(),
        "seconds": epoch.seconds,
    }


def sweep(
    epochs: Sequence[Mapping[str, Any]], latency_ms: float | None = None
) -> list[dict[str, Any]]:
    """Every density that was trained at, the highest first.

    ``delta1`` is that of a few validation images after the last epoch there; ``macs`` the closed
    form's, gates included; ``latency_ms`` is measured at the last density alone.

    Args:
        epochs: what ``entry`` made of each, in order.
        latency_ms: of the finished network.

    >>> told = [{"density": d, "delta1": d, "macs": 9} for d in (1.0, 0.8, 0.8)]
    >>> [(one["density"], one["latency_ms"]) for one in sweep(told, 2.5)]
    [(1.0, None), (0.8, 2.5)]
    """
    last = {_key(one): one for one in epochs}
    final = _key(epochs[-1]) if epochs else None
    return [
        {
            "density": density,
            "delta1": one["delta1"],
            "macs": one.get("macs"),
            "latency_ms": latency_ms if density == final else None,
        }
        for density, one in sorted(last.items(), reverse=True)
    ]


def _key(one: Mapping[str, Any]) -> float:
    return round(float(one["density"]), DIGITS)
