"""Split, concatenate, shuffle: the unit of MobileDepth's final decoder.

Source: Ma et al., "ShuffleNet V2", ECCV 2018, Figure 3 (c), which Y. Wang, "MobileDepth", arXiv
2011.10189, decodes with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.models.blocks.separable import unit


class SplitShuffle(nn.Module):
    """One half of the channels passes, the other is convolved; then the two are interleaved.

    Input and output (N, channels, H, W), channels even.
    """

    def __init__(self, channels: int, kernel: int, norm: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            *unit(half, half, norm=norm),
            *unit(half, half, kernel, half, norm, act=False),
            *unit(half, half, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        kept, split = x.chunk(2, 1)
        return shuffled(torch.cat((kept, self.branch(split)), 1))


def shuffled(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: 0 1 2 3 become 0 2 1 3."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
