"""Statistics of batch norms, taken anew."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from compress.data import Arrays
from compress.data.augment import Augment
from compress.models import DepthNet, normalised


@torch.no_grad()
def recalibrate(
    model: DepthNet,
    arrays: Arrays,
    augment: Augment | None = None,
    most: int = 256,
    batch: int = 16,
) -> None:
    """Take the running statistics of batch norms anew, as plain means over some images.

    Those gathered in training are of weights that moved and, averaged, of none that there ever
    was; a change of density moves them at once.

    Args:
        model: changed in place; its mode stays.
        arrays: training images at the network's size.
        augment: the views that the network is trained on. Statistics of other views are wrong: of
            images that are never zoomed they take away how far all are from the zoomed ones, and
            with it the scale of depth.
        most: images to use, spread evenly over ``arrays``.
        batch: images at a time; a last smaller batch is left out where there is another.
    """
    norms = [
        part
        for part in model.modules()
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None
    ]
    if not norms:
        return
    modes = {part: part.training for part in model.modules()}
    momenta = [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    chosen = np.linspace(0, len(arrays) - 1, min(most, len(arrays))).round().astype(int)
    batch = min(batch, len(chosen))
    generator = torch.Generator().manual_seed(0)
    model.eval()
    for norm in norms:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.zero_()
        norm.momentum = None  # the mean over all batches, of which the first replaces what was
        norm.train()
    try:
        for start in range(0, len(chosen) - batch + 1, batch):
            rgb = torch.from_numpy(arrays.rgb[chosen[start : start + batch]].copy()).to(device)
            image = normalised(rgb.permute(0, 3, 1, 2))
            if augment is not None:
                depth_m = torch.from_numpy(arrays.depth_m[chosen[start : start + batch]].copy())
                image = augment.view(image, depth_m[:, None].to(device), generator).image
            model.outputs(image)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
