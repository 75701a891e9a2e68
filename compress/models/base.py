"""What every depth network of the project has in common."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.space import Genotype

LOG_DEPTH_LIMIT = 7.0  # exp(7) is 1.1 km: keeps an untrained network's depth finite


class Outputs(NamedTuple):
    """All that a network says of an image.

    ``depth_m`` (N, 1, H, W) metres, float32. ``auxiliary_m``: depth in metres of the intermediate
    heads that training adds, coarse to fine, each (N, 1, h, w) at its own size. ``segmentation``:
    (N, classes, H, W) logits of a joint network. ``features``: the encoder's last map, which
    pairwise distillation compares. ``auxiliary_segmentation``: a joint network's logits of the
    intermediate heads, each (N, classes, h, w) at its own size.
    """

    depth_m: Tensor
    auxiliary_m: tuple[Tensor, ...] = ()
    segmentation: Tensor | None = None
    features: Tensor | None = None
    auxiliary_segmentation: tuple[Tensor, ...] = ()


class DepthNet(nn.Module):
    """A network from a normalised RGB image to metric depth.

    ``genotype`` is what it was built from, ``size`` its usual input (height, width), ``info`` what
    its file's header says of it: how it was trained, the protocol and the metrics reached.
    ``auxiliary`` holds the intermediate heads while it is being trained.
    """

    genotype: Genotype
    size: tuple[int, int]
    info: dict[str, Any]
    auxiliary: nn.ModuleDict
    classes: int = 0  # of a segmentation head, where the network has one

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.ModuleDict()

    def outputs(self, image: Tensor) -> Outputs:
        """Run the network.

        Args:
            image: (N, 3, H, W) RGB, normalised by ``normalised``; any size from 16x16.
        """
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Predict metric depth: ``outputs`` reduced to the depth map, (N, 1, H, W) in metres."""
        return self.outputs(image).depth_m

    def centre_on(self, log_depth: float) -> None:
        """Make an untrained network predict this log depth everywhere, roughly.

        Training then starts from the data's own scale instead of 1 m.
        """
        raise NotImplementedError

    def add_auxiliary(self) -> None:
        """Add the intermediate heads that the genotype asks for, if any, for training."""

    def drop_auxiliary(self) -> None:
        """Take the intermediate heads away again."""
        self.auxiliary = nn.ModuleDict()

    @property
    def pretrained(self) -> nn.Module | None:
        """The part that encoder weights are read into, where there is one."""
        return None


def to_depth(raw: Tensor, target: str, size: tuple[int, int] | torch.Size | None = None) -> Tensor:
    """Read a head's map as depth.

    Args:
        raw: (N, 1, h, w), any values.
        target: "log" (the logarithm of depth), "inverse" (1 / depth after a softplus) or "linear"
            (depth after a softplus); "log" keeps near and far alike, "inverse" is MobileDepth's.
        size: (H, W) to interpolate the map to first, where it is not that size yet.

    Returns:
        depth in metres, (N, 1, H, W) float32, between exp(-7) and exp(7).
    """
    raw = raw.float()
    if size is not None and tuple(raw.shape[-2:]) != tuple(size):
        raw = F.interpolate(raw, size=tuple(size), mode="bilinear", align_corners=False)
    if target == "log":
        return raw.clamp(-LOG_DEPTH_LIMIT, LOG_DEPTH_LIMIT).exp()
    positive = F.softplus(raw).clamp(math.exp(-LOG_DEPTH_LIMIT), math.exp(LOG_DEPTH_LIMIT))
    return positive.reciprocal() if target == "inverse" else positive


class Head(nn.Module):
    """The last convolution of a depth network: (N, cin, h, w) to a map (N, 1, h, w).

    Where ``classes`` is above 0, a convolution of the same kernel beside it tells classes apart.
    """

    def __init__(self, cin: int, kernel: int, target: str, classes: int = 0) -> None:
        super().__init__()
        self.target = target
        self.conv = _last(cin, 1, kernel)
        self.segmentation = _last(cin, classes, kernel) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution."""
        out: Tensor = self.conv(x)
        return out

    def logits(self, x: Tensor) -> Tensor | None:
        """The classes' map (N, classes, h, w), where there is one."""
        return None if self.segmentation is None else self.segmentation(x)

    def centre_on(self, log_depth: float) -> None:
        """Start from this log depth everywhere, with a small share of the random part."""
        bias = log_depth
        if self.target != "log":
            wanted = math.exp(-log_depth if self.target == "inverse" else log_depth)
            bias = math.log(math.expm1(wanted)) if wanted < 30 else wanted  # softplus undone
        with torch.no_grad():
            self.conv.weight.mul_(0.1)
            self.conv.bias.fill_(bias)  # type: ignore[union-attr]


def _last(cin: int, cout: int, kernel: int) -> nn.Conv2d:
    """A "same" convolution with a bias that no activation follows."""
    module = nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return module


NORMALISATION = {"mean": [127.5] * 3, "std": [127.5] * 3}


def normalised(rgb: Tensor) -> Tensor:
    """Scale uint8 RGB (N, 3, H, W) to -1..1 float32, as every network here expects."""
    return rgb.float().div_(127.5).sub_(1.0)
