"""Parameters and multiply-adds: in closed form from a genotype, by tracing from any module."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from compress.errors import CompressError
from compress.space import Genotype, Operator, family, input_size, totals

if TYPE_CHECKING:
    from torch import nn


class Cost(NamedTuple):
    """Size of a network, for one image.

    ``params`` are learnable values; ``macs`` multiply-adds of convolutions and linear layers, as
    the papers count them; ``macs_all`` those and normalisation and interpolation (fvcore's
    convention for both). ``uncounted`` names operators that tracing met and no rule counts;
    activations, additions, concatenation and plain pooling are known and free.
    """

    params: int
    macs: int
    macs_all: int
    size: tuple[int, int]
    uncounted: tuple[str, ...] = ()


def cost(
    genotype_or_model: Genotype | nn.Module, size: tuple[int, int] | str | None = None
) -> Cost:
    """Count parameters and multiply-adds.

    A genotype is counted in closed form, without building the network; a module is traced on the
    meta device, which runs no arithmetic. The two agree exactly.

    Args:
        genotype_or_model: a ``Genotype``, or any ``nn.Module`` that takes (1, 3, H, W).
        size: network input (height, width); default: the genotype's or the loaded model's own.

    Raises:
        CompressError: no size is known, or the module cannot be traced.
    """
    known = getattr(genotype_or_model, "size", None)
    if size is None and known is None:
        raise CompressError("this module has no input size of its own: give size=(height, width)")
    at = input_size(known if size is None else size)
    if isinstance(genotype_or_model, Genotype):
        return Cost(*totals(operators(genotype_or_model, at)), at)
    from compress.cost.trace import trace

    try:
        module = copy.deepcopy(genotype_or_model)
    except Exception as error:  # whatever a module holds decides what this raises
        name = type(genotype_or_model).__name__
        raise CompressError(
            f"{name} cannot be copied to be counted: {type(error).__name__}: {error}"
        ) from error
    traced = trace(module, at)
    sums = totals(traced.operators)
    # A module may hold parameters that no counted operator uses, and share others between two.
    params = sum(p.numel() for p in genotype_or_model.parameters())
    return Cost(params, sums.macs, sums.macs_all + traced.other, at, traced.uncounted)


def operators(genotype: Genotype, size: Sequence[int] | None = None) -> list[Operator]:
    """List a genotype's operators for one image of ``size`` (default: its own), closed form."""
    height, width = genotype.size if size is None else size
    return family(genotype.family).operators(genotype.spec, (height, width))


def to_dict(result: Cost) -> dict[str, Any]:
    """``Cost`` as the JSON object that ``compress cost --json`` prints."""
    data = result._asdict() | {"size": list(result.size)}
    return data | {"uncounted": list(result.uncounted)}
