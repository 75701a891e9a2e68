"""Depthwise-separable convolutions: alone, as a residual, with dense inputs.

Source: Wofk et al., "FastDepth", ICRA 2019, section III-B, and Y. Wang, "MobileDepth", arXiv
2011.10189, whose decoders are built of DS, ResDS and DenseDS blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv(
    cin: int, cout: int, kernel: int = 1, groups: int = 1, bias: bool = False, act: bool = True
) -> nn.Conv2d:
    """Make a "same" convolution, initialised for the ReLU that follows it, if one does."""
    module = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if act else "linear")
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def unit(
    cin: int, cout: int, kernel: int = 1, groups: int = 1, norm: bool = True, act: bool = True
) -> list[nn.Module]:
    """Convolution, batch norm if ``norm`` (and a bias if not), ReLU if ``act``."""
    modules: list[nn.Module] = [conv(cin, cout, kernel, groups, not norm, act)]
    if norm:
        modules.append(nn.BatchNorm2d(cout))
    if act:
        modules.append(nn.ReLU(inplace=True))
    return modules


class Separable(nn.Module):
    """Depthwise and pointwise convolution, a ReLU after each ("DS").

    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, kernel: int, norm: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(*unit(cin, cin, kernel, cin, norm))
        self.pointwise = nn.Sequential(*unit(cin, cout, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class ResidualSeparable(nn.Module):
    """A separable convolution added to its input, then a ReLU ("ResDS").

    Input and output (N, channels, H, W).
    """

    def __init__(self, channels: int, kernel: int, norm: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(*unit(channels, channels, kernel, channels, norm))
        self.pointwise = nn.Sequential(*unit(channels, channels, norm=norm, act=False))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = self.act(self.pointwise(self.depthwise(x)) + x)
        return out


class DenseSeparable(nn.Module):
    """A separable convolution whose output stands beside its input ("DenseDS").

    Input (N, cin, H, W), output (N, cin + growth, H, W).
    """

    def __init__(self, cin: int, growth: int, kernel: int, norm: bool = True) -> None:
        super().__init__()
        self.separable = Separable(cin, growth, kernel, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return torch.cat((x, self.separable(x)), 1)
