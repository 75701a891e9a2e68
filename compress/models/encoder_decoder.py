"""A network of two parts: an encoder's features, and a decoder that brings them back to size."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from compress.models.base import DepthNet, Head, Outputs, to_depth
from compress.models.encoders import Encoder


class Decoder(nn.Module):
    """From an encoder's features to maps of rising resolution.

    ``channels`` are the widths of the maps that ``forward`` returns.
    """

    channels: tuple[int, ...]

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """Decode.

        Args:
            features: the encoder's maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image.
            size: height and width of the image.

        Returns:
            one map per level, coarse to fine; the last one feeds the head.
        """
        raise NotImplementedError


class EncoderDecoder(DepthNet):
    """Encoder, decoder, head; intermediate heads after some levels while training.

    ``auxiliary_levels`` number the decoder's levels from 1, coarse to fine. Where ``classes`` is
    above 0, every head tells so many classes apart too.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        target: str,
        head_kernel: int = 1,
        auxiliary_levels: Sequence[int] = (),
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classes = classes
        self.head = Head(decoder.channels[-1], head_kernel, target, classes)
        self.auxiliary_levels = tuple(auxiliary_levels)

    def outputs(self, image: Tensor) -> Outputs:
        """Run the network; see ``DepthNet.outputs``."""
        features = self.encoder(image)
        size = (image.shape[-2], image.shape[-1])
        levels = self.decoder(features, size)
        depth_m = to_depth(self.head(levels[-1]), self.head.target, size)
        segmentation = self.head.logits(levels[-1])
        if segmentation is not None:
            segmentation = F.interpolate(
                segmentation, size=size, mode="bilinear", align_corners=False
            )
        auxiliary, classes = [], []
        for level, head in self.auxiliary.items():
            assert isinstance(head, Head)
            x = levels[int(level) - 1]
            auxiliary.append(to_depth(head(x), self.head.target))
            logits = head.logits(x)
            if logits is not None:
                classes.append(logits)
        return Outputs(depth_m, tuple(auxiliary), segmentation, features[-1], tuple(classes))

    def centre_on(self, log_depth: float) -> None:
        """Start all heads from this log depth everywhere."""
        for head in (self.head, *self.auxiliary.values()):
            assert isinstance(head, Head)
            head.centre_on(log_depth)

    def add_auxiliary(self) -> None:
        """Add a 1x1 head after each of ``auxiliary_levels``."""
        for level in self.auxiliary_levels:
            head = Head(self.decoder.channels[level - 1], 1, self.head.target, self.classes)
            self.auxiliary[str(level)] = head.to(self.head.conv.weight)

    @property
    def pretrained(self) -> nn.Module:
        """The encoder."""
        return self.encoder
