"""The DenseDepth family: a DenseNet and four bilinear decoder levels, in numbers.

Source: Alhashim and Wonka, "High Quality Monocular Depth Estimation via Transfer Learning", arXiv
1812.11941, section 3.1; the authors' ``model.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.space.draft import Draft
from compress.space.encoders import encoder
from compress.space.flat import TARGETS, FlatFamily
from compress.space.schema import Field

LEVELS = 4
_SCHEMA = {
    "encoder": Field(str, allowed=("densenet121", "densenet169")),
    "features": Field(int, 2**LEVELS, 4096),
    "target": Field(str, allowed=TARGETS),
}


class DenseDepthFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "densedepth"
    schema = _SCHEMA

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = encoder(draft, spec["encoder"])
        draft.prefix = "decoder."
        x = draft.conv(features[-1], spec["features"], bias=True, name="reduce")
        for level, width in enumerate(decoder_widths(spec), start=1):
            draft.prefix = f"decoder.{level}."
            skip = features[LEVELS - level]
            x = draft.concat(draft.upsample(x, skip.size, "bilinear"), skip)
            for name in "ab":
                x = draft.conv(x, width, 3, bias=True, name=name)
                draft.act(x, "leaky_relu", f"{name}.act")
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, 3, bias=True), spec["target"])


def decoder_widths(spec: Mapping[str, Any]) -> list[int]:
    """Widths of the decoder's levels, coarse to fine: each half of the one before."""
    return [spec["features"] // 2**level for level in range(1, LEVELS + 1)]
