"""Decoders come off a light-shuffle network one by one, and what is left is a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from measured import measured
from torch import Tensor, nn

from compress.errors import CompressError
from compress.models import DepthNet, build, load, save
from compress.models.base import Head
from compress.models.light_shuffle import LightShuffle, detached
from compress.models.weights import detachable
from compress.space import Genotype, load_space

SPACE = load_space("light-shuffle")
FEWER = pytest.mark.parametrize("count", [1, 2, 3])
KINDS = pytest.mark.parametrize("name", ["paper", "joint"])


def image(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


def trained(name: str) -> LightShuffle:
    """With intermediate heads, and values that no two parts share."""
    model = measured(build(SPACE.reference(name), seed=0))
    assert isinstance(model, LightShuffle)
    torch.manual_seed(1)
    model.add_auxiliary()
    for parameter in (p for n, p in model.named_parameters() if "head" in n or "auxiliary" in n):
        nn.init.normal_(parameter, std=0.05)
    return model


def by_hand(model: LightShuffle, head: Head, count: int, rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Log depth and the decoder's map after ``count`` decoders, written out."""
    features = model.encoder(rgb)
    x = features[4]
    for number in range(count):
        skip = features[3 - number]
        x = F.pixel_shuffle(x, 2)[:, :, : skip.shape[2], : skip.shape[3]]
        x = torch.cat((x, skip), 1)
        for bottleneck in model.decoder.levels[number].bottlenecks:  # type: ignore[union-attr]
            x = bottleneck(x)
    weight, bias = head.conv.weight[:, :, 0, 0], head.conv.bias
    assert bias is not None
    raw = torch.einsum("nchw,oc->nohw", x, weight) + bias.view(-1, 1, 1)
    return F.interpolate(raw, size=rgb.shape[-2:], mode="bilinear", align_corners=False), x


@KINDS
@FEWER
@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
def test_is_the_beginning_of_the_larger_network(
    name: str, count: int, size: tuple[int, int]
) -> None:
    whole = trained(name)
    part = detached(whole, count)
    rgb = image(*size)
    head = whole.auxiliary[str(count)]
    assert isinstance(head, Head)
    with torch.no_grad():
        outputs = part.outputs(rgb)
        log_depth, x = by_hand(whole, head, count, rgb)
        torch.testing.assert_close(outputs.depth_m.log(), log_depth, rtol=1e-4, atol=1e-4)
        assert (outputs.segmentation is None) == (name == "paper")
        if outputs.segmentation is not None:
            assert head.segmentation is not None and outputs.segmentation.shape == (2, 19, *size)
            logits = F.interpolate(
                head.segmentation(x), size=size, mode="bilinear", align_corners=False
            )
            torch.testing.assert_close(outputs.segmentation, logits)
    assert outputs.depth_m.std() > 0.01


@KINDS
@FEWER
def test_is_what_its_genotype_builds(name: str, count: int, tmp_path: Path) -> None:
    whole = trained(name)
    part = detached(whole, count)
    built = build(part.genotype, seed=5).eval()
    built.load_state_dict(part.state_dict(), strict=True)
    rgb = image(33, 47)
    with torch.no_grad():
        assert torch.equal(built(rgb), part(rgb))
        assert torch.equal(load(save(part, tmp_path / "part.safetensors"))(rgb), part(rgb))
    assert built.state_dict().keys() == part.state_dict().keys()
    assert [n for n, _ in built.named_modules()] == [n for n, _ in part.named_modules()]
    assert (part.size, part.classes, part.info) == (built.size, built.classes, {})
    part.add_auxiliary()  # and it trains on as any network does
    assert list(part.auxiliary) == [str(level) for level in range(1, count)]


def test_paper_detaches_to_its_smaller_references() -> None:
    whole = trained("paper")
    for name, count in (("m", 3), ("s", 2), ("xs", 1)):
        genotype = detached(whole, count).genotype
        assert genotype == SPACE.reference(name)
        assert genotype.spec == SPACE.reference(name).spec
        assert genotype.size == SPACE.reference(name).size
        assert Genotype.from_json(genotype.to_json()) == genotype


def test_genotype_of_a_sampled_network() -> None:
    values = {**SPACE.sample(0).values, "decoders": 4}
    with torch.device("meta"):
        model = build(SPACE.genotype(values))
        model.add_auxiliary()
        part = detached(model, 2)
    wanted = SPACE.genotype({**values, "decoders": 2})
    assert part.genotype == wanted and part.genotype.values == wanted.values


