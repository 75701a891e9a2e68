"""The DenseDepth network of a genotype.

Source: Alhashim and Wonka, "High Quality Monocular Depth Estimation via Transfer Learning", arXiv
1812.11941, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compress.models.blocks.bilinear import DoubleUp
from compress.models.blocks.separable import conv
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_encoder
from compress.space.densedepth import decoder_widths


class DenseDepthDecoder(Decoder):
    """A 1x1 convolution, then a level for each encoder map from 1/16 to 1/2.

    ``encoder`` are the channels of the encoder's five maps, fine to coarse; ``features`` the width
    of the 1x1 convolution; ``widths`` those of the levels, coarse to fine.
    """

    def __init__(self, encoder: Sequence[int], features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.reduce = conv(encoder[-1], features, bias=True, act=False)
        self.levels = nn.ModuleList(
            DoubleUp(cin, width, skip)
            for cin, width, skip in zip(
                (features, *widths[:-1]), widths, encoder[-2::-1], strict=True
            )
        )

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode to half the image's size; see ``Decoder``."""
        x = self.reduce(features[-1])
        maps = []
        for level, skip in zip(self.levels, features[-2::-1], strict=True):
            x = level(x, skip)
            maps.append(x)
        return maps


class DenseDepth(EncoderDecoder):
    """DenseNet, bilinear decoder, 3x3 head at half resolution."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_encoder(spec["encoder"])
        decoder = DenseDepthDecoder(encoder.channels, spec["features"], decoder_widths(spec))
        super().__init__(encoder, decoder, spec["target"], head_kernel=3)
