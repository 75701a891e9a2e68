"""The sparse-mobile family: a MobileNetV2 and an FBNet decoder, in numbers.

Source: Yucel et al., "Real-time Monocular Depth Estimation with Sparse Supervision on Mobile",
CVPR Workshops 2021 (arXiv 2105.12053). The paper gives the encoder, the block, five skips, a last
layer that only interpolates, and the size of the whole; widths, expansions and how skips enter are
a reconstruction (docs/models.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

from compress.errors import CompressError
from compress.space.draft import Draft, Shape
from compress.space.encoders import encoder
from compress.space.flat import TARGETS, FlatFamily
from compress.space.schema import Field

LEVELS = 4  # of blocks; a fifth interpolates the head's map to the image's size
ENCODERS = tuple(f"mobilenetv2_{width}" for width in ("035", "050", "075", "100", "140"))
AUXILIARY = ("none", "2", "3", "2,3")  # decoder levels with an intermediate head

_LEVEL = {
    "expansion": Field(float, 0.25, 8.0),
    "kernel": Field(int, 1, 9),
    "width": Field(int, 1, 1024),
}


def _schema() -> dict[str, Field]:
    fields = {
        "encoder": Field(str, allowed=ENCODERS),
        "last": Field(str, allowed=("no", "yes")),
        "neck": Field(int, 1, 1024),
    }
    for level in range(1, LEVELS + 1):
        fields |= {f"decoder.{level}.{key}": rule for key, rule in _LEVEL.items()}
    fields["skip"] = Field(str, allowed=("add", "concat"))
    fields["auxiliary"] = Field(str, allowed=AUXILIARY)
    fields["target"] = Field(str, allowed=TARGETS)
    return fields


class SparseMobileFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs.

    All five of the encoder's maps enter the decoder, which is how the paper's five skips are read
    here: the deepest through a 1x1 convolution, the neck; those at 1/16 to 1/2 where the decoder
    has their size, as they are, or through a 1x1 convolution where a sum needs another width.
    """

    name = "sparse-mobile"
    schema = _schema()

    def settled(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Nothing is left unused; refuse a kernel without a centre."""
        self.check_together(spec, self.name)
        return spec

    def check_together(self, values: Mapping[str, Any], source: str) -> None:
        """Raise ``CompressError`` for a kernel without a centre."""
        for level in range(1, LEVELS + 1):
            key = f"decoder.{level}.kernel"
            if values[key] % 2 == 0:
                raise CompressError(f"{source}: {key} = {values[key]}: write an odd number")

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = encoder(draft, spec["encoder"], spec["last"] == "yes")
        draft.prefix = "decoder."
        x = _linear(draft, features.pop(), spec["neck"], "neck")
        for level in range(1, LEVELS + 1):
            at = f"decoder.{level}."
            skip = features.pop()
            draft.prefix = at
            hidden = expanded(x.channels, spec[f"{at}expansion"])
            if hidden != x.channels:
                x = _linear(draft, x, hidden, "expand")
                draft.act(x, "relu", "expand.act")
            x = draft.upsample(x, skip.size)
            x = draft.depthwise(x, spec[f"{at}kernel"])
            draft.act(draft.norm(x, "depthwise.norm"), "relu", "depthwise.act")
            x = _linear(draft, x, spec[f"{at}width"], "project")
            if spec["skip"] == "concat":
                x = draft.concat(x, skip)
                continue
            if skip != x:
                skip = _linear(draft, skip, x.channels, "skip")
            x = draft.add(x, skip)
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, bias=True), spec["target"])


def _linear(draft: Draft, x: Shape, channels: int, name: str) -> Shape:
    """A pointwise convolution and its batch norm."""
    return draft.norm(draft.conv(x, channels, name=name), f"{name}.norm")


def expanded(channels: int, ratio: float) -> int:
    """Width of an expansion: the nearest multiple of 8 that is at least .95 of what is asked.

    Source: mobile-vision (Meta), mobile_cv/arch/utils/helper.py, ``get_divisible_by``.

    >>> expanded(160, 3.0), expanded(12, 1.0), expanded(35, 1.0), expanded(3, 0.5)
    (480, 16, 40, 8)
    """
    wanted = channels * ratio
    near = 8 * max(1, floor(wanted / 8 + 0.5))
    return near + 8 if near < 0.95 * wanted else near
