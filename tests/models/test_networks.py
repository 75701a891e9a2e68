"""What every network must do, for every family that can be built and every shipped space."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.models import DepthNet, build, normalised
from compress.models.build import NETWORKS
from compress.models.depthnet_nano import DepthNetNano, half
from compress.space import FAMILIES, Genotype, load_space, space_names

GENOTYPES: dict[str, Genotype] = {}
for name in space_names():
    space = load_space(name)
    GENOTYPES[f"{name}-smallest"] = space.smallest
    # three and four stages, batch norms on the projection only and everywhere
    GENOTYPES |= {f"{name}-{seed}": space.sample(seed) for seed in (7, 8, 15)}
EACH = pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES)


def image(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    return normalised(rgb)


def test_every_family_can_be_built_and_is_tested() -> None:
    assert NETWORKS.keys() == FAMILIES.keys()
    assert {genotype.family for genotype in GENOTYPES.values()} == NETWORKS.keys()


def test_normalised_images() -> None:
    rgb = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalised(rgb)
    assert out.dtype == torch.float32
    assert out.flatten().tolist() == pytest.approx([-1.0, -0.6, 1.0], abs=1e-6)
    assert rgb.flatten().tolist() == [0, 51, 255]


@EACH
@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 47), (97, 131), (64, 96)])
def test_depth_of_any_size(genotype: Genotype, height: int, width: int) -> None:
    model = build(genotype, seed=0).eval()
    with torch.no_grad():
        depth = model(image(height, width, batch=2))
    assert depth.shape == (2, 1, height, width)
    assert depth.dtype == torch.float32
    assert torch.isfinite(depth).all() and (depth > 0).all()
    assert depth.std() > 0
    with torch.no_grad():  # one image does not see the other
        alone = model(image(height, width, batch=2)[1:])
    torch.testing.assert_close(alone, depth[1:], rtol=1e-4, atol=1e-5)


@EACH
def test_depth_stays_finite_whatever_comes_in(genotype: Genotype) -> None:
    model = build(genotype, seed=0).eval()
    with torch.no_grad():
        depth = model(1e6 * image(32, 32))
    assert torch.isfinite(depth).all()
    assert math.exp(-7.001) < depth.min() < depth.max() < math.exp(7.001)


@EACH
def test_gradients_reach_every_parameter(genotype: Genotype) -> None:
    model = build(genotype, seed=0).train()
    target = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    (model(image(64, 64, batch=2)).log() - target).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@EACH
def test_weights_are_drawn_from_the_seed_alone(genotype: Genotype) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build(genotype, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second, other = build(genotype, seed=3).state_dict(), build(genotype, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_without_a_seed_torch_draws() -> None:
    genotype = GENOTYPES["depthnet-nano-smallest"]
    torch.manual_seed(3)
    first, second = build(genotype), build(genotype)
    assert not torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.weight, build(genotype, seed=3).head.weight)


@EACH
def test_a_model_says_what_it_is(genotype: Genotype) -> None:
    model = build(genotype, seed=0)
    assert isinstance(model, DepthNet)
    assert (model.genotype, model.size, model.info) == (genotype, genotype.size, {})
    assert build(genotype, seed=0).info is not model.info


@EACH
def test_centre_on_starts_from_a_depth(genotype: Genotype) -> None:
    for metres in (0.5, 20.0):
        model = build(genotype, seed=0).eval()
        model.centre_on(math.log(metres))
        with torch.no_grad():
            depth = model(image(64, 96))
        assert metres / 2 < depth.median() < metres * 2
        assert depth.std() > 0  # and still of the image


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
    seen = captured(model, image(64, 128))
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
