"""NNConv, the decoder level of FastDepth.

Source: Wofk et al., "FastDepth", ICRA 2019, section III-B.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from compress.models.blocks.separable import Separable


class NNConv(Separable):
    """A separable convolution, batch norm and ReLU after both parts, then nearest interpolation.

    Input (N, cin, H, W), output (N, cout, *size).
    """

    def __init__(self, cin: int, cout: int, kernel: int = 5) -> None:
        super().__init__(cin, cout, kernel)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Apply the block; ``size`` is that of the map to meet, by default twice the input's."""
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return F.interpolate(super().forward(x), size=size, mode="nearest")
