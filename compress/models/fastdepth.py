"""The FastDepth network of a genotype.

Source: Wofk et al., "FastDepth", ICRA 2019, section III.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compress.models.blocks.nnconv import NNConv
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_mobilenet_v1
from compress.space.fastdepth import TIED, decoder_widths, encoder_widths


class FastDepthDecoder(Decoder):
    """Five NNConv levels; the encoder's maps at 1/8, 1/4 and 1/2 are added where they meet."""

    def __init__(self, cin: int, widths: Sequence[int], kernel: int) -> None:
        super().__init__()
        self.channels = tuple(widths)
        inputs = (cin, *widths[:-1])
        self.levels = nn.ModuleList(
            NNConv(c, width, kernel) for c, width in zip(inputs, widths, strict=True)
        )

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode; see ``Decoder``."""
        x = features[-1]
        maps = []
        for level, (block, skip) in enumerate(
            zip(self.levels, (*features[-2::-1], None), strict=True), start=1
        ):
            x = block(x, size if skip is None else skip.shape[-2:])
            if level in TIED:
                x = x + skip
            maps.append(x)
        return maps


class FastDepth(EncoderDecoder):
    """MobileNetV1, NNConv decoder, pointwise head."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_mobilenet_v1(encoder_widths(spec))
        decoder = FastDepthDecoder(encoder.channels[-1], decoder_widths(spec), spec["kernel"])
        super().__init__(encoder, decoder, spec["target"])
