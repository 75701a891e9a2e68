"""The ResNet depth network of a genotype.

Source: the dynamically pruned ResNet-50 depth network, without its gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compress.models.blocks.bilinear import BilinearUp
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_encoder
from compress.space.resnet_depth import decoder_widths


class BilinearDecoder(Decoder):
    """Five levels, each twice the size of the one before; all but the last meet a skip.

    ``encoder`` are the channels of the encoder's five maps, fine to coarse; ``widths`` those of
    the levels, coarse to fine; ``skip`` is "none", "add" or "concat".
    """

    def __init__(self, encoder: Sequence[int], widths: Sequence[int], skip: str) -> None:
        super().__init__()
        self.channels = tuple(widths)
        inputs = (encoder[-1], *widths[:-1])
        ways = (skip,) * 4 + ("none",)
        self.levels = nn.ModuleList(
            BilinearUp(cin, width, channels, how)
            for cin, width, channels, how in zip(
                inputs, widths, (*encoder[-2::-1], 0), ways, strict=True
            )
        )

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode to the image's size; see ``Decoder``."""
        x = features[-1]
        maps = []
        for level, skip in zip(self.levels, (*features[-2::-1], None), strict=True):
            x = level(x, skip, size if skip is None else (skip.shape[-2], skip.shape[-1]))
            maps.append(x)
        return maps


class ResNetDepth(EncoderDecoder):
    """ResNet, bilinear decoder, 3x3 head at full resolution."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_encoder(spec["encoder"])
        decoder = BilinearDecoder(encoder.channels, decoder_widths(spec), spec["skip"])
        super().__init__(encoder, decoder, spec["target"], head_kernel=3)
