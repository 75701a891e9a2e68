"""The DepthNet Nano network: its skips, its pooling and where its norms are."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models import build
from compress.models.depthnet_nano import DepthNetNano, half
from compress.space import Genotype, load_space


def captured(model: DepthNetNano, x: Tensor) -> dict[str, Tensor]:
    """What goes into each decoder level, and what the encoder's levels put out."""
    seen: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        seen["in " + names[module]], seen["out " + names[module]] = given[0], out

    handles = [
        module.register_forward_hook(keep)
        for module in (model.stem, *model.stages, *model.transitions, *model.ups)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("seed", [7, 8])
def test_skips_of_depthnet_nano(seed: int) -> None:
    model = build(load_space("depthnet-nano").sample(seed), seed=0).eval()
    assert isinstance(model, DepthNetNano)
    generator = torch.Generator().manual_seed(0)
    seen = captured(model, torch.rand(1, 3, 64, 128, generator=generator) * 2 - 1)
    pooled = {
        name: F.avg_pool2d(seen[f"out {name}"], 2) for name in ("stem", "transitions.0")
    }  # at even sizes, no cell is cut
    count = len(model.stages)
    assert count == len(model.ups) == (3 if seed == 7 else 4)
    assert torch.equal(seen["in stages.0"], pooled["stem"])
    levels = [seen["out stem"], pooled["stem"], pooled["transitions.0"]]
    if count == 4:
        levels.append(F.avg_pool2d(seen["out transitions.1"], 2))
    below = seen[f"out transitions.{count - 1}"]  # not pooled
    assert below.shape[-2:] == (64 // 2 ** (count + 1), 128 // 2 ** (count + 1))
    for index, skip in enumerate(reversed(levels)):
        grown = below.repeat_interleave(2, 2).repeat_interleave(2, 3)  # nearest
        assert torch.equal(seen[f"in ups.{index}"], torch.cat((grown, skip), 1))
        below = seen[f"out ups.{index}"]


def test_half_averages_what_there_is() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    # rows 0 1 2 3 4 / 5 6 7 8 9 / 10 11 12 13 14
    wanted = [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    assert half(x)[0, 0].tolist() == wanted


def test_where_the_norms_are() -> None:
    def norms(kind: str) -> int:
        data = copy.deepcopy(load_space("depthnet-nano").sample(7).to_dict())
        data["spec"]["norm"] = kind
        model = build(Genotype.from_dict(data), seed=0)
        return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())

    spec = load_space("depthnet-nano").sample(7).spec
    modules = sum(len(stage["widths"]) for stage in spec["stages"])
    ends = 1 + len(spec["stages"])  # the stem and the transitions
    assert norms("projection") == modules
    assert norms("all") == 4 * modules + ends + 2 * 3 * len(spec["decoder"])
