"""Encoders: the feature maps of classification networks, built by timm.

``compress.space.encoders`` has the closed form of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from torch import Tensor, nn

from compress.models.timm_ import timm
from compress.space.encoders import V1_REPEATS, V1_WIDTHS, check_encoder, check_v1, encoder_channels

# After which module of timm's network each feature is read, 1/2 to 1/32, by the name's beginning.
TAPS = {
    "mobilenetv1": ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"),
    "mobilenetv2": ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "mobilenetv3_large": ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "mobilenetv3_small": ("bn1", "blocks.0", "blocks.1", "blocks.3", "blocks.5"),
    "efficientnet_lite": ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    "regnety": ("stem", "s1", "s2", "s3", "s4"),
    "resnet": ("act1", "layer1", "layer2", "layer3", "layer4"),
    "densenet": tuple(
        f"features.{name}" for name in ("norm0", "pool0", "transition1", "transition2", "norm5")
    ),
}


class Encoder(nn.Module):
    """A chain of timm's modules, under timm's names, some of whose outputs are the features.

    ``channels`` are those of the features, fine to coarse; ``name`` is timm's of the network.
    """

    def __init__(
        self,
        name: str,
        chain: Mapping[str, nn.Module],
        taps: Sequence[str],
        channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.name = name
        self.channels = tuple(channels)
        self.taps = tuple(taps)
        self.chain = tuple(chain)
        for path, module in chain.items():
            parent: nn.Module = self
            *above, own = path.split(".")
            for part in above:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(own, module)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a normalised (N, 3, H, W) image at 1/2, 1/4, 1/8, 1/16, 1/32, rounded up."""
        features = []
        x = image
        for path in self.chain:
            x = self.get_submodule(path)(x)
            if path in self.taps:
                features.append(x)
        return features


def make_encoder(name: str, last: bool = False) -> Encoder:
    """Build an encoder with fresh weights.

    Args:
        name: timm's name of the network, one of ``compress.space.encoders.ENCODERS``.
        last: with the classification network's last 1x1 convolution, norm and activation, whose
            output is then the deepest feature.
    """
    check_encoder(name, last)
    taps = next(taps for start, taps in TAPS.items() if name.startswith(start))
    model = timm().create_model(name, num_classes=0)
    if last:
        taps = (*taps[:-1], "bn2")
    return _encoder(name, model, taps, encoder_channels(name, last))


def make_mobilenet_v1(widths: Sequence[int]) -> Encoder:
    """Build a MobileNetV1 of any widths: of the stem and of its 13 pointwise convolutions.

    Source: FastDepth (Wofk et al., ICRA 2019), whose encoder NetAdapt narrowed layer by layer.
    """
    check_v1(widths)
    timm()
    from timm.layers import get_act_layer
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNetFeatures

    pointwise = iter(widths[1:])
    stages = [
        [
            f"dsa_r1_k3_s{2 if stage and not block else 1}_c{next(pointwise)}"
            for block in range(repeats)
        ]
        for stage, repeats in enumerate(V1_REPEATS)
    ]
    model = EfficientNetFeatures(
        decode_arch_def(stages),
        stem_size=widths[0],
        round_chs_fn=int,  # as they are: not to multiples of eight
        act_layer=get_act_layer("relu6"),
    )
    # At the usual widths it is a network that timm has weights of.
    name = "mobilenetv1_100" if tuple(widths) == V1_WIDTHS else "mobilenetv1"
    channels = [widths[output] for output in accumulate(V1_REPEATS)]
    return _encoder(name, model, TAPS["mobilenetv1"], channels)


def _encoder(name: str, model: nn.Module, taps: Sequence[str], channels: Sequence[int]) -> Encoder:
    """The part of timm's network that ends with the last of ``taps``."""
    chain: dict[str, nn.Module] = {}
    for child, module in model.named_children():
        if child in ("blocks", "features"):
            chain.update((f"{child}.{inner}", part) for inner, part in module.named_children())
        else:
            chain[child] = module
    end = list(chain).index(taps[-1]) + 1
    for module in model.modules():
        if isinstance(module, nn.AvgPool2d):
            # DenseNet's transitions would drop a last odd row or column, and have nothing left of a
            # side of 1; here they average what there is of it. On even sides nothing changes.
            module.ceil_mode, module.count_include_pad = True, False
    return Encoder(name, dict(list(chain.items())[:end]), taps, channels)
