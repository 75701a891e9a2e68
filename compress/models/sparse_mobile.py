"""The sparse-mobile network of a genotype.

Source: Yucel et al., "Real-time Monocular Depth Estimation with Sparse Supervision on Mobile",
CVPR Workshops 2021 (arXiv 2105.12053).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.models.blocks.fbnet import FBNetUp
from compress.models.blocks.separable import unit
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_encoder
from compress.space.sparse_mobile import LEVELS, expanded


class FBNetDecoder(Decoder):
    """A neck, then a block for each encoder map from 1/16 to 1/2, added or put beside."""

    def __init__(self, encoder: Sequence[int], spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.beside = spec["skip"] == "concat"
        cin = spec["neck"]
        self.neck = nn.Sequential(*unit(encoder[-1], cin, act=False))
        levels, skips, channels = [], [], []
        for level, skip in zip(range(1, LEVELS + 1), encoder[-2::-1], strict=True):
            at = f"decoder.{level}."
            width = spec[f"{at}width"]
            hidden = expanded(cin, spec[f"{at}expansion"])
            levels.append(FBNetUp(cin, width, hidden, spec[f"{at}kernel"]))
            fits = self.beside or skip == width
            skips.append(nn.Sequential(*([] if fits else unit(skip, width, act=False))))
            cin = width + skip if self.beside else width
            channels.append(cin)
        self.levels, self.skips = nn.ModuleList(levels), nn.ModuleList(skips)
        self.channels = tuple(channels)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode to half the image's size; see ``Decoder``."""
        x = self.neck(features[-1])
        maps = []
        for level, project, skip in zip(self.levels, self.skips, features[-2::-1], strict=True):
            x = level(x, (skip.shape[-2], skip.shape[-1]))
            x = torch.cat((x, skip), 1) if self.beside else x + project(skip)
            maps.append(x)
        return maps


class SparseMobile(EncoderDecoder):
    """MobileNetV2, FBNet decoder, pointwise head at half resolution.

    The last decoder layer of the paper only interpolates. A pointwise convolution and a bilinear
    interpolation may change places without changing the result, so the head comes first here, at a
    quarter of the cost.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_encoder(spec["encoder"], spec["last"] == "yes")
        decoder = FBNetDecoder(encoder.channels, spec)
        levels = () if spec["auxiliary"] == "none" else spec["auxiliary"].split(",")
        super().__init__(
            encoder, decoder, spec["target"], auxiliary_levels=[int(n) for n in levels]
        )
