"""The MobileDepth network of a genotype.

Source: Y. Wang, "MobileDepth: Efficient Monocular Depth Prediction on Mobile Devices", arXiv
2011.10189.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.blocks.inverted import InvertedResidual, SqueezeExcite
from compress.models.blocks.separable import DenseSeparable, ResidualSeparable, Separable, unit
from compress.models.blocks.shuffle import SplitShuffle
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_encoder
from compress.space.mobiledepth import (
    EXPANSION,
    HEADS,
    LEVELS,
    STRIDES,
    dense_widths,
    skip_strides,
    squeezed,
)


def level(cin: int, width: int, spec: Mapping[str, Any]) -> nn.Sequential:
    """One decoder level without its interpolation: (N, cin, H, W) to (N, width, H, W)."""
    block, kernel, norm = spec["block"], spec["kernel"], spec["norm"] == "batch"
    squeeze = spec["se"] == "se"
    modules: list[nn.Module]
    if block == "nnconv5":
        modules = [Separable(cin, width, kernel, norm)]
    else:
        start, growth = dense_widths(width, spec["units"]) if block == "dense-ds" else (width, 0)
        modules = unit(cin, start, norm=norm)
        for number in range(spec["units"]):
            if block == "ds":
                modules.append(Separable(width, width, kernel, norm))
            elif block == "res-ds":
                modules.append(ResidualSeparable(width, kernel, norm))
            elif block == "dense-ds":
                modules.append(DenseSeparable(start + number * growth, growth, kernel, norm))
            elif block == "inv-res":
                hidden = EXPANSION * width
                inner = squeezed(hidden) if squeeze else 0
                modules.append(InvertedResidual(width, hidden, kernel, norm, inner))
            else:
                assert block == "split-shuffle", block
                modules.append(SplitShuffle(width, kernel, norm))
    if squeeze and block != "inv-res":
        modules.append(SqueezeExcite(width, squeezed(width)))
    return nn.Sequential(*modules)


class MobileDepthDecoder(Decoder):
    """Five levels of light blocks; the encoder's maps are added, stand beside, or stay out."""

    def __init__(self, encoder: Sequence[int], spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.skip, self.upsample = spec["skip"], spec["upsample"]
        self.meets = skip_strides(spec)
        levels, channels = [], []
        cin = encoder[-1]
        for number, stride in enumerate(STRIDES, start=1):
            width = spec[f"decoder.{number}"]
            levels.append(level(cin, width, spec))
            beside = self.skip == "concat" and stride in self.meets
            cin = width + (encoder[LEVELS - 1 - number] if beside else 0)
            channels.append(cin)
        self.levels = nn.ModuleList(levels)
        self.channels = tuple(channels)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode; see ``Decoder``."""
        x = features[-1]
        maps = []
        for block, stride, skip in zip(
            self.levels, STRIDES, (*features[-2::-1], None), strict=True
        ):
            x = F.interpolate(
                block(x), size=size if skip is None else skip.shape[-2:], mode=self.upsample
            )
            if stride in self.meets:
                assert skip is not None
                x = x + skip if self.skip == "add" else torch.cat((x, skip), 1)
            maps.append(x)
        return maps


class MobileDepth(EncoderDecoder):
    """An encoder that timm names, MobileDepth's decoder, a head of one channel."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_encoder(spec["encoder"])
        decoder = MobileDepthDecoder(encoder.channels, spec)
        super().__init__(encoder, decoder, spec["target"], HEADS[spec["head"]])
