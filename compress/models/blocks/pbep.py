"""PBEP and EP modules of DepthNet Nano, and the dense stage built of them.

Source: Wang, Famouri and Wong, "DepthNet Nano", arXiv 2004.08008, section 3 and Figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a bias-free "same" convolution, initialised for SELU.

    SELU keeps activations at zero mean and unit variance only when weights are drawn with
    variance 1 / fan_in. Source: Klambauer et al., "Self-Normalizing Neural Networks", section 2.
    """
    module = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return module


def activation(channels: int, normed: bool) -> nn.Module:
    """SELU, after a batch norm where the genotype asks for one."""
    return (
        nn.Sequential(nn.BatchNorm2d(channels), nn.SELU(inplace=True))
        if normed
        else nn.SELU(inplace=True)
    )


class PBEP(nn.Module):
    """Projection, batch norm, expansion, 3x3 depthwise, projection.

    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, projection: int, expansion: int, norm: str) -> None:
        super().__init__()
        every = norm == "all"
        self.project = conv(cin, projection)
        self.norm = nn.BatchNorm2d(projection)
        self.expand = conv(projection, expansion)
        self.expand_act = activation(expansion, every)
        self.depthwise = conv(expansion, expansion, 3, groups=expansion)
        self.depthwise_act = activation(expansion, every)
        self.reduce = conv(expansion, cout)
        self.reduce_act = activation(cout, every)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        x = self.norm(self.project(x))
        x = self.expand_act(self.expand(x))
        x = self.depthwise_act(self.depthwise(x))
        out: Tensor = self.reduce_act(self.reduce(x))
        return out


class EP(nn.Module):
    """Expansion, 3x3 depthwise, projection: the decoder's module.

    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, expansion: int, norm: str) -> None:
        super().__init__()
        every = norm == "all"
        self.expand = conv(cin, expansion)
        self.expand_act = activation(expansion, every)
        self.depthwise = conv(expansion, expansion, 3, groups=expansion)
        self.depthwise_act = activation(expansion, every)
        self.reduce = conv(expansion, cout)
        self.reduce_act = activation(cout, every)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        x = self.expand_act(self.expand(x))
        x = self.depthwise_act(self.depthwise(x))
        out: Tensor = self.reduce_act(self.reduce(x))
        return out


class DenseStage(nn.Module):
    """PBEP modules, each reading the stage's input and all outputs before it.

    Input (N, cin, H, W), output (N, cin + sum of widths, H, W).
    """

    def __init__(self, modules: Sequence[PBEP]) -> None:
        super().__init__()
        self.dense = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage."""
        for module in self.dense:
            x = torch.cat((x, module(x)), 1)
        return x
