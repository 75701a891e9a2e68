"""The light-shuffle family: a MobileNetV2 and one to four detachable decoder blocks, in numbers.

Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight Neural
Network", ICPR 2020. The paper gives the blocks, a pixel shuffle and two to four bottlenecks, and
the size of the whole; widths, expansion and where the encoder's maps go are a reconstruction
(docs/models.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.errors import CompressError
from compress.space.draft import Draft, Shape
from compress.space.encoders import encoder
from compress.space.flat import TARGETS, FlatFamily
from compress.space.mobilenets import RELU6
from compress.space.schema import Field

MAX_DECODERS = 4
ENCODERS = ("mobilenetv2_035", "mobilenetv2_050", "mobilenetv2_075", "mobilenetv2_100")
_LEVELS = range(1, MAX_DECODERS + 1)
_SCHEMA = {
    "encoder": Field(str, allowed=ENCODERS),
    "decoders": Field(int, 1, MAX_DECODERS),
    "expansion": Field(int, 1, 8),
    **{f"width.{level}": Field(int, 4, 1024) for level in _LEVELS},
    **{f"bottlenecks.{level}": Field(int, 1, 4) for level in _LEVELS},
    "segmentation": Field(int, 0, 64),
    "target": Field(str, allowed=TARGETS),
}


class LightShuffleFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "light-shuffle"
    schema = _SCHEMA

    def settled(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Blocks that a network does not have are as small as can be; refuse other widths."""
        self.check_together(spec, self.name)
        spec = dict(spec)
        for level in range(spec["decoders"] + 1, MAX_DECODERS + 1):
            spec[f"width.{level}"], spec[f"bottlenecks.{level}"] = 4, 1
        return spec

    def check_together(self, values: Mapping[str, Any], source: str) -> None:
        """Raise ``CompressError`` for a width that a pixel shuffle cannot divide, or one class."""
        for level in _LEVELS:
            width = values[f"width.{level}"]
            if width % 4:
                raise CompressError(
                    f"{source}: width.{level} = {width}: pixel shuffle makes 2x2 pixels of four "
                    "channels; write a multiple of 4"
                )
        if values["segmentation"] == 1:
            raise CompressError(
                f"{source}: segmentation = 1: one class leaves nothing to tell apart; write 0 for "
                "no segmentation head, or the number of classes"
            )

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = encoder(draft, spec["encoder"])
        x = features.pop()
        for level, (width, count) in enumerate(decoder_blocks(spec), start=1):
            skip = features.pop()
            draft.prefix = f"decoder.{level}."
            # Pixel shuffle, like the cut to the skip's size, moves values and counts nothing.
            x = draft.concat(Shape(x.channels // 4, *skip.size), skip)
            for number in range(1, count + 1):
                x = _bottleneck(draft, x, width, spec["expansion"], f"{number}.")
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, bias=True), spec["target"])
        if spec["segmentation"]:
            draft.prefix = "segmentation."
            x = draft.conv(x, spec["segmentation"], bias=True)
            draft.upsample(x, draft.image.size, "bilinear")


def decoder_blocks(spec: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Width and number of bottlenecks of each decoder block, coarse to fine."""
    levels = range(1, spec["decoders"] + 1)
    return [(spec[f"width.{level}"], spec[f"bottlenecks.{level}"]) for level in levels]


def _bottleneck(draft: Draft, x: Shape, channels: int, expansion: int, at: str) -> Shape:
    y = x
    if expansion > 1:
        y = draft.conv(y, x.channels * expansion, name=f"{at}expand")
        draft.act(draft.norm(y, f"{at}expand.norm"), RELU6, f"{at}expand.act")
    y = draft.depthwise(y, name=f"{at}depthwise")
    draft.act(draft.norm(y, f"{at}depthwise.norm"), RELU6, f"{at}depthwise.act")
    y = draft.norm(draft.conv(y, channels, name=f"{at}project"), f"{at}project.norm")
    return draft.add(y, x, f"{at}add") if y == x else y
