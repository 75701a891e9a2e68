"""Decoder levels that interpolate bilinearly, then convolve with full 3x3 convolutions.

Source: Alhashim and Wonka, "High Quality Monocular Depth Estimation via Transfer Learning", arXiv
1812.11941, section 3.1, and the authors' model; the ResNet-50 depth network that is pruned
dynamically has one convolution a level instead of two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks.separable import conv, unit

SLOPE = 0.2  # of DenseDepth's leaky ReLU


class BilinearUp(nn.Module):
    """Interpolation, a skip added or put beside it, then 3x3 convolution, batch norm, ReLU.

    Input (N, cin, H, W) and, where ``how`` is not "none", a skip (N, skip, *size); output
    (N, cout, *size). A skip to be added is first projected to ``cin`` channels where it has others.
    """

    def __init__(self, cin: int, cout: int, skip: int = 0, how: str = "none") -> None:
        super().__init__()
        self.how = how
        self.project = conv(skip, cin, act=False) if how == "add" and skip != cin else nn.Identity()
        self.conv = nn.Sequential(*unit(cin + (skip if how == "concat" else 0), cout, 3))

    def forward(
        self, x: Tensor, skip: Tensor | None = None, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Apply the block; ``size`` is by default the skip's, or twice the input's."""
        if size is None:
            height, width = x.shape[-2:]
            size = (2 * height, 2 * width) if skip is None else (skip.shape[-2], skip.shape[-1])
        x = resized(x, size)
        if self.how != "none":
            assert skip is not None
            x = torch.cat((x, skip), 1) if self.how == "concat" else x + self.project(skip)
        out: Tensor = self.conv(x)
        return out


class DoubleUp(nn.Module):
    """Interpolation, a skip beside it, two 3x3 convolutions with a leaky ReLU after each.

    Input (N, cin, H, W) and a skip (N, skip, h, w); output (N, cout, h, w).
    """

    def __init__(self, cin: int, cout: int, skip: int) -> None:
        super().__init__()
        self.a = leaky(cin + skip, cout)
        self.b = leaky(cout, cout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Apply the block."""
        x = torch.cat((resized(x, (skip.shape[-2], skip.shape[-1])), skip), 1)
        out: Tensor = self.b(self.a(x))
        return out


def leaky(cin: int, cout: int) -> nn.Sequential:
    """3x3 convolution with a bias, and DenseDepth's leaky ReLU."""
    module = nn.Conv2d(cin, cout, 3, padding=1)
    nn.init.kaiming_normal_(module.weight, a=SLOPE)
    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return nn.Sequential(module, nn.LeakyReLU(SLOPE, inplace=True))


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (N, C, H, W) bilinearly to (N, C, *size)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
