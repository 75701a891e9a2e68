"""The light-shuffle network of a genotype, and the smaller ones it detaches to.

Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight Neural
Network", ICPR 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from compress.errors import CompressError
from compress.models.base import DepthNet, Head
from compress.models.blocks.pixel_shuffle import ShuffleUp
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import make_encoder
from compress.space import family
from compress.space.light_shuffle import decoder_blocks

SIZES = {4: "l", 3: "m", 2: "s", 1: "xs"}  # what the paper calls networks of so many decoders


class ShuffleDecoder(Decoder):
    """One to four blocks, each of which meets the encoder's map of twice the size."""

    def __init__(
        self, encoder: Sequence[int], blocks: Sequence[tuple[int, int]], expansion: int
    ) -> None:
        super().__init__()
        self.channels = tuple(width for width, _ in blocks)
        inputs = (encoder[-1], *self.channels[:-1])
        self.levels = nn.ModuleList(
            ShuffleUp(cin, skip, width, bottlenecks, expansion)
            for cin, skip, (width, bottlenecks) in zip(
                inputs, encoder[-2 : -2 - len(blocks) : -1], blocks, strict=True
            )
        )

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode to 1/16, 1/8, 1/4, 1/2 of the image, one size a block; see ``Decoder``."""
        x = features[-1]
        maps = []
        for level, skip in zip(self.levels, features[-2::-1], strict=False):
            x = level(x, skip)
            maps.append(x)
        return maps


class LightShuffle(EncoderDecoder):
    """MobileNetV2, detachable decoders, a pointwise head on each while training.

    The heads have one kernel wherever they stand, so that the head of a coarser decoder is the last
    one of the network without the finer decoders.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        encoder = make_encoder(spec["encoder"])
        decoder = ShuffleDecoder(encoder.channels, decoder_blocks(spec), spec["expansion"])
        super().__init__(
            encoder,
            decoder,
            spec["target"],
            auxiliary_levels=range(1, spec["decoders"]),
            classes=spec["segmentation"],
        )


def detached(model: DepthNet, decoders: int) -> DepthNet:
    """The network of the first ``decoders`` decoders, with the weights of a larger one.

    Args:
        model: of this family, with the intermediate heads that training adds.
        decoders: how many decoders to keep, fewer than ``model`` has.

    Returns:
        what ``build`` makes of its genotype, with ``model``'s weights (copies, on the same device);
        its head is the one that stood at its last decoder.

    Raises:
        CompressError: another family, no such number of decoders, or no intermediate head there.
    """
    if not isinstance(model, LightShuffle):
        raise CompressError(
            f"a {model.genotype.family} network has no detachable decoders; give one of the "
            "light-shuffle family"
        )
    genotype = model.genotype
    most = int(genotype.spec["decoders"])
    if not 1 <= decoders < most:
        raise CompressError(
            f"{decoders} decoders cannot be detached from a network of {most}; allowed: "
            f"{', '.join(map(str, range(1, most))) or 'none'}"
        )
    if str(decoders) not in model.auxiliary:
        raise CompressError(
            f"decoder {decoders} has no head: detach after training and before drop_auxiliary"
        )
    # Cut from a copy, not built anew: so it has the widths of a pruned network, too.
    part = copy.deepcopy(model)
    head = part.auxiliary[str(decoders)]
    assert isinstance(head, Head) and isinstance(part.decoder, ShuffleDecoder)
    part.head = head
    part.drop_auxiliary()
    part.auxiliary_levels = tuple(range(1, decoders))
    part.decoder.levels = part.decoder.levels[:decoders]
    part.decoder.channels = part.decoder.channels[:decoders]
    fewer = {"decoders": decoders}
    part.genotype = replace(
        genotype,
        spec=family(genotype.family).decode({**genotype.spec, **fewer}),
        values={**genotype.values, **fewer} if genotype.values else {},
        name="",
    )
    part.info = {}  # the larger network's figures are not its own
    return part
