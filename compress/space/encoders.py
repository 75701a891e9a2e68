"""Encoders of classification networks, written down as operators: what timm builds, without torch.

Every function here takes a draft whose image is an encoder's input and gives its five features, at
1/2, 1/4, 1/8, 1/16 and 1/32 of the image. ``compress.models.encoders`` builds the same networks;
a test holds the two equal operator for operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from compress.errors import CompressError, unknown
from compress.space.draft import Draft, Shape
from compress.space.mobilenets import (
    RELU6,
    V1_REPEATS,
    V1_WIDTHS,
    check_v1,
    conv_norm,
    efficientnet_lite,
    excite,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
)
from compress.space.operators import Operator

__all__ = [
    "ENCODERS",
    "LAST",
    "V1_REPEATS",
    "V1_WIDTHS",
    "check_encoder",
    "check_v1",
    "encoder",
    "encoder_channels",
    "mobilenet_v1",
]


def _regnet_y(
    draft: Draft, depths: Sequence[int], widths: Sequence[int], group: int
) -> list[Shape]:
    """Source: RegNet (Radosavovic et al., CVPR 2020), Table 4 of the appendix; bottleneck 1."""
    x = conv_norm(draft, draft.image, 32, ("stem.conv", "stem.bn"), 3, 2, act="relu")
    features = [x]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
        for block in range(1, depth + 1):
            at, start, stride = f"s{stage}.b{block}.", x, 2 if block == 1 else 1
            x = conv_norm(draft, x, width, (f"{at}conv1.conv", f"{at}conv1.bn"), act="relu")
            names = f"{at}conv2.conv", f"{at}conv2.bn"
            x = conv_norm(draft, x, width, names, 3, stride, width // group, "relu")
            excite(draft, x, round(start.channels / 4), at, "sigmoid")
            x = conv_norm(draft, x, width, (f"{at}conv3.conv", f"{at}conv3.bn"))
            if block == 1:
                names = f"{at}downsample.conv", f"{at}downsample.bn"
                start = conv_norm(draft, start, width, names, stride=stride)
            x = draft.act(draft.add(x, start, f"{at}add"), "relu", f"{at}act3")
        features.append(x)
    return features


def _resnet(draft: Draft, depths: Sequence[int], expansion: int) -> list[Shape]:
    """Blocks of two 3x3 convolutions, or bottlenecks where ``expansion`` is above 1.

    Source: ResNet (He et al., CVPR 2016), Table 1; the stride is at the 3x3 ("v1.5").
    """
    x = conv_norm(draft, draft.image, 64, ("conv1", "bn1"), 7, 2, act="relu")
    features = [x]
    x = draft.pool(x, 3, 2, "max", "maxpool")
    for stage, depth in enumerate(depths, start=1):
        hidden = 32 * 2**stage
        width = hidden * expansion
        for block in range(depth):
            at, start, stride = f"layer{stage}.{block}.", x, 2 if stage > 1 and not block else 1
            c1, c2, c3 = ((f"{at}conv{i}", f"{at}bn{i}") for i in (1, 2, 3))
            if expansion > 1:
                x = conv_norm(draft, x, hidden, c1, act="relu")
                x = conv_norm(draft, x, hidden, c2, 3, stride, act="relu")
                x = conv_norm(draft, x, width, c3)
            else:
                x = conv_norm(draft, x, hidden, c1, 3, stride, act="relu")
                x = conv_norm(draft, x, width, c2, 3)
            if start != x:
                names = f"{at}downsample.0", f"{at}downsample.1"
                start = conv_norm(draft, start, width, names, stride=stride)
            x = draft.act(draft.add(x, start, f"{at}add"), "relu", f"{at}act")
        features.append(x)
    return features


def _densenet(draft: Draft, depths: Sequence[int], growth: int = 32) -> list[Shape]:
    """The skips are those of DenseDepth: stem, pooled stem, first and second transition.

    Source: DenseNet (Huang et al., CVPR 2017), Table 1; sides that are odd are pooled upwards.
    """
    x = conv_norm(
        draft, draft.image, 2 * growth, ("features.conv0", "features.norm0"), 7, 2, 1, "relu"
    )
    features = [x]
    x = draft.pool(x, 3, 2, "max", "features.pool0")
    for stage, depth in enumerate(depths, start=1):
        features.append(x)
        for layer in range(1, depth + 1):
            at = f"features.denseblock{stage}.denselayer{layer}."
            y = x._replace(channels=x.channels + (layer - 1) * growth)
            draft.concat(y, name=f"{at}concat")
            draft.act(draft.norm(y, f"{at}norm1"), "relu", f"{at}norm1.act")
            y = conv_norm(draft, y, 4 * growth, (f"{at}conv1", f"{at}norm2"), act="relu")
            draft.conv(y, growth, 3, name=f"{at}conv2")
        x = x._replace(channels=x.channels + depth * growth)
        draft.concat(x, name=f"features.denseblock{stage}.concat")
        at = "features.norm5" if stage == len(depths) else f"features.transition{stage}.norm"
        draft.act(draft.norm(x, at), "relu", f"{at}.act")
        if stage < len(depths):
            x = draft.conv(x, x.channels // 2, name=f"features.transition{stage}.conv")
            x = draft.pool(x, name=f"features.transition{stage}.pool")
    return [*features[:-1], x]


ENCODERS: dict[str, Callable[[Draft], list[Shape]]] = {
    "densenet121": partial(_densenet, depths=(6, 12, 24, 16)),
    "densenet169": partial(_densenet, depths=(6, 12, 32, 32)),
    "efficientnet_lite0": partial(efficientnet_lite, multiplier=1.0, depth=1.0),
    "efficientnet_lite1": partial(efficientnet_lite, multiplier=1.0, depth=1.1),
    "efficientnet_lite2": partial(efficientnet_lite, multiplier=1.1, depth=1.2),
    "mobilenetv1_100": partial(mobilenet_v1, widths=V1_WIDTHS),
    "mobilenetv2_035": partial(mobilenet_v2, multiplier=0.35),
    "mobilenetv2_050": partial(mobilenet_v2, multiplier=0.5),
    "mobilenetv2_075": partial(mobilenet_v2, multiplier=0.75),
    "mobilenetv2_100": partial(mobilenet_v2, multiplier=1.0),
    "mobilenetv2_140": partial(mobilenet_v2, multiplier=1.4),
    "mobilenetv3_large_100": mobilenet_v3_large,
    "mobilenetv3_small_100": mobilenet_v3_small,
    "regnety_002": partial(_regnet_y, depths=(1, 1, 4, 7), widths=(24, 56, 152, 368), group=8),
    "regnety_004": partial(_regnet_y, depths=(1, 3, 6, 6), widths=(48, 104, 208, 440), group=8),
    "regnety_006": partial(_regnet_y, depths=(1, 3, 7, 4), widths=(48, 112, 256, 608), group=16),
    "regnety_008": partial(_regnet_y, depths=(1, 3, 8, 2), widths=(64, 128, 320, 768), group=16),
    "resnet18": partial(_resnet, depths=(2, 2, 2, 2), expansion=1),
    "resnet34": partial(_resnet, depths=(3, 4, 6, 3), expansion=1),
    "resnet50": partial(_resnet, depths=(3, 4, 6, 3), expansion=4),
}
# Those with a last 1x1 convolution before the classifier, and its width.
LAST = {name: 1280 for name in ENCODERS if name.startswith(("efficientnet_lite", "mobilenetv2"))}
LAST["mobilenetv2_140"] = 1792


def encoder(draft: Draft, name: str, last: bool = False) -> list[Shape]:
    """Write an encoder's operators; the counterpart of ``compress.models.encoders.make_encoder``.

    Args:
        draft: one whose image is the encoder's input.
        name: timm's name of the network, one of ``ENCODERS``.
        last: with the classification network's last 1x1 convolution, norm and activation, whose
            output is then the deepest feature.

    Returns:
        the features at 1/2, 1/4, 1/8, 1/16 and 1/32.
    """
    operators, features = _written(name, last, draft.image.size)
    draft.prefix = "encoder."
    draft.operators += operators
    return list(features)


def encoder_channels(name: str, last: bool = False) -> tuple[int, ...]:
    """Channels of the five features, fine to coarse.

    >>> encoder_channels("mobilenetv2_100")
    (16, 24, 32, 96, 320)
    """
    return tuple(x.channels for x in _written(name, last, (32, 32))[1])


def check_encoder(name: str, last: bool = False) -> None:
    """Refuse a name that is not in ``ENCODERS``, and ``last`` where there is no such layer."""
    if name not in ENCODERS:
        raise unknown("encoder", name, ENCODERS)
    if last and name not in LAST:
        raise CompressError(
            f"encoder {name} has no last 1x1 convolution (allowed: {', '.join(sorted(LAST))})"
        )


# A search asks for the same few encoders at one size thousands of times a second.
@lru_cache(maxsize=64)
def _written(
    name: str, last: bool, size: tuple[int, int]
) -> tuple[tuple[Operator, ...], tuple[Shape, ...]]:
    check_encoder(name, last)
    draft = Draft(size)
    draft.prefix = "encoder."
    features = ENCODERS[name](draft)
    if last:
        features[-1] = conv_norm(draft, features[-1], LAST[name], ("conv_head", "bn2"), act=RELU6)
    return tuple(draft.operators), tuple(features)
