"""Inverted residuals without stride, and squeeze and excitation.

Source: Sandler et al., "MobileNetV2", CVPR 2018, section 3; Howard et al., "MobileNetV3", ICCV
2019, section 4, for the place of squeeze and excitation and its gate.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks.separable import conv, unit


class SqueezeExcite(nn.Module):
    """Each channel is weighed by what the means of all channels say.

    Input and output (N, channels, H, W).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = conv(channels, hidden, bias=True)
        self.expand = conv(hidden, channels, bias=True, act=False)
        # Gates begin at 3/4: at the usual half, five levels without norms leave 3 % of a signal.
        nn.init.constant_(self.expand.bias, 1.5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        weight = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))  # (N, C, 1, 1)
        return x * F.hardsigmoid(weight)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection, added to the input ("InvRes").

    ``squeeze`` is the width of squeeze and excitation after the depthwise convolution, 0 for none.
    Input and output (N, channels, H, W).
    """

    def __init__(
        self, channels: int, hidden: int, kernel: int, norm: bool = True, squeeze: int = 0
    ) -> None:
        super().__init__()
        self.expand = nn.Sequential(*unit(channels, hidden, norm=norm))
        self.depthwise = nn.Sequential(*unit(hidden, hidden, kernel, hidden, norm))
        self.squeeze = SqueezeExcite(hidden, squeeze) if squeeze else nn.Identity()
        self.project = nn.Sequential(*unit(hidden, channels, norm=norm, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x)))) + x
        return out
