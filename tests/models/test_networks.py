"""What every network must do, for every family that can be built and every shipped space."""

from __future__ import annotations

import math

import pytest
import torch
from members import EACH_MEMBER, EACH_SPACE, MEMBERS, fresh, ready
from torch import Tensor, nn

from compress.models import DepthNet, Outputs, build, normalised
from compress.models.build import NETWORKS
from compress.space import FAMILIES, Genotype


def image(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    return normalised(rgb)


def test_every_family_can_be_built_and_is_tested() -> None:
    assert NETWORKS.keys() == FAMILIES.keys()
    assert {genotype.family for genotype in MEMBERS.values()} == NETWORKS.keys()


def test_normalised_images() -> None:
    rgb = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalised(rgb)
    assert out.dtype == torch.float32
    assert out.flatten().tolist() == pytest.approx([-1.0, -0.6, 1.0], abs=1e-6)
    assert rgb.flatten().tolist() == [0, 51, 255]


@EACH_MEMBER
@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 47), (97, 131), (64, 96)])
def test_depth_of_any_size(genotype: Genotype, height: int, width: int) -> None:
    model = ready(genotype)
    rgb = image(height, width, batch=2)
    before = rgb.clone()
    with torch.no_grad():
        depth = model(rgb)
        alone = model(rgb[1:])
    assert depth.shape == (2, 1, height, width)
    assert depth.dtype == torch.float32
    assert torch.isfinite(depth).all() and (depth > 0).all()
    assert depth.std() > 0
    assert torch.equal(rgb, before)
    # one image does not see the other
    torch.testing.assert_close(alone, depth[1:], rtol=1e-4, atol=1e-5)


@EACH_MEMBER
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_depth_stays_finite_whatever_comes_in(genotype: Genotype, training: bool) -> None:
    """Of batch norms that have seen nothing, those that have, and those of the batch itself."""
    for model in (fresh(genotype), ready(genotype)):
        model.train(training)
        for rgb in (1e6 * image(64, 64, 2), image(64, 64, 2), torch.zeros(2, 3, 64, 64)):
            with torch.no_grad():
                depth = model(rgb)
            assert torch.isfinite(depth).all()
            assert math.exp(-7.001) < depth.min() <= depth.max() < math.exp(7.001)


@EACH_SPACE
def test_depth_of_loud_images_differs(genotype: Genotype) -> None:
    """A limit that all of it is pressed to would hide the image."""
    with torch.no_grad():
        assert ready(genotype)(10 * image(64, 64)).std() > 0


def everything(outputs: Outputs) -> list[Tensor]:
    """All maps that training has losses of."""
    maps = [outputs.depth_m, *outputs.auxiliary_m, *outputs.auxiliary_segmentation]
    return maps if outputs.segmentation is None else [*maps, outputs.segmentation]


@EACH_MEMBER
def test_gradients_reach_every_parameter(genotype: Genotype) -> None:
    model = fresh(genotype)
    model.add_auxiliary()
    model.centre_on(1.0)
    model.train()
    for module in model.modules():  # residual branches of timm's begin at zero
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    generator = torch.Generator().manual_seed(1)
    outputs = model.outputs(image(64, 64, batch=4))
    loss = sum((x * torch.randn(x.shape, generator=generator)).mean() for x in everything(outputs))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@EACH_SPACE
def test_a_step_of_training_lowers_the_loss(genotype: Genotype) -> None:
    model = fresh(genotype)
    model.centre_on(1.0)
    rgb = image(64, 64, batch=2)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = (model.train()(rgb).log() - 2 - rgb.mean(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@EACH_MEMBER
def test_weights_are_drawn_from_the_seed_alone(genotype: Genotype) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build(genotype, seed=0).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    second, other = fresh(genotype).state_dict(), build(genotype, seed=4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@EACH_SPACE
def test_without_a_seed_torch_draws(genotype: Genotype) -> None:
    torch.manual_seed(0)
    first, second = build(genotype).state_dict(), build(genotype).state_dict()
    drawn = [name for name in first if not torch.equal(first[name], second[name])]
    assert drawn
    seeded = fresh(genotype).state_dict()  # of seed 0
    assert all(torch.equal(first[name], seeded[name]) for name in first)


@EACH_MEMBER
def test_a_model_says_what_it_is(genotype: Genotype) -> None:
    with torch.device("meta"):
        model, again = build(genotype), build(genotype)
    assert isinstance(model, DepthNet)
    assert (model.genotype, model.size, model.info) == (genotype, genotype.size, {})
    assert again.info is not model.info
    if model.pretrained is not None:
        names = {name for name, _ in model.named_modules()}
        assert {f"encoder.{name}" for name, _ in model.pretrained.named_modules() if name} < names


@EACH_MEMBER
def test_classes(genotype: Genotype) -> None:
    model = ready(genotype)
    with torch.no_grad():
        logits = model.outputs(image(33, 47, batch=2)).segmentation
    if model.classes:
        assert logits is not None and logits.shape == (2, model.classes, 33, 47)
        assert torch.isfinite(logits).all() and logits.std() > 0
    else:
        assert logits is None


@EACH_MEMBER
def test_centre_on_starts_from_a_depth(genotype: Genotype) -> None:
    for metres in (0.5, 20.0):
        model = ready(genotype)
        model.add_auxiliary()
        model.centre_on(math.log(metres))
        with torch.no_grad():
            outputs = model.outputs(image(64, 96))
        for depth in (outputs.depth_m, *outputs.auxiliary_m):
            assert metres / 2 < depth.median() < metres * 2
            assert depth.std() > 0  # and still of the image


@EACH_MEMBER
def test_auxiliary_heads_come_and_go(genotype: Genotype) -> None:
    model = ready(genotype)
    rgb = image(33, 47, batch=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        alone = model.outputs(rgb)
    assert alone.auxiliary_m == () and alone.features is not None
    model.add_auxiliary()
    added = model.state_dict().keys() - before.keys()
    assert all(name.startswith("auxiliary.") for name in added)
    with torch.no_grad():
        outputs = model.outputs(rgb)
    assert bool(added) == bool(outputs.auxiliary_m)
    assert torch.equal(outputs.depth_m, alone.depth_m)
    last = (0, 0)
    for depth in outputs.auxiliary_m:  # coarse to fine
        assert depth.shape[:2] == (2, 1) and torch.isfinite(depth).all() and (depth > 0).all()
        size = (depth.shape[-2], depth.shape[-1])
        assert last <= size <= (33, 47)
        last = size
    of_depth = [depth.shape[-2:] for depth in outputs.auxiliary_m]
    joint = model.classes > 0
    assert [x.shape[-2:] for x in outputs.auxiliary_segmentation] == (of_depth if joint else [])
    assert all(x.shape[1] == model.classes for x in outputs.auxiliary_segmentation)
    model.drop_auxiliary()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
