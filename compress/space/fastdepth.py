"""The FastDepth family: a MobileNetV1 of any widths and NNConv decoder levels, in numbers.

Source: Wofk et al., "FastDepth", ICRA 2019, section III; NetAdapt narrowed it layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.errors import CompressError
from compress.space.draft import Draft
from compress.space.encoders import V1_WIDTHS, mobilenet_v1
from compress.space.flat import TARGETS, FlatFamily
from compress.space.schema import Field

# Skips are added, so these decoder levels have the width of the map they meet: at 1/8, 1/4, 1/2.
TIED = {2: 5, 3: 3, 4: 1}  # decoder level: which of the encoder's widths
LEVELS = 5


def _schema() -> dict[str, Field]:
    fields = {f"encoder.{index}": Field(int, 1, 2048) for index in range(len(V1_WIDTHS))}
    for level in range(1, LEVELS + 1):
        if level not in TIED:
            fields[f"decoder.{level}"] = Field(int, 1, 2048)
    return fields | {"kernel": Field(int, 1, 9), "target": Field(str, allowed=TARGETS)}


class FastDepthFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "fastdepth"
    schema = _schema()

    def settled(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left unused; refuse a kernel without a centre."""
        check_odd(spec, self.name)
        return spec

    def check_together(self, values: Mapping[str, Any], source: str) -> None:
        """Raise ``CompressError`` for a kernel without a centre."""
        check_odd(values, source)

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = mobilenet_v1(draft, encoder_widths(spec))
        x = features[-1]
        for level, width in enumerate(decoder_widths(spec), start=1):
            draft.prefix = f"decoder.{level}."
            x = draft.depthwise(x, spec["kernel"])
            draft.act(draft.norm(x, "depthwise.norm"), "relu", "depthwise.act")
            x = draft.conv(x, width, name="pointwise")
            draft.act(draft.norm(x, "pointwise.norm"), "relu", "pointwise.act")
            x = draft.upsample(x, (draft.image if level == LEVELS else features[4 - level]).size)
            if level in TIED:
                x = draft.add(x, features[4 - level])
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, bias=True), spec["target"])


def check_odd(values: Mapping[str, Any], source: str) -> None:
    """Raise ``CompressError`` unless the kernel is odd: a "same" convolution has a centre."""
    if values["kernel"] % 2 == 0:
        raise CompressError(f"{source}: kernel = {values['kernel']}: write an odd number")


def encoder_widths(spec: Mapping[str, Any]) -> list[int]:
    """Widths of the encoder's first convolution and of its 13 pointwise ones."""
    return [spec[f"encoder.{index}"] for index in range(len(V1_WIDTHS))]


def decoder_widths(spec: Mapping[str, Any]) -> list[int]:
    """Widths of the decoder's levels, coarse to fine; those that meet a skip follow the encoder."""
    return [
        spec[f"encoder.{TIED[level]}" if level in TIED else f"decoder.{level}"]
        for level in range(1, LEVELS + 1)
    ]
