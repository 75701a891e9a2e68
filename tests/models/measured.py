"""Untrained networks whose encoder's batch norms know what passes through them."""

from __future__ import annotations

import torch
from torch import nn

from compress.models import DepthNet


def measured(model: DepthNet) -> DepthNet:
    """Give an encoder's batch norms the statistics of a few images, and switch to evaluation.

    With statistics of 0 and 1, values fade from layer to layer of a deep one until nothing of the
    image is left.
    """
    model.eval()
    if model.pretrained is not None:
        for module in model.pretrained.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over all that was seen
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            model.pretrained.train()(torch.rand(4, 3, 64, 96, generator=generator) * 2 - 1)
    return model.eval()
