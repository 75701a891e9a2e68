"""Which pixels a loss looks at, and the average over them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compress.errors import CompressError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def clean(pred: Tensor, true: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Check shapes, raise the precision and put 1 into both maps where a pixel is not valid."""
    if not pred.shape == true.shape == mask.shape or pred.ndim != 4:
        raise CompressError(
            "a loss takes prediction, truth and mask of one shape (N, 1, H, W), got "
            f"{tuple(pred.shape)}, {tuple(true.shape)} and {tuple(mask.shape)}"
        )
    ok = mask.bool() & torch.isfinite(true)
    # Replaced before any arithmetic: 0 * NaN is NaN, in the backward pass too.
    return torch.where(ok, full(pred), 1.0), torch.where(ok, full(true), 1.0), ok


def full(x: Tensor) -> Tensor:
    """Raise what is below float32 to it."""
    return x if x.dtype == torch.float64 else x.float()


def mean(x: Tensor, ok: Tensor) -> Tensor:
    """Average `x` where `ok`; 0, still attached to the graph, where nothing is."""
    return torch.where(ok, x, 0.0).sum() / ok.sum().clamp(min=1)