def test_the_larger_network_stays_as_it_was() -> None:
    whole = trained("paper")
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    part = detached(whole, 2)
    for parameter in part.parameters():
        nn.init.zeros_(parameter)
    after = whole.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert whole.genotype == SPACE.reference("paper") and len(whole.decoder.channels) == 4


def test_training_offers_them_by_name() -> None:
    found = detachable(trained("paper"))
    assert list(found) == ["m", "s", "xs"]
    assert [len(part.decoder.levels) for part in found.values()] == [3, 2, 1]  # type: ignore
    untrained = build(SPACE.reference("paper"), seed=0)
    assert detachable(untrained) == {}


def refused(model: DepthNet, count: int) -> str:
    with pytest.raises(CompressError) as caught:
        detached(model, count)
    return str(caught.value)


def test_what_cannot_be_detached_is_answered() -> None:
    whole = trained("paper")
    for count in (0, 4, -1):
        assert f"{count} decoders" in refused(whole, count)
        assert "allowed: 1, 2, 3" in refused(whole, count)
    whole.drop_auxiliary()
    assert "before drop_auxiliary" in refused(whole, 2)
    assert "allowed: none" in refused(build(SPACE.reference("xs"), seed=0), 1)
    other = build(load_space("sparse-mobile").reference("small"), seed=0)
    assert "sparse-mobile" in refused(other, 1)


@KINDS
def test_heads_of_training(name: str) -> None:
    """One on each coarser decoder; a loss on them alone reaches them and what leads to them."""
    model = build(SPACE.reference(name), seed=0)
    keys = model.state_dict().keys()
    model.add_auxiliary()
    assert list(model.auxiliary) == ["1", "2", "3"]
    rgb = image(64, 96)
    outputs = model.train().outputs(rgb)
    sizes = [(4, 6), (8, 12), (16, 24)]
    assert [tuple(x.shape) for x in outputs.auxiliary_m] == [(2, 1, *size) for size in sizes]
    classes = [] if name == "paper" else [(2, 19, *size) for size in sizes]
    assert [tuple(x.shape) for x in outputs.auxiliary_segmentation] == classes
    maps = (*outputs.auxiliary_m, *outputs.auxiliary_segmentation)
    torch.stack([(x * torch.randn_like(x)).mean() for x in maps]).sum().backward()
    for key, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        after = key.startswith(("head.", "decoder.levels.3."))  # behind the last of these heads
        assert reached != after or key.startswith("encoder."), key
    model.drop_auxiliary()
    assert model.state_dict().keys() == keys
    with torch.no_grad():
        outputs = model.eval().outputs(rgb)
    assert outputs.auxiliary_m == outputs.auxiliary_segmentation == ()


@pytest.mark.parametrize(
    ("auxiliary", "levels"), [("none", []), ("2", [2]), ("3", [3]), ("2,3", [2, 3])]
)
def test_heads_of_sparse_mobile(auxiliary: str, levels: list[int]) -> None:
    space = load_space("sparse-mobile")
    values = {**space.reference("small").values, "auxiliary": auxiliary}
    model = build(space.genotype(values), seed=0)
    keys = model.state_dict().keys()
    model.add_auxiliary()
    outputs = model.outputs(image(64, 96))
    assert [tuple(x.shape[-2:]) for x in outputs.auxiliary_m] == [
        {2: (8, 12), 3: (16, 24)}[level] for level in levels
    ]
    if levels:
        torch.stack([x.log().square().mean() for x in outputs.auxiliary_m]).sum().backward()
    for parameter in model.auxiliary.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    model.drop_auxiliary()
    assert model.state_dict().keys() == keys


def test_joint_networks_give_depth_alone_to_forward() -> None:
    model = build(SPACE.reference("joint"), seed=0).eval()
    rgb = image(33, 47)
    with torch.no_grad():
        outputs, depth_m = model.outputs(rgb), model(rgb)
    assert model.classes == 19 and torch.equal(depth_m, outputs.depth_m)
    assert outputs.segmentation is not None and outputs.segmentation.shape == (2, 19, 33, 47)
    assert build(SPACE.reference("paper"), seed=0).classes == 0
