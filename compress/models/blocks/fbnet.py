"""FBNet's inverted residual with upsampling.

Source: mobile-vision (Meta), mobile_cv/arch/fbnet_v2/irf_block.py, read for its order; Wu et al.,
"FBNet", CVPR 2019, Figure 3, for the block.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks.separable import unit


class FBNetUp(nn.Module):
    """Pointwise expansion, nearest interpolation, depthwise convolution, linear projection.

    The expansion, the costliest convolution but for the projection, runs at the small size. Where
    ``hidden`` is ``cin``, it has no convolution of its own. Nothing is added: input and output
    differ in size. Input (N, cin, H, W), output (N, cout, *size).
    """

    def __init__(self, cin: int, cout: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(*(unit(cin, hidden) if hidden != cin else []))
        self.depthwise = nn.Sequential(*unit(hidden, hidden, kernel, hidden))
        self.project = nn.Sequential(*unit(hidden, cout, act=False))

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Apply the block; ``size`` is that of the map to meet, by default twice the input's."""
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        x = F.interpolate(self.expand(x), size=size, mode="nearest")
        out: Tensor = self.project(self.depthwise(x))
        return out
