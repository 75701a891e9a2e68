"""Encoders of inverted residuals and depthwise-separable blocks, written down as operators.

Names are those of timm's modules. See ``compress.space.encoders``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from compress.errors import CompressError
from compress.space.draft import Draft, Shape

RELU6 = "hardtanh"  # aten's name of it
V1_WIDTHS = (32, 64, *(128,) * 2, *(256,) * 2, *(512,) * 6, *(1024,) * 2)
V1_REPEATS = (1, 2, 2, 6, 2)  # blocks a stage; all but the first begin with stride 2


class Stage(NamedTuple):
    """A run of blocks; all but the first have stride 1.

    ``expansions`` has one entry a block: 0 for a depthwise-separable one without expansion.
    """

    expansions: tuple[float, ...]
    kernel: int
    stride: int
    channels: int
    squeeze: bool = False
    act: str = RELU6


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and at least nine tenths of ``channels``.

    Source: MobileNetV3's reference code, ``make_divisible``.
    """
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def conv_norm(
    draft: Draft,
    x: Shape,
    channels: int,
    names: tuple[str, str],
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: str = "",
) -> Shape:
    """A convolution, its batch norm and, where one is named, an activation."""
    conv, norm = names
    x = draft.conv(x, channels, kernel, stride, groups, name=conv)
    draft.norm(x, norm)
    return draft.act(x, act, f"{norm}.act") if act else x


def excite(draft: Draft, x: Shape, hidden: int, at: str, gate: str) -> None:
    """Squeeze and excitation: each channel is weighed by what the means of all of them say."""
    y = draft.mean(x, f"{at}se")
    y = draft.conv(y, hidden, bias=True, name=f"{at}se.reduce")
    y = draft.act(y, "relu", f"{at}se.act")
    y = draft.conv(y, x.channels, bias=True, name=f"{at}se.expand")
    draft.act(y, gate, f"{at}se.gate")


def _inverted(draft: Draft, x: Shape, stage: Stage, block: int, at: str) -> Shape:
    """One inverted residual, or a depthwise-separable block where nothing is expanded."""
    _, kernel, stride, channels, squeeze, act = stage
    expansion = stage.expansions[block]
    stride = 1 if block else stride
    start = x
    if expansion:
        x = conv_norm(
            draft, x, rounded(x.channels * expansion), (f"{at}conv_pw", f"{at}bn1"), act=act
        )
    norms = ("bn2", "bn3") if expansion else ("bn1", "bn2")
    names = f"{at}conv_dw", f"{at}{norms[0]}"
    x = conv_norm(draft, x, x.channels, names, kernel, stride, x.channels, act)
    if squeeze:
        excite(draft, x, rounded(x.channels / 4), at, "hardsigmoid")
    x = conv_norm(draft, x, channels, (f"{at}conv_pw{'l' if expansion else ''}", f"{at}{norms[1]}"))
    return draft.add(x, start, f"{at}add") if x == start else x


def _mobile(
    draft: Draft,
    stages: Sequence[Stage],
    stem: int,
    act: str = RELU6,
    wide: int = 0,
) -> list[Shape]:
    """Stem, stages of inverted residuals and, if ``wide``, a last 1x1 convolution."""
    x = conv_norm(draft, draft.image, stem, ("conv_stem", "bn1"), 3, 2, act=act)
    features = [x]
    for index, stage in enumerate(stages):
        if stage.stride == 2:
            features.append(x)
        for block in range(len(stage.expansions)):
            x = _inverted(draft, x, stage, block, f"blocks.{index}.{block}.")
        features[-1] = x
    if wide:
        names = f"blocks.{len(stages)}.0.conv", f"blocks.{len(stages)}.0.bn1"
        features[-1] = conv_norm(draft, x, wide, names, act=act)
    return features


