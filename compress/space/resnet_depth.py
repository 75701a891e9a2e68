"""The ResNet depth family: a ResNet and five bilinear decoder levels, in numbers.

Source: the dynamically pruned ResNet-50 depth network; feature boosting and suppression (Gao et
al., ICLR 2019) gates it. Its decoder's widths are not published (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.space.draft import Draft
from compress.space.encoders import encoder
from compress.space.flat import TARGETS, FlatFamily
from compress.space.schema import Field

LEVELS = 5  # the last one meets no map of the encoder, for it has the image's size
SKIPS = ("none", "add", "concat")
_SCHEMA = {
    "encoder": Field(str, allowed=("resnet18", "resnet34", "resnet50")),
    **{f"decoder.{level}": Field(int, 1, 2048) for level in range(1, LEVELS + 1)},
    "skip": Field(str, allowed=SKIPS),
    "target": Field(str, allowed=TARGETS),
}


class ResNetDepthFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "resnet-depth"
    schema = _SCHEMA

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = encoder(draft, spec["encoder"])
        x = features.pop()
        for level, width in enumerate(decoder_widths(spec), start=1):
            draft.prefix = f"decoder.{level}."
            skip = features.pop() if features else None
            x = draft.upsample(x, (skip or draft.image).size, "bilinear")
            if skip and spec["skip"] == "concat":
                x = draft.concat(x, skip)
            elif skip and spec["skip"] == "add":
                if skip.channels != x.channels:
                    skip = draft.conv(skip, x.channels, name="project")
                x = draft.add(x, skip)
            x = draft.conv(x, width, 3)
            draft.act(draft.norm(x), "relu")
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, 3, bias=True), spec["target"])


def decoder_widths(spec: Mapping[str, Any]) -> list[int]:
    """Widths of the decoder's levels, coarse to fine."""
    return [spec[f"decoder.{level}"] for level in range(1, LEVELS + 1)]
