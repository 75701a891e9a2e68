"""What a gated network needs over many images: multiply-adds, and how its choices differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.errors import CompressError
from compress.gating.executor import GatedExecutor


@dataclass(frozen=True)
class MacsSpread:
    """Multiply-adds of an image over many.

    ``mean``, ``p95`` and ``worst`` are those of the active channels, with the gates' own; ``run``
    is the mean as the executor ran, which computes some layers whole; ``dense`` what the network
    needs without gates.
    """

    images: int
    mean: float
    p95: float
    worst: int
    run: float
    dense: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def macs_over(executor: GatedExecutor, images: Iterable[Tensor]) -> MacsSpread:
    """Run images and count.

    Args:
        executor: of the network with gates.
        images: (N, 3, H, W) each, normalised.

    Raises:
        CompressError: there are none.
    """
    macs: list[int] = []
    run: list[int] = []
    for image in (one for batch in images for one in torch.split(batch, 1)):
        executor(image)
        macs += executor.macs
        run += executor.macs_run
    if not macs:
        raise CompressError("no images to count multiply-adds over: give one or more")
    return MacsSpread(
        images=len(macs),
        mean=float(np.mean(macs)),
        p95=float(np.quantile(macs, 0.95)),
        worst=max(macs),
        run=float(np.mean(run)),
        dense=executor.dense_macs,
    )
