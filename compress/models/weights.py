"""Taking over weights from another network."""

from __future__ import annotations

from typing import Any

import torch

from compress.errors import CompressError
from compress.models.base import DepthNet


def take_weights(network: DepthNet, source: DepthNet) -> dict[str, Any]:
    """Copy every tensor of ``source`` that has its name and shape in ``network`` too.

    Returns:
        ``taken``, the number of tensors copied, ``left`` the number that keep their own values.

    Raises:
        CompressError: nothing fits.
    """
    own, given = network.state_dict(), source.state_dict()
    fits = [name for name, tensor in own.items() if _like(tensor, given.get(name))]
    if not any(own[name].ndim > 1 for name in fits):
        raise CompressError(
            f"none of the weights of {_called(source)} fit {_called(network)}; give a model of "
            "the same space, or of one with the same encoder"
        )
    with torch.no_grad():
        for name in fits:
            own[name].copy_(given[name])
    return {"taken": len(fits), "left": len(own) - len(fits)}


def _like(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and other.shape == tensor.shape


def _called(model: DepthNet) -> str:
    genotype = model.genotype
    return f"{genotype.family}@{genotype.name}" if genotype.name else genotype.family


def detachable(network: DepthNet) -> dict[str, DepthNet]:
    """The smaller networks that a trained one holds, by name; empty where it holds none.

    A ``light-shuffle`` network of n decoders, while it has its intermediate heads, holds those of
    fewer decoders.
    """
    if network.genotype.family != "light-shuffle" or not network.auxiliary:
        return {}
    from compress.models.light_shuffle import SIZES, detached

    return {
        SIZES[count]: detached(network, count)
        for count in range(int(network.genotype.spec["decoders"]) - 1, 0, -1)
    }
