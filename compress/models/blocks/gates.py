"""Which channels of a convolution one image needs, and the layers that compute no others.

Source: feature boosting and suppression (Gao et al., "Dynamic Channel Pruning: Feature Boosting and
Suppression", ICLR 2019), equations 3 to 6; the dynamically pruned ResNet-50 depth network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIE = 2.0**-22  # a share of a value, a little more than float32 can tell
_opaque = False  # whether gates show in a traced graph as one operator each


def saliency(x: Tensor) -> Tensor:
    """Spatial mean of |x| of each channel: (N, C, H, W) to (N, C)."""
    return x.abs().mean((2, 3))


def winners(g: Tensor, active: int, block: int = 1) -> Tensor:
    """Keep the ``active`` largest values of each row, zero the others: k-winners-take-all.

    Never more than ``active`` values of a row stay; fewer do where values are zero already. Of
    equals, to the last digits, the first stay.

    Args:
        g: (N, C), 0 or more.
        active: how many stay, a multiple of ``block``, from 1 to C.
        block: channels win or lose in runs of so many, by their sum; C is a multiple of it.

    Returns:
        (N, C); the gradient flows through the values that stay, not through their choice.
    """
    if active >= g.shape[1]:
        return g
    rows, channels = g.shape
    grouped = g.reshape(rows, channels // block, block)
    chosen = best(grouped.detach().sum(2), active // block)
    mask = torch.zeros_like(grouped[..., 0]).scatter(1, chosen, 1.0)
    return (grouped * mask.unsqueeze(2)).reshape(rows, channels)


def best(sums: Tensor, count: int) -> Tensor:
    """Places of the ``count`` largest of each row, of equals the first: (N, C) to (N, count)."""
    return in_order(sums).topk(count, dim=1).indices


def in_order(sums: Tensor) -> Tensor:
    """Values a trace smaller the later they come: (N, C), so that no two that are equal stay so.

    What topk does with equals is each backend's own, and the gates of an untrained network predict
    many.
    """
    # Twice the digits, in which two that differ do not come out alike.
    return sums.double() * (1 - TIE * torch.arange(sums.shape[1], device=sums.device).double())


class ChannelGate(nn.Module):
    """Scales of a convolution's output channels, predicted from its input.

    ``active`` of ``channels`` are above zero at most. ``density`` is the share asked for, above 0
    and at most 1. As drawn here the predictor is the paper's: phi by He, rho 1.
    """

    def __init__(self, cin: int, channels: int, density: float = 1.0, block: int = 1) -> None:
        super().__init__()
        if channels % block:
            raise ValueError(f"{channels} channels are no multiple of the block {block}")
        self.channels, self.block = channels, block
        self.predictor = nn.Linear(cin, channels)
        nn.init.kaiming_normal_(self.predictor.weight)
        nn.init.ones_(self.predictor.bias)
        self.density = density

    @property
    def active(self) -> int:
        """Channels that win at this density."""
        return self.active_at(self.density)

    def active_at(self, density: float) -> int:
        """Channels that win: ceil(density x channels), rounded up to whole blocks."""
        # 0.7 * 10 is a little above 7 in floating point.
        blocks = math.ceil(round(density * self.channels, 6) / self.block)
        return min(self.channels, max(1, blocks) * self.block)

    def forward(self, x: Tensor) -> Tensor:
        """Predict: (N, Cin, H, W) to (N, C), 0 or more."""
        return winners(F.relu(self.predictor(saliency(x))), self.active, self.block)


class ShiftNorm(nn.BatchNorm2d):
    """Batch norm whose scale is not learned, which is the gate's part; its shift is.

    ``weight``, 1 unless a trained network's is taken over, makes channels of about the same
    strength, so that the gate's predictions are comparable.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__(channels, eps, momentum, affine=False)
        del self.weight
        self.register_buffer("weight", torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


class FollowingNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are of the channels that are awake, image by image.

    Zeros of silent ones would make the variance of a channel that few images need as small as one
    likes, and the image that does need it would be blown up. A channel that no image of a batch
    needs keeps the statistics that it has.
    """

    _seen: Tensor | None = None  # values of each channel in a plain mean over batches

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise x (N, C, H, W) where mask (N, C) is 1, and take note of its statistics."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        values, there = x.float(), mask.float()[:, :, None, None]
        count = mask.float().sum(0) * (x.shape[2] * x.shape[3])
        some = count.clamp(min=1)
        mean = (values * there).sum((0, 2, 3)) / some
        var = ((values - mean[:, None, None]).square() * there).sum((0, 2, 3)) / some
        with torch.no_grad():
            self.num_batches_tracked += 1
            if self.momentum is None:
                if self._seen is None or int(self.num_batches_tracked) == 1:
                    self._seen = torch.zeros_like(count)
                self._seen += count
                factor = count / self._seen.clamp(min=1)
            else:
                factor = self.momentum * (count > 0).float()
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
            spread = var * some / (some - 1).clamp(min=1)
            self.running_var.lerp_(spread.to(self.running_var.dtype), factor)
        scale = (var + self.eps).rsqrt()
        shift = -mean * scale
        if self.weight is not None:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class GatedConv(nn.Module):
    """A convolution and the norm behind it, of which only the winning channels are wanted.

    ``norm`` is the identity where the network has none. The activation follows outside, and must
    keep zero at zero. ``norm_at`` is where in the network the norm stood.
    """

    norm_at: str | None = None

    def __init__(self, conv: nn.Conv2d, norm: nn.Module, gate: ChannelGate) -> None:
        super().__init__()
        self.conv, self.norm, self.gate = conv, norm, gate

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, boost and suppress: (N, Cin, H, W) to (N, C, h, w)."""
        gate = self.gate
        if _opaque:
            weight, bias = gate.predictor.weight, gate.predictor.bias
            scales = torch.ops.compress.gate(x, weight, bias, gate.active, gate.block)
        else:
            scales = gate(x)
        out: Tensor = self.norm(self.conv(x)) * scales[:, :, None, None]
        return out


class FollowingConv(nn.Module):
    """A depthwise convolution and its norm: channels that come in silent go out silent.

    The norm's shift would wake them otherwise. ``masks`` is False while every gate lets all
    channels pass: a channel that the activation alone silenced is then awake behind the norm, as
    in the network without gates. ``norm_at`` is where in the network the norm stood.
    """

    norm_at: str | None = None

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.masks = True

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise the channels that are not all zero: (N, C, H, W)."""
        if not self.masks:
            plain: Tensor = self.norm(self.conv(x))
            return plain
        mask = torch.ops.compress.alive(x) if _opaque else alive(x)
        out: Tensor = self.conv(x)
        own = isinstance(self.norm, FollowingNorm) and self.norm.training
        out = self.norm.masked(out, mask) if own else self.norm(out)  # type: ignore[operator]
        return out * mask[:, :, None, None]


def alive(x: Tensor) -> Tensor:
    """Whether any value of a channel is not zero: (N, C, H, W) to (N, C), 1 or 0."""
    return (x.detach().abs().amax((2, 3)) > 0).to(x.dtype)


@contextmanager
def as_operators() -> Iterator[None]:
    """While this lasts, gates trace as ``compress::gate`` and ``compress::alive``."""
    global _opaque
    before, _opaque = _opaque, True
    try:
        yield
    finally:
        _opaque = before


@torch.library.custom_op("compress::gate", mutates_args=())
def _gate(x: Tensor, weight: Tensor, bias: Tensor, active: int, block: int) -> Tensor:
    return winners(F.relu(F.linear(saliency(x), weight, bias)), active, block).clone()


@_gate.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, active: int, block: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@torch.library.custom_op("compress::alive", mutates_args=())
def _alive(x: Tensor) -> Tensor:
    return alive(x).clone()


@_alive.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1])
