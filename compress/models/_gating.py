"""What stands in the network's places once it has gates; ``compress.models.gates`` puts it there.

The only place that knows how a norm's gamma is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.errors import CompressError, unknown
from compress.models.blocks.gates import (
    ChannelGate,
    FollowingConv,
    FollowingNorm,
    GatedConv,
    ShiftNorm,
)

VARIANTS = ("fbs", "dp")
SMALLEST = 1e-6
WIDEST = 10.0  # how far a gate's first weights may lie from their median, up or down
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Site:
    """A convolution to gate and the norm behind it, if any, by their paths in the network.

    ``follow`` is for depthwise convolutions, which get no gate of their own: channels that come in
    silent go out silent.
    """

    conv: str
    norm: str | None = None
    follow: bool = False


class ActingNorm(nn.BatchNorm2d):
    """A norm and its activation in one module, as timm has them."""

    def __init__(self, norm: nn.BatchNorm2d, act: nn.Module) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False)
        _adopt(self, norm)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate: (N, C, H, W)."""
        out: Tensor = self.act(super().forward(x))
        return out


Put = list[tuple[GatedConv | FollowingConv, nn.BatchNorm2d | None]]


def put(model: nn.Module, sites: list[Site], variant: object, block: object, where: str) -> Put:
    """Replace modules, all or none; the new ones, and the norms that their own were made of."""
    if variant not in VARIANTS:
        raise CompressError(f"{where}: {unknown('variant of gates', variant, VARIANTS)}")
    if isinstance(block, bool) or not isinstance(block, int) or block < 1:
        raise CompressError(f"{where}: block = {str(block)[:40]}: give a whole number from 1")
    if any(isinstance(part, GatedConv) for part in model.modules()):
        raise CompressError(f"{where}: has gates already; give the network without them")
    modules = dict(model.named_modules())
    made: Put = []
    seen: set[str] = set()
    for site in sites:
        for path in (site.conv, site.norm):
            if path is not None and (path in seen or path not in modules):
                said = "stands in two sites" if path in seen else "is no module of this network"
                raise CompressError(f"{where}: {str(path)[:80]!r} {said}")
            seen |= {path} if path is not None else set()
        conv = _conv(modules[site.conv], site, block, f"{where}: {site.conv}")
        norm = _norm(modules[site.norm], conv, f"{where}: {site.norm}") if site.norm else None
        made.append((_module(conv, norm, site, str(variant), block), norm))
    for site, (module, norm) in zip(sites, made, strict=True):
        model.set_submodule(site.conv, module)
        if site.norm is not None:
            act = getattr(norm, "act", None)  # timm's norms have their activation with them
            model.set_submodule(site.norm, nn.Identity() if act is None else act)
    return made


def _conv(conv: nn.Module, site: Site, block: int, at: str) -> nn.Conv2d:
    if not isinstance(conv, nn.Conv2d):
        raise CompressError(f"{at}: a {type(conv).__name__} cannot be gated, only a Conv2d")
    if site.follow and not conv.groups == conv.in_channels == conv.out_channels:
        raise CompressError(f"{at}: only a depthwise convolution can follow")
    if not site.follow and conv.out_channels % block:
        raise CompressError(f"{at}: block {block} does not divide its {conv.out_channels} channels")
    return conv


def _norm(norm: nn.Module, conv: nn.Conv2d, at: str) -> nn.BatchNorm2d:
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
        raise CompressError(f"{at}: {type(norm).__name__} is no batch norm with running statistics")
    if norm.num_features != conv.out_channels:
        raise CompressError(
            f"{at}: has {norm.num_features} channels, its convolution {conv.out_channels}"
        )
    return norm


def _module(
    conv: nn.Conv2d, norm: nn.BatchNorm2d | None, site: Site, variant: str, block: int
) -> GatedConv | FollowingConv:
    """What comes in the convolution's place; the norm in it has the tensors that it keeps."""
    made: GatedConv | FollowingConv
    own: nn.Module = nn.Identity()
    with torch.device(conv.weight.device):
        if norm is not None:
            widths = (norm.num_features, norm.eps, norm.momentum)
            if site.follow:
                own = FollowingNorm(*widths, affine=norm.weight is not None)
            elif variant == "fbs":
                own = ShiftNorm(*widths)
            else:
                own = nn.BatchNorm2d(*widths, affine=False)
            _adopt(own, norm, ("weight", "bias") if site.follow else ())
        if site.follow:
            made = FollowingConv(conv, own)
        else:
            gate = ChannelGate(conv.in_channels, conv.out_channels, 1.0, block)
            made = GatedConv(conv, own, gate.to(conv.weight.dtype))
    made.norm_at = site.norm
    return made.train(conv.training)


def _adopt(
    norm: nn.Module, other: nn.BatchNorm2d, parameters: Iterable[str] = ("weight", "bias")
) -> None:
    """Take over another norm's statistics and parameters, the tensors themselves."""
    for name in (*STATISTICS, *parameters):
        tensor = getattr(other, name)
        if name in norm._parameters and not isinstance(tensor, nn.Parameter | None):
            delattr(norm, name)  # a scale that is not learned
            norm.register_buffer(name, tensor)
        setattr(norm, name, tensor)


@torch.no_grad()
def begin(gated: GatedConv, norm: nn.BatchNorm2d | None, start: str) -> None:
    """Give a new gate its first weights, and its norm what gamma left; see ``attach``."""
    predictor = gated.gate.predictor
    if start == "exact":
        predictor.weight.zero_()
    if norm is None:
        return
    own = gated.norm
    assert isinstance(own, nn.BatchNorm2d) and own.running_mean is not None
    gamma = torch.ones_like(own.running_mean) if norm.weight is None else norm.weight.detach()
    shift = torch.zeros_like(gamma) if norm.bias is None else norm.bias.detach()
    if isinstance(own, ShiftNorm) and start == "exact":
        strength = (gamma**2 + shift**2).sqrt()
        rho = (strength / strength.median().clamp(min=SMALLEST)).clamp(1 / WIDEST, WIDEST)
        predictor.bias.copy_(rho)
        own.weight.copy_(gamma / rho)
        own.bias.copy_(shift / rho)
        return
    sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
    gated.conv.weight.mul_(sign[:, None, None, None])
    if gated.conv.bias is not None:
        gated.conv.bias.mul_(sign)
    own.running_mean.mul_(sign)
    if start == "exact":
        predictor.bias.copy_(gamma.abs().clamp(min=SMALLEST))
    if isinstance(own, ShiftNorm):
        own.bias.copy_(shift)
