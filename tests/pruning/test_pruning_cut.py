from __future__ import annotations

import copy
import random
import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import EACH_FAMILY, Toy, shipped, stirred

from compress.cost import cost
from compress.errors import CompressError
from compress.models import build, load, save
from compress.models.shapes import identity
from compress.pruning import check_cut, copy_cut, cut, cut_groups, find_groups, masked, widths
from compress.pruning.groups import results
from compress.space import parse_reference

SIZE, ODD = (32, 48), (37, 51)
TOY = stirred(Toy())
TOY_GROUPS = find_groups(TOY, (16, 20))


def halves(groups, offset=0, step=1, first=0):
    chosen = [group for group in groups if group.prunable][offset::step]
    return {group.name: list(range(first, group.channels, 2)) for group in chosen}


@EACH_FAMILY
def test_half_of_every_group(family: str) -> None:
    model = shipped(family)
    groups = find_groups(model, SIZE)
    before = copy.deepcopy(model.state_dict())
    keeps = halves(groups)
    pruned = copy_cut(model, keeps, groups)
    assert check_cut(model, pruned, keeps, SIZE, groups) < 1e-9
    assert check_cut(model, pruned, keeps, ODD, groups) < 1e-9
    for offset in range(4):  # and apart from most others, the other half
        some = halves(groups, offset, 4, first=1)
        assert check_cut(model, copy_cut(model, some, groups), some, SIZE, groups) < 1e-9
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    # In plain float32, as it will run.
    image = torch.rand(1, 3, *ODD) * 2 - 1
    with torch.no_grad():
        pairs = zip(
            results(masked(model, keeps, groups), image), results(pruned, image), strict=True
        )
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@EACH_FAMILY
def test_costs_and_files_of_a_pruned_network(family: str, tmp_path) -> None:
    model = shipped(family)
    groups = find_groups(model, SIZE)
    model.info = {"data": "scenes", "macs": 5, "heldout": {"delta1": 0.5}}
    pruned = copy_cut(model, halves(groups), groups).eval()
    counted = cost(pruned, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        analysis = FlopCountAnalysis(pruned, torch.zeros(1, 3, *SIZE))
        analysis.unsupported_ops_warnings(False)
        found = analysis.by_operator()
    assert counted.macs == found["conv"] + found["linear"]
    assert counted.params == sum(p.numel() for p in pruned.parameters())
    assert counted.params < 0.45 * cost(model, SIZE).params
    path = save(pruned, tmp_path / "pruned.safetensors")
    opened = load(path)
    image = torch.rand(1, 3, *ODD)
    with torch.no_grad():
        assert torch.equal(opened(image), pruned(image))
    assert cost(opened, SIZE) == counted
    assert widths(opened) == widths(pruned)
    assert opened.info == pruned.info
    assert opened.info["pruned"]["before"] == {"macs": 5, "heldout": {"delta1": 0.5}}
    assert "heldout" not in opened.info and opened.info["data"] == "scenes"
    assert identity(opened) == identity(pruned) != identity(model) == model.genotype.hash
    for _, module in opened.named_modules():
        assert str(module)  # its own numbers are in order
    # Once more, from the file.
    again = find_groups(opened, SIZE, verify=False)
    keeps = halves(again, 0, 5)
    twice = copy_cut(opened, keeps, again)
    assert check_cut(opened, twice, keeps, SIZE, again) < 1e-9
    assert load(save(twice, path)).info["pruned"]["before"]["macs"] == 5


def test_grouped_convolutions_of_a_regnet() -> None:
    model = stirred(build(parse_reference("mobiledepth@paper"), 0))
    groups = find_groups(model, SIZE, verify=False)
    inner = next(group for group in groups if group.name == "encoder.s2.b1.conv1.conv")
    assert (inner.channels, inner.block) == (7, 16)  # whole groups, and the squeeze after them
    assert "encoder.s2.b1.se.fc2" in inner.producers
    keeps = halves(groups)
    pruned = copy_cut(model, keeps, groups)
    assert check_cut(model, pruned, keeps, ODD, groups) < 1e-9
    assert pruned.get_submodule("encoder.s2.b1.conv2.conv").groups == 4


def test_auxiliary_heads_fit_a_pruned_network() -> None:
    model = shipped("sparse-mobile")
    groups = find_groups(model, SIZE, verify=False)
    for start in (model, copy_cut(model, halves(groups), groups)):
        start.add_auxiliary()
        with torch.no_grad():
            assert start.outputs(torch.rand(1, 3, *SIZE)).auxiliary_m
    # With the heads on, the layers that they read are cut along with them.
    groups = find_groups(model, SIZE, verify=False)
    keeps = halves(groups)
    assert check_cut(model, copy_cut(model, keeps, groups), keeps, SIZE, groups) < 1e-9


@settings(max_examples=25)
@given(st.data())
def test_any_choice_of_units(data: st.DataObject) -> None:
    keeps = {}
    for group in TOY_GROUPS:
        if group.prunable and data.draw(st.booleans()):
            units = st.lists(st.integers(0, group.channels - 1), min_size=1, unique=True)
            keeps[group.name] = data.draw(units)
    pruned = copy_cut(TOY, keeps, TOY_GROUPS)
    assert check_cut(TOY, pruned, keeps, (16, 20), TOY_GROUPS) < 1e-9
    for group in TOY_GROUPS:
        kept = len(keeps.get(group.name, range(group.channels)))
        assert widths(pruned)[group.name] == kept * group.block
    assert cost(pruned, (16, 20)).params == sum(p.numel() for p in pruned.parameters())


@pytest.mark.parametrize("family", ["mobiledepth", "light-shuffle", "densedepth"])
def test_random_keeps_of_shuffles_and_concatenations(family: str) -> None:
    model = shipped(family)
    groups = find_groups(model, SIZE, verify=False)
    drawn = random.Random(0)
    for _ in range(3):
        keeps = {
            group.name: drawn.sample(range(group.channels), drawn.randint(1, group.channels))
            for group in groups
            if group.prunable and drawn.random() < 0.5
        }
        assert check_cut(model, copy_cut(model, keeps, groups), keeps, ODD, groups) < 1e-9


def test_one_group_after_another_in_place() -> None:
    model = copy.deepcopy(TOY)
    for name in [group.name for group in TOY_GROUPS if group.prunable]:
        group = next(g for g in find_groups(model, (16, 20), verify=False) if g.name == name)
        before = copy.deepcopy(model)
        keep = range(group.channels - 1)
        cut(model, group, keep)
        assert check_cut(before, model, {name: keep}, (16, 20)) < 1e-9
    assert widths(model)["left"] == 7


def test_what_a_cut_keeps_of_modules() -> None:
    model = copy.deepcopy(TOY)
    model.left.weight.requires_grad_(False)
    keeps = halves(TOY_GROUPS)
    cut_groups(model, keeps, TOY_GROUPS)
    assert not model.left.weight.requires_grad and model.right.weight.requires_grad
    assert isinstance(model.left.weight, torch.nn.Parameter)
    assert (model.grouped.in_channels, model.grouped.out_channels, model.grouped.groups) == (
        8,
        16,
        2,
    )
    assert (model.depthwise.groups, model.norm.num_features) == (8, 4)
    assert (model.squeeze.in_features, model.squeeze.out_features) == (16, 3)
    assert model.prelu.num_parameters == 16 and tuple(model.scale.shape) == (4, 1, 1)
    assert (model.turned.in_channels, model.turned.out_channels) == (4, 3)
    model(torch.rand(2, 3, 16, 20)).sum().backward()  # and it trains on


def test_a_wrong_cut_is_found() -> None:
    groups = {group.name: group for group in TOY_GROUPS}
    pruned = copy_cut(TOY, {"stem": [0, 1, 2]}, TOY_GROUPS)
    with pytest.raises(CompressError, match=r"differs from the masked original by .* 1e-05"):
        check_cut(TOY, pruned, {"stem": [0, 1, 3]}, (16, 20), TOY_GROUPS)
    # Two layers that are added, each with channels of its own: the count is right, the order not.
    swapped = copy.deepcopy(pruned)
    with torch.no_grad():
        swapped.right.weight.copy_(pruned.right.weight.flip(0))
    with pytest.raises(CompressError, match="differs from the masked original"):
        check_cut(TOY, swapped, {"stem": [0, 1, 2]}, (16, 20), TOY_GROUPS)
    broken = copy.deepcopy(pruned)
    cut(broken, groups["squeeze"], [0])
    broken.excite = copy.deepcopy(TOY.excite)
    with pytest.raises(CompressError, match="does not run at 16x20"):
        check_cut(TOY, broken, {"stem": [0, 1, 2]}, (16, 20), TOY_GROUPS)


@pytest.mark.parametrize("keep", [[], [8], [-1], [0, 0]])
def test_wrong_choices(keep: list[int]) -> None:
    with pytest.raises(CompressError, match="different units of 0 to 7"):
        copy_cut(TOY, {"stem": keep}, TOY_GROUPS)


def test_closed_unknown_and_stale_groups() -> None:
    with pytest.raises(CompressError, match="head cannot be cut: the network's output"):
        copy_cut(TOY, {"head": [0]}, TOY_GROUPS)
    with pytest.raises(CompressError, match="unknown group 'stam'; did you mean stem"):
        copy_cut(TOY, {"stam": [0]}, TOY_GROUPS)
    model = copy_cut(TOY, {"stem": [0]}, TOY_GROUPS)
    with pytest.raises(CompressError, match="call find_groups again"):
        copy_cut(model, {"stem": [0]}, TOY_GROUPS)


def test_masked_silences_what_activations_make_of_zero() -> None:
    # sigmoid(0) is a half, and a norm shifts: silent is what is read, not what is made.
    keeps = {"left": [1, 2, 5]}
    quiet = masked(TOY, keeps, TOY_GROUPS)
    assert float(quiet.mix.weight.detach()[:, [0, 3, 4, 6, 7]].abs().max()) == 0
    assert torch.equal(quiet.left.weight, TOY.left.weight)
    assert float(TOY.mix.weight.detach()[:, 0].abs().max()) > 0
