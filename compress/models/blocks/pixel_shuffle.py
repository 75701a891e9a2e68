"""Pixel shuffle and bottlenecks: the detachable decoder blocks of the light-shuffle networks.

Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight Neural
Network", ICPR 2020; Shi et al., "Real-Time Single Image and Video Super-Resolution Using an
Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016, for pixel shuffle; Sandler et al.,
"MobileNetV2", CVPR 2018, section 3, for bottlenecks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks.separable import conv


def unit6(
    cin: int, cout: int, kernel: int = 1, groups: int = 1, act: bool = True
) -> list[nn.Module]:
    """Convolution, batch norm, ReLU6 if ``act``."""
    modules: list[nn.Module] = [conv(cin, cout, kernel, groups, act=act), nn.BatchNorm2d(cout)]
    return [*modules, nn.ReLU6(inplace=True)] if act else modules


class Bottleneck(nn.Module):
    """MobileNetV2's bottleneck without stride: expansion, 3x3 depthwise, linear projection.

    An expansion of 1 has no convolution of its own; where the widths are equal, the input is added.
    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, expansion: int) -> None:
        super().__init__()
        hidden = cin * expansion
        self.expand = nn.Sequential(*(unit6(cin, hidden) if expansion > 1 else []))
        self.depthwise = nn.Sequential(*unit6(hidden, hidden, 3, hidden))
        self.project = nn.Sequential(*unit6(hidden, cout, act=False))
        self.residual = cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return out + x if self.residual else out


class ShuffleUp(nn.Module):
    """Pixel shuffle, an encoder's map beside it, then bottlenecks, of which the first narrows.

    Input (N, cin, H, W), cin a multiple of 4, and a skip (N, skip, h, w) with h of 2H - 1 or 2H
    rows and w of 2W - 1 or 2W columns; output (N, cout, h, w).
    """

    def __init__(self, cin: int, skip: int, cout: int, bottlenecks: int, expansion: int) -> None:
        super().__init__()
        inputs = (cin // 4 + skip, *(cout,) * (bottlenecks - 1))
        self.bottlenecks = nn.Sequential(*(Bottleneck(c, cout, expansion) for c in inputs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Apply the block."""
        height, width = skip.shape[-2:]
        x = F.pixel_shuffle(x, 2)[..., :height, :width]  # (N, cin / 4, h, w)
        out: Tensor = self.bottlenecks(torch.cat((x, skip), 1))
        return out
