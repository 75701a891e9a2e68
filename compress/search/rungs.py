"""Rungs: how far, at which size and on how much data a candidate trains before each look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compress.errors import CompressError

# Shares of a candidate's epochs after which it is scored.
RUNGS = (0.25, 0.5, 1.0)
# What is spared before the last rung, beside the epochs that come after it.
FIDELITIES = ("epochs", "resolution", "data")
# The least side of an image that every network takes: one cell at a sixteenth of its size.
LEAST_SIDE = 16


@dataclass(frozen=True)
class Part:
    """A candidate's training up to one rung: images of ``size`` (H, W), and their ``share``."""

    until: int
    size: tuple[int, int]
    share: float = 1.0

    def spared(self, size: tuple[int, int]) -> dict[str, Any]:
        """What is less than all, as a rung is stored with it; ``size`` is the network's."""
        smaller = {"size": list(self.size)} if self.size != tuple(size) else {}
        return smaller | ({"share": self.share} if self.share < 1 else {})


def rung_shares(epochs: int) -> dict[int, float]:
    """Epochs after which a candidate is scored, and the share of its training that each stands for.

    >>> rung_shares(12), rung_shares(2), rung_shares(1)
    ({3: 0.25, 6: 0.5, 12: 1.0}, {1: 0.5, 2: 1.0}, {1: 1.0})
    """
    return {max(1, round(share * epochs)): share for share in RUNGS}


def rung_epochs(epochs: int) -> list[int]:
    """Epochs after which a candidate is scored.

    >>> rung_epochs(12), rung_epochs(1)
    ([3, 6, 12], [1])
    """
    return list(rung_shares(epochs))


def parts(epochs: int, fidelity: str, size: tuple[int, int]) -> list[Part]:
    """A candidate's training, rung by rung.

    "epochs" spares nothing but epochs. "resolution" halves both sides of the images before the
    last part, "data" trains on the share of the images that the rung is of the epochs. The last
    part is always of all images at the network's size.

    Raises:
        CompressError: half of ``size`` is less than networks take.

    >>> [part.size for part in parts(12, "resolution", (96, 128))]
    [(48, 64), (48, 64), (96, 128)]
    >>> [part.share for part in parts(12, "data", (96, 128))]
    [0.25, 0.5, 1.0]
    """
    half = (size[0] // 2, size[1] // 2)
    if fidelity == "resolution" and min(half) < LEAST_SIDE:
        raise CompressError(
            f"fidelity resolution trains at half of {size[0]}x{size[1]} first, and networks take "
            f"no side below {LEAST_SIDE}: give a --size of {2 * LEAST_SIDE}x{2 * LEAST_SIDE} or "
            "more, or another --fidelity"
        )
    return [
        Part(
            until,
            half if fidelity == "resolution" and until < epochs else size,
            share if fidelity == "data" else 1.0,
        )
        for until, share in rung_shares(epochs).items()
    ]