def mobilenet_v1(draft: Draft, widths: Sequence[int]) -> list[Shape]:
    """MobileNetV1 of any widths: of the stem and of its 13 pointwise convolutions.

    Source: FastDepth (Wofk et al., ICRA 2019), whose encoder NetAdapt narrowed layer by layer.

    >>> [x.channels for x in mobilenet_v1(Draft((64, 64)), V1_WIDTHS)]
    [64, 128, 256, 512, 1024]
    """
    check_v1(widths)
    draft.prefix = "encoder."
    x = conv_norm(draft, draft.image, widths[0], ("conv_stem", "bn1"), 3, 2, act=RELU6)
    features: list[Shape] = []
    pointwise = iter(widths[1:])
    for stage, repeats in enumerate(V1_REPEATS):
        for block in range(repeats):
            at = f"blocks.{stage}.{block}."
            stride = 2 if stage and not block else 1
            names = f"{at}conv_dw", f"{at}bn1"
            x = conv_norm(draft, x, x.channels, names, 3, stride, x.channels, RELU6)
            x = conv_norm(draft, x, next(pointwise), (f"{at}conv_pw", f"{at}bn2"), act=RELU6)
        features.append(x)
    return features


def check_v1(widths: Sequence[int]) -> None:
    """Refuse anything but 14 positive widths."""
    if len(widths) != len(V1_WIDTHS) or any(type(w) is not int or w < 1 for w in widths):
        raise CompressError(
            f"widths of MobileNetV1 are {list(widths)}; give {len(V1_WIDTHS)} whole numbers from "
            "1: of the first convolution and of the 13 pointwise ones"
        )


V2_STAGES = ((1, 1, 16), (2, 2, 24), (3, 2, 32), (4, 2, 64), (3, 1, 96), (3, 2, 160), (1, 1, 320))


def mobilenet_v2(draft: Draft, multiplier: float) -> list[Shape]:
    """Source: MobileNetV2 (Sandler et al., CVPR 2018), Table 2."""
    stages = [
        Stage((6.0 if index else 0,) * repeats, 3, stride, rounded(channels * multiplier))
        for index, (repeats, stride, channels) in enumerate(V2_STAGES)
    ]
    return _mobile(draft, stages, rounded(32 * multiplier))


def efficientnet_lite(draft: Draft, multiplier: float, depth: float) -> list[Shape]:
    """EfficientNet without squeeze and excitation, ReLU6 for swish; stem and ends are not scaled.

    Source: EfficientNet-Lite (tensorflow/tpu, efficientnet/lite).
    """
    kernels = 3, 3, 5, 3, 5, 5, 3
    repeats = 1, *(math.ceil(count * depth) for count in (2, 2, 3, 3, 4)), 1
    strides = 1, 2, 2, 2, 1, 2, 1
    widths = 16, 24, 40, 80, 112, 192, 320
    stages = [
        Stage((6.0 if index else 0,) * count, kernel, stride, rounded(width * multiplier))
        for index, (count, kernel, stride, width) in enumerate(
            zip(repeats, kernels, strides, widths, strict=True)
        )
    ]
    return _mobile(draft, stages, 32)


def mobilenet_v3_small(draft: Draft) -> list[Shape]:
    """Source: MobileNetV3 (Howard et al., ICCV 2019), Table 2."""
    stages = [
        Stage((0,), 3, 2, 16, True, "relu"),
        Stage((4.5, 3.67), 3, 2, 24, False, "relu"),
        Stage((4, 6, 6), 5, 2, 40, True, "hardswish"),
        Stage((3, 3), 5, 1, 48, True, "hardswish"),
        Stage((6, 6, 6), 5, 2, 96, True, "hardswish"),
    ]
    return _mobile(draft, stages, 16, "hardswish", wide=576)


def mobilenet_v3_large(draft: Draft) -> list[Shape]:
    """Source: MobileNetV3 (Howard et al., ICCV 2019), Table 1."""
    stages = [
        Stage((0,), 3, 1, 16, False, "relu"),
        Stage((4, 3), 3, 2, 24, False, "relu"),
        Stage((3, 3, 3), 5, 2, 40, True, "relu"),
        Stage((6, 2.5, 2.3, 2.3), 3, 2, 80, False, "hardswish"),
        Stage((6, 6), 3, 1, 112, True, "hardswish"),
        Stage((6, 6, 6), 5, 2, 160, True, "hardswish"),
    ]
    return _mobile(draft, stages, 16, "hardswish", wide=960)
