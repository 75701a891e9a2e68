"""How much each unit of a group is worth: what is cut first is worth least.

All measures are taken over the whole tie group, so that layers joined by an addition agree on the
same channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from compress.errors import CompressError, unknown
from compress.pruning.groups import Group, Member, named_tensors

# Losses of a few batches, one scalar each, given the network to run them through.
Losses = Callable[[nn.Module], Iterable[Tensor]]
Tensors = Mapping[str, Tensor]
Importance = Callable[[Group, Tensors, Tensors, int], Tensor]


def scores(
    model: nn.Module,
    groups: Sequence[Group],
    importance: str = "joint",
    *,
    losses: Losses | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Score the units of each group.

    Args:
        model: the network that the groups were found in.
        groups: of ``find_groups``.
        importance: a name of ``IMPORTANCES``.
        losses: for "taylor": given the network, yields the loss of one batch after another; three
            or four batches do.
        seed: for "random".

    Returns:
        (channels,) float32 scores by group name, higher for what should stay.
    """
    if importance not in IMPORTANCES:
        raise unknown("importance", importance, IMPORTANCES)
    gradients: dict[str, Tensor] = {}
    if importance in GRADIENTS:
        if losses is None:
            raise CompressError(
                f"importance {importance!r} needs losses=, a function that takes the network and "
                f"yields the loss of a few batches; or choose one of "
                f"{', '.join(sorted(set(IMPORTANCES) - GRADIENTS))}"
            )
        gradients = _gradients(model, losses)
    tensors = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
    measure = IMPORTANCES[importance]
    return {group.name: measure(group, tensors, gradients, seed) for group in groups}


def _gradients(model: nn.Module, losses: Losses) -> dict[str, Tensor]:
    """Mean over batches of |weight x gradient|, by name; the network is left as it was."""
    training = model.training
    before = {name: parameter.grad for name, parameter in model.named_parameters()}
    summed: dict[str, Tensor] = {}
    count = 0
    model.eval()  # norms keep their statistics
    try:
        with torch.enable_grad():
            for loss in losses(model):
                parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
                if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                    raise CompressError("losses= must yield scalar tensors with a gradient")
                found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
                count += 1
                for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
                    if gradient is not None:
                        part = (parameter.detach() * gradient).detach()
                        summed[name] = summed[name] + part if name in summed else part
    finally:
        model.train(training)
        for name, parameter in model.named_parameters():
            parameter.grad = before[name]
    if not count:
        raise CompressError("losses= yielded nothing; give it at least one batch")
    return {name: total / count for name, total in summed.items()}


def _per_unit(member: Member, values: Tensor, units: int) -> Tensor:
    """Sum ``values`` of the member's tensor over all that belongs to each unit: (units,)."""
    moved = values.float().movedim(member.axis, 0)
    each = moved.reshape(len(moved), -1).sum(1)
    places = torch.tensor(member.units, device=values.device)
    mine = places >= 0
    return torch.zeros(units, device=values.device).index_add_(0, places[mine], each[mine])


def _joint(group: Group, tensors: Tensors, _: Tensors, __: int) -> Tensor:
    """L2 norm of the filters of all tied layers together.

    Source: NetAdapt (Yang et al., ECCV 2018) ranks filters by their L2 norm, layer by layer;
    FastDepth's additive skips need one ranking for all layers that are added.
    """
    total = torch.zeros(group.channels)
    for member in group.members:
        if member.role == "out":
            total = total + _per_unit(member, tensors[member.tensor] ** 2, group.channels).cpu()
    return total.sqrt()


def _magnitude(power: int) -> Importance:
    """Mean over the group's weights of |w| ** power: filters, and the weights that read them.

    Source: the group norm of DepGraph (Fang et al., CVPR 2023), section 3.3.
    """

    def measure(group: Group, tensors: Tensors, _: Tensors, __: int) -> Tensor:
        total = torch.zeros(group.channels)
        for member in group.members:
            values = tensors[member.tensor]
            if member.role in ("out", "in") or (member.role == "along" and values.ndim > 1):
                part = _per_unit(member, values.abs() ** power, group.channels).cpu()
                total = total + part / max(1.0, float(part.mean()))
        return total

    return measure


def _scale(group: Group, tensors: Tensors, gradients: Tensors, seed: int) -> Tensor:
    """Sum of the |gamma| of the norms that follow; joint norm where there are none.

    Source: Liu et al., "Network Slimming", ICCV 2017.
    """
    total = torch.zeros(group.channels)
    for member in group.members:
        values = tensors[member.tensor]
        if member.role == "along" and member.tensor.endswith("weight") and values.ndim == 1:
            total = total + _per_unit(member, values.abs(), group.channels).cpu()
    return total if bool(total.any()) else _joint(group, tensors, gradients, seed)


def _taylor(group: Group, tensors: Tensors, gradients: Tensors, _: int) -> Tensor:
    """First-order estimate of how the loss changes without the unit: |sum of weight x gradient|.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019.
    """
    total = torch.zeros(group.channels)
    for member in group.members:
        if member.role in ("out", "bias") and member.tensor in gradients:
            total = total + _per_unit(member, gradients[member.tensor], group.channels).cpu()
    return total.abs()


def _random(group: Group, _: Tensors, __: Tensors, seed: int) -> Tensor:
    """Chance, the same for the same seed and group: what any other measure has to beat."""
    drawn = torch.Generator().manual_seed(zlib.crc32(f"{seed} {group.name}".encode()))
    return torch.rand(group.channels, generator=drawn)


IMPORTANCES: dict[str, Importance] = {
    "joint": _joint,
    "l1": _magnitude(1),
    "l2": _magnitude(2),
    "magnitude": _magnitude(2),
    "bn-scale": _scale,
    "taylor": _taylor,
    "random": _random,
}
GRADIENTS = frozenset({"taylor"})
