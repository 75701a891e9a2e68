"""The MobileDepth family: a classification encoder and a decoder of light blocks, in numbers.

Source: Y. Wang, "MobileDepth: Efficient Monocular Depth Prediction on Mobile Devices", arXiv
2011.10189, which compares the blocks, skips, interpolations and heads that are choices here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.errors import CompressError
from compress.space.draft import Draft, Shape
from compress.space.encoders import ENCODERS, encoder, encoder_channels
from compress.space.flat import TARGETS, FlatFamily
from compress.space.mobilenets import excite
from compress.space.schema import Field

BLOCKS = ("ds", "res-ds", "dense-ds", "inv-res", "split-shuffle", "nnconv5")
SKIPS = ("none", "add", "concat")
SKIP_LEVELS = ("2", "4,2", "8,4,2", "16,8,4", "16,8,4,2")  # strides of the maps that are met
UPSAMPLES = ("nearest", "bilinear")
HEADS = {"pointwise": 1, "conv3": 3}  # and their kernels
LEVELS = 5
STRIDES = (16, 8, 4, 2, 1)  # of the decoder's levels
EXPANSION = 2  # of inverted residuals; the paper does not give its own


def _schema() -> dict[str, Field]:
    return {
        "encoder": Field(str, allowed=tuple(ENCODERS)),
        "block": Field(str, allowed=BLOCKS),
        "units": Field(int, 1, 6),
        "kernel": Field(int, 1, 9),
        "skip": Field(str, allowed=SKIPS),
        "skip_levels": Field(str, allowed=SKIP_LEVELS),
        "upsample": Field(str, allowed=UPSAMPLES),
        "norm": Field(str, allowed=("none", "batch")),
        "se": Field(str, allowed=("none", "se")),
        "head": Field(str, allowed=tuple(HEADS)),
        **{f"decoder.{level}": Field(int, 8, 1024) for level in range(1, LEVELS + 1)},
        "target": Field(str, allowed=TARGETS),
    }


class MobileDepthFamily(FlatFamily):
    """Rules of the family: what may be chosen, what is built, what it costs."""

    name = "mobiledepth"
    schema = _schema()

    def settled(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Give choices that make no difference their one value.

        NNConv5 has one block of kernel 5, no skips have no levels, and where skips are added the
        decoder has the encoder's widths.
        """
        spec = dict(spec)
        if spec["block"] == "nnconv5":
            spec["units"], spec["kernel"] = 1, 5
        if spec["skip"] == "none":
            spec["skip_levels"] = SKIP_LEVELS[0]
        spec.update(tied(spec))
        self._check_shapes(spec, self.name)
        return spec

    def check_together(self, values: Mapping[str, Any], source: str) -> None:
        """Raise ``CompressError`` for a width that an added skip contradicts, or odd halves."""
        for key, width in tied(values).items():
            if values[key] != width:
                raise CompressError(
                    f"{source}: {key} = {values[key]}: the skip that is added there has "
                    f"{width} channels of {values['encoder']}; write {width}"
                )
        self._check_shapes(values, source)

    def _check_shapes(self, values: Mapping[str, Any], source: str) -> None:
        if values["kernel"] % 2 == 0:
            raise CompressError(f"{source}: kernel = {values['kernel']}: write an odd number")
        if values["block"] == "split-shuffle":
            for level in range(1, LEVELS + 1):
                if values[f"decoder.{level}"] % 2:
                    raise CompressError(
                        f"{source}: decoder.{level} = {values[f'decoder.{level}']}: split-shuffle "
                        "halves it; write an even number"
                    )

    def draft(self, draft: Draft, spec: Mapping[str, Any]) -> None:
        """Write the network's operators down, in the order they run."""
        features = encoder(draft, spec["encoder"])
        x = features[-1]
        meets = skip_strides(spec)
        for level, stride in enumerate(STRIDES, start=1):
            draft.prefix = f"decoder.{level}."
            x = _block(draft, x, spec[f"decoder.{level}"], spec)
            skip = draft.image if stride == 1 else features[4 - level]
            x = draft.upsample(x, skip.size, spec["upsample"])
            if stride in meets:
                x = draft.add(x, skip) if spec["skip"] == "add" else draft.concat(x, skip)
        draft.prefix = "head."
        draft.depth(draft.conv(x, 1, HEADS[spec["head"]], bias=True), spec["target"])


