"""Networks with gates: putting them in, setting how much they let through, reading them back.

Source: Gao et al., "Dynamic Channel Pruning: Feature Boosting and Suppression", ICLR 2019, for the
variant "fbs"; the dynamically pruned ResNet-50 depth network for "dp".
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import nn

from compress.errors import CompressError, unknown
from compress.models._gating import ActingNorm, begin, put
from compress.models._gating import Site as Site
from compress.models.blocks.gates import ChannelGate, FollowingConv, GatedConv

M = TypeVar("M", bound=nn.Module)

STARTS = ("exact", "paper")


def attach(
    model: nn.Module,
    sites: Iterable[Site],
    variant: str = "fbs",
    density: float = 1.0,
    block: int = 1,
    start: str = "exact",
) -> None:
    """Put gates into a network, in place.

    The convolution's module becomes a ``GatedConv`` that holds it, its norm and the gate; where the
    norm stood, its activation is left, or the identity.

    A norm's gamma is no longer learned. In "fbs" it keeps beta: ``out = scales * (norm(conv(x)) +
    beta)``. The start "exact" makes the predictor's bias (rho) a channel's strength, the root of
    gamma^2 + beta^2 over the layer's median, and divides gamma and beta by it; phi starts at zero.
    At density 1 the network then computes what it did before. In "dp" norms lose beta and rho
    starts at |gamma|, so that it has to be trained first. Without a norm rho starts at 1, which
    changes nothing.

    The start "paper" draws phi by He's rule and sets rho to 1, so that it has to be trained too.

    Args:
        model: any network without gates.
        sites: as ``compress.gating.sites`` finds them.
        variant: one of ``VARIANTS``.
        density: share of each gate's channels that stay, above 0 and at most 1.
        block: channels win or lose in runs of so many; a divisor of every gate's channels.
        start: one of ``STARTS``.

    Raises:
        CompressError: no such module or variant, a layer that cannot be gated, a density or block
            out of range.
    """
    if start not in STARTS:
        raise unknown("start of gates", start, STARTS)
    wanted = list(sites)
    if all(site.follow for site in wanted):
        raise CompressError("no convolution to gate was given; find_sites lists those there are")
    checked_density(density)
    for gated, norm in put(model, wanted, variant, block, "the network"):
        if isinstance(gated, GatedConv):
            begin(gated, norm, start)
    set_density(model, density)


def round_predictors(model: nn.Module) -> None:
    """Round the weights of gates' predictors to what bfloat16 holds, in place.

    They are read once an image, each for a single product: how long that takes is how much memory
    they fill. The executor then keeps them in half of it, to the same result.
    """
    for gate in gates_of(model).values():
        weight = gate.predictor.weight.data
        weight.copy_(weight.to(torch.bfloat16))


def gates_of(model: nn.Module) -> dict[str, ChannelGate]:
    """The gates of a network, by the path of the convolution; empty for one without any."""
    return {path: part.gate for path, part in model.named_modules() if isinstance(part, GatedConv)}


def set_density(model: nn.Module, density: float | Mapping[str, float]) -> None:
    """Set the share of channels that stay, of all gates or of those named.

    Args:
        model: a network with gates.
        density: above 0 and at most 1, or such by the path of the convolution.
    """
    gates = gates_of(model)
    if not gates:
        raise CompressError("this network has no gates to set a density of; attach them first")
    named = density if isinstance(density, Mapping) else dict.fromkeys(gates, density)
    for path, value in named.items():
        if path not in gates:
            raise unknown("gate", path, gates)
        checked_density(value, f"density of {path}")
    for path, value in named.items():
        gates[path].density = float(value)
    full = all(gate.density == 1 for gate in gates.values())
    for part in model.modules():
        if isinstance(part, FollowingConv):
            part.masks = not full


def checked_density(value: object, what: str = "density") -> float:
    """A share above 0 and at most 1, or ``CompressError``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:  # type: ignore[operator]
        raise CompressError(f"{what} = {str(value)[:40]}: give a number above 0 and at most 1")
    return float(value)  # type: ignore[arg-type]


def sites_of(model: nn.Module) -> list[Site]:
    """Where the gates of a network are, in the order of its modules."""
    return [
        Site(path, part.norm_at, isinstance(part, FollowingConv))
        for path, part in model.named_modules()
        if isinstance(part, GatedConv | FollowingConv)
    ]


def variant_of(model: nn.Module) -> str:
    """The variant that ``attach`` was given; "fbs" where no gated convolution has a norm."""
    bare = (isinstance(m, GatedConv) and type(m.norm) is nn.BatchNorm2d for m in model.modules())
    return "dp" if any(bare) else "fbs"


def describe(model: nn.Module) -> dict[str, Any] | None:
    """The gates of a network as ``restore`` reads them, for JSON; None for one without."""
    gates, sites = gates_of(model), sites_of(model)
    if not gates:
        return None
    return {
        "variant": variant_of(model),
        "block": next(iter(gates.values())).block,
        "gates": {
            site.conv: {"norm": site.norm, "density": gates[site.conv].density}
            for site in sites
            if not site.follow
        },
        "follow": {site.conv: {"norm": site.norm} for site in sites if site.follow},
    }


def restore(model: nn.Module, described: object, where: str) -> None:
    """Put gates into a freshly built network as ``describe`` found them; weights are read later.

    Args:
        model: as built, on the meta device, where a hostile header costs no memory.
        described: from a file's header, so not to be trusted.
        where: what ``described`` comes from, for messages.

    Raises:
        CompressError: anything that ``describe`` does not write of a network like this one.
    """
    where = f"{where}: gates"
    parts = _table(described, {"variant", "block", "gates", "follow"}, where)
    sites, densities = [], {}
    for kind, keys in (("gates", {"norm", "density"}), ("follow", {"norm"})):
        if not isinstance(parts[kind], Mapping):
            raise CompressError(f"{where}: {kind} is no table of modules")
        for path, held in parts[kind].items():
            at = f"{where}: {str(path)[:80]}"
            norm = _table(held, keys, at)["norm"]
            if norm is not None and not isinstance(norm, str):
                raise CompressError(f"{at}: norm = {str(norm)[:40]}: give a path, or null")
            sites.append(Site(path, norm, kind == "follow"))
            if kind == "gates":
                densities[path] = checked_density(held["density"], f"{at}: density")
    if not densities:
        raise CompressError(f"{where}: names no convolution")
    put(model, sites, parts["variant"], parts["block"], where)
    set_density(model, densities)


def without_gates(model: M) -> M:
    """A copy as the network was built, with the same tensors: for its widths and operators.

    What it computes is another thing: norms lack the scale that the gates took over.
    """
    # Tensors that deepcopy takes for copied already are shared.
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    plain = copy.deepcopy(model, shared)
    for path, part in list(plain.named_modules()):
        if isinstance(part, GatedConv | FollowingConv):
            if part.norm_at is not None:
                act = plain.get_submodule(part.norm_at)
                assert isinstance(part.norm, nn.BatchNorm2d)
                acting = not isinstance(act, nn.Identity)
                plain.set_submodule(
                    part.norm_at, ActingNorm(part.norm, act) if acting else part.norm
                )
            plain.set_submodule(path, part.conv)
    return plain


def _table(held: object, keys: set[str], at: str) -> Mapping[str, Any]:
    if not isinstance(held, Mapping) or set(held) != keys:
        raise CompressError(f"{at}: write a table of {', '.join(sorted(keys))}")
    return held
