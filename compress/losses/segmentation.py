"""Class maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.errors import CompressError
from compress.losses._pixels import full, mean

IGNORE = 255


def segmentation_loss(logits: Tensor, labels: Tensor, ignore: int = IGNORE) -> Tensor:
    """Mean cross entropy over pixels that have a class; 0 where none has.

    >>> logits = torch.zeros(1, 4, 1, 2)
    >>> labels = torch.tensor([[[3, 255]]])
    >>> round(float(segmentation_loss(logits, labels)), 4)  # log 4
    1.3863

    Args:
        logits: (N, classes, H, W); at ignored pixels they may hold anything.
        labels: (N, H, W) class numbers, of any whole type.
        ignore: what stands for no class.

    Raises:
        CompressError: shapes do not fit, or a label is neither a class nor `ignore`.
    """
    if logits.ndim != 4 or labels.shape != (len(logits), *logits.shape[-2:]):
        raise CompressError(
            "segmentation takes logits (N, classes, H, W) and labels (N, H, W), got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    ok = labels != ignore
    chosen = torch.where(ok, labels, 0).long()
    classes = logits.shape[1]
    # On a GPU a wrong index would end the process with no word about which.
    low, high = (int(v) for v in chosen.aminmax()) if chosen.numel() else (0, 0)
    if low < 0 or high >= classes:
        raise CompressError(
            f"a label is {low if low < 0 else high}, but the logits have {classes} classes "
            f"(0 to {classes - 1}, {ignore} = none); give the network as many as the data"
        )
    # Replaced before any arithmetic, for the backward pass too.
    scores = torch.where(ok[:, None], full(logits), 0.0)
    return mean(F.cross_entropy(scores, chosen, reduction="none"), ok)