def skip_strides(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """Strides of the encoder's maps that the decoder meets."""
    if spec["skip"] == "none":
        return ()
    return tuple(int(stride) for stride in spec["skip_levels"].split(","))


def tied(spec: Mapping[str, Any]) -> dict[str, int]:
    """Decoder widths that follow from skips that are added, by the parameter's name."""
    if spec["skip"] != "add":
        return {}
    channels = encoder_channels(spec["encoder"])
    levels = (STRIDES.index(stride) + 1 for stride in skip_strides(spec))
    return {f"decoder.{level}": channels[4 - level] for level in levels}


def dense_widths(width: int, units: int) -> tuple[int, int]:
    """Width before the first dense unit, and what each adds: they end at ``width``."""
    growth = width // (units + 1)
    return width - units * growth, growth


def _conv(
    draft: Draft,
    x: Shape,
    channels: int,
    spec: Mapping[str, Any],
    name: str,
    kernel: int = 0,
    act: bool = True,
) -> Shape:
    """A pointwise convolution, or a depthwise one of ``kernel``, with batch norm or a bias."""
    norm = spec["norm"] == "batch"
    groups = channels if kernel else 1
    x = draft.conv(x, channels, kernel or 1, 1, groups, not norm, name)
    if norm:
        draft.norm(x, f"{name}.norm")
    return draft.act(x, "relu", f"{name}.act") if act else x


def _separable(
    draft: Draft, x: Shape, channels: int, spec: Mapping[str, Any], at: str, act: bool = True
) -> Shape:
    x = _conv(draft, x, x.channels, spec, f"{at}depthwise", spec["kernel"])
    return _conv(draft, x, channels, spec, f"{at}pointwise", act=act)


def _block(draft: Draft, x: Shape, width: int, spec: Mapping[str, Any]) -> Shape:
    """A pointwise convolution to the level's width, then ``units`` of its block."""
    block, units = spec["block"], spec["units"]
    if block == "nnconv5":
        x = _separable(draft, x, width, spec, "")
    else:
        start, growth = dense_widths(width, units) if block == "dense-ds" else (width, 0)
        x = _conv(draft, x, start, spec, "reduce")
        for number in range(1, units + 1):
            x = _unit(draft, x, growth, spec, f"units.{number}.")
    if spec["se"] == "se" and block != "inv-res":
        excite(draft, x, squeezed(x.channels), "", "hardsigmoid")
    return x


def _unit(draft: Draft, x: Shape, growth: int, spec: Mapping[str, Any], at: str) -> Shape:
    block = spec["block"]
    if block == "ds":
        return _separable(draft, x, x.channels, spec, at)
    if block == "res-ds":
        y = draft.add(_separable(draft, x, x.channels, spec, at, act=False), x, f"{at}add")
        return draft.act(y, "relu", f"{at}act")
    if block == "dense-ds":
        return draft.concat(x, _separable(draft, x, growth, spec, at), name=f"{at}concat")
    if block == "inv-res":
        y = _conv(draft, x, EXPANSION * x.channels, spec, f"{at}expand")
        y = _conv(draft, y, y.channels, spec, f"{at}depthwise", spec["kernel"])
        if spec["se"] == "se":
            excite(draft, y, squeezed(y.channels), at, "hardsigmoid")
        y = _conv(draft, y, x.channels, spec, f"{at}project", act=False)
        return draft.add(y, x, f"{at}add")
    half = x._replace(channels=x.channels // 2)
    y = _conv(draft, half, half.channels, spec, f"{at}in")
    y = _conv(draft, y, half.channels, spec, f"{at}depthwise", spec["kernel"], act=False)
    y = _conv(draft, y, half.channels, spec, f"{at}out")
    return draft.concat(half, y, name=f"{at}concat")


def squeezed(channels: int) -> int:
    """Width between the two layers of squeeze and excitation."""
    return max(1, channels // 4)
