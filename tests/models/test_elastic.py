"""Slices of one network are networks of their own, channel for channel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.models import build
from compress.models.elastic import Supernet, inherit, shareable, wiring
from compress.space import Genotype, load_space

SPACE = shareable(load_space("depthnet-nano"))
SMALL = load_space("depthnet-nano-bench")


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    return Supernet(SMALL, SMALL.largest)


@pytest.fixture(scope="module")
def whole_space():
    torch.manual_seed(0)
    return Supernet(SPACE, SPACE.sample(0))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_wiring_names_every_weight_of_a_network_once(seed):
    genotype = SPACE.sample(seed)
    with torch.device("meta"):
        network = build(genotype)
    wired = wiring(genotype.spec)
    shapes = {}
    for layer in wired.layers:
        rows = wired.widths[layer.out] if layer.out else 1
        shapes[f"{layer.path}.weight"] = rows
        if layer.norm or layer.role == "head":
            shapes[f"{layer.path}.bias"] = rows
        if layer.ins:
            read = sum(wired.widths[group] for group in layer.ins)
            assert network.get_parameter(f"{layer.path}.weight").shape[1] == read
    assert shapes == {name: p.shape[0] for name, p in network.named_parameters()}


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_a_slice_computes_what_the_network_cut_out_computes(whole_space, seed):
    genotype = SPACE.sample(seed)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    cut = whole_space.cut(genotype).train()
    with torch.no_grad():
        assert torch.equal(whole_space.run(genotype, image), cut(image))


def test_a_slice_gives_gradients_to_its_own_channels_alone(supernet):
    genotype = SMALL.smallest
    supernet.zero_grad()
    supernet.run(genotype, torch.randn(2, 3, 32, 32)).log().mean().backward()
    stem = supernet.shared["stem|weight"].grad
    width = genotype.spec["stem"]
    assert stem[:width].abs().sum() > 0
    assert stem[width:].abs().sum() == 0
    assert supernet.shared["stage3/8/project|weight"].grad is None  # a module it does not have


def test_sorting_channels_changes_nothing_for_the_candidate_they_were_sorted_for(supernet):
    genotype, image = SMALL.largest, torch.randn(2, 3, 48, 64)
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    with torch.no_grad():
        said = supernet.run(genotype, image).log()
        orders = supernet.orders([genotype])
        supernet.reorder(orders, [dict(supernet.named_parameters())])
        assert torch.allclose(supernet.run(genotype, image).log(), said, atol=1e-3)
    moved = sum(not torch.equal(before[n], p) for n, p in supernet.named_parameters())
    assert moved > 20
    # The stem's first channels are now those that are read with the most weight.
    reads = {
        "stage1/1/project": 0, "stage1/2/project": 0, "stage1/3/project": 0, "transition1": 0,
        "up3/a/expand": 24, "up4/a/expand": 12,
    }  # fmt: skip
    total = sum(
        supernet.shared[f"{role}|weight"][:, start : start + 24].abs().sum((0, 2, 3))
        for role, start in reads.items()
    )
    total = total * supernet.shared["stem-norm|weight"].abs()
    assert (total.diff() <= 1e-4).all()


def test_channels_that_were_never_trained_stay_behind(supernet):
    trained = SMALL.smallest
    orders = supernet.orders([trained])
    width = trained.spec["stem"]
    assert sorted(orders["stem"][:width].tolist()) == list(range(width))
    assert orders["stem"][width:].tolist() == list(range(width, 24))


def test_a_network_inherits_all_of_its_twin(supernet):
    genotype = SMALL.sample(3)
    parent = supernet.cut(genotype)
    child = build(genotype, seed=5)
    assert inherit(child, parent) == 1.0
    image = torch.randn(1, 3, 48, 64)
    assert torch.equal(child.eval()(image), parent.eval()(image))


def test_what_is_inherited_is_what_both_have():
    parent, child = build(SMALL.smallest, seed=1), build(SMALL.largest, seed=2)
    fresh = {name: p.detach().clone() for name, p in child.named_parameters()}
    share = inherit(child, parent)
    assert 0 < share < 1
    stem, given = child.stem[0].weight, parent.stem[0].weight
    assert torch.equal(stem[: len(given)], given)
    assert torch.equal(stem[len(given) :], fresh["stem.0.weight"][len(given) :])
    # What the third stage's transition reads of the stage's input and of its first module is taken
    # over where both have it; of modules that the parent lacks it keeps its own.
    own, theirs = child.transitions[2][0].weight, parent.transitions[2][0].weight
    assert torch.equal(own[:, :44], theirs[:, :44])
    assert torch.equal(own[:, 44:], fresh["transitions.2.0.weight"][:, 44:])


def test_other_families_say_so():
    with pytest.raises(CompressError, match=r"fastdepth.*depthnet-nano"):
        shareable(load_space("fastdepth"))
    network = build(load_space("fastdepth").sample(0))
    with pytest.raises(CompressError, match="depthnet-nano only"):
        inherit(network, network)


def test_of_norms_one_kind_is_shared():
    assert SPACE.choices["norm"] == ("all",)
    fixed = load_space("depthnet-nano").restricted({"norm": "projection"})
    assert shareable(fixed).choices["norm"] == ("projection",)
    genotype = fixed.sample(1)
    assert isinstance(genotype, Genotype)
    net = Supernet(fixed, genotype)
    assert torch.isfinite(net.run(genotype, torch.randn(2, 3, 32, 32))).all()
