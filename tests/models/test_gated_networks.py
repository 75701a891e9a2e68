"""Networks with gates: exact where they start, within their promise, one file like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from members import EACH_SPACE, SMALLEST, ready
from torch import Tensor, nn

from compress.cost import cost
from compress.errors import CompressError
from compress.export import export_onnx
from compress.gating.macs import gated_macs
from compress.gating.sites import find_sites, sites
from compress.models import DepthNet, build, files, load, save
from compress.models.blocks.gates import FollowingConv, GatedConv
from compress.models.gates import (
    Site,
    attach,
    describe,
    gates_of,
    restore,
    set_density,
    sites_of,
    without_gates,
)
from compress.models.shapes import pruned_shapes, widths_of
from compress.pruning import copy_cut, find_groups
from compress.space import Genotype

SIZE = (32, 48)


def roughened(model: DepthNet) -> DepthNet:
    """Every batch norm with scales of both signs, among them none and a very small one."""
    generator = torch.Generator().manual_seed(3)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.num_features, generator=generator))
                part.weight[:2] = torch.tensor([0.0, 1e-7])[: part.num_features]
                part.bias.copy_(0.3 * torch.randn(part.num_features, generator=generator))
    return model


@cache
def _found(genotype: Genotype) -> list[Site]:
    return sites(find_sites(ready(genotype), SIZE))


def gated(genotype: Genotype, density: float = 1.0, **options: Any) -> DepthNet:
    model = roughened(ready(genotype))
    attach(model, _found(genotype), density=density, **options)
    return model


def nano(density: float = 0.5, **options: Any) -> DepthNet:
    return gated(SMALLEST["depthnet-nano-0"], density, **options)


def chosen(model: DepthNet) -> DepthNet:
    """Predictors that choose by the image."""
    generator = torch.Generator().manual_seed(5)
    for gate in gates_of(model).values():
        weight = gate.predictor.weight
        with torch.no_grad():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator) / weight.shape[1])
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@EACH_SPACE
@torch.no_grad()
def test_every_family(genotype: Genotype, images: Tensor, tmp_path: Path) -> None:
    dense, model = roughened(ready(genotype)), gated(genotype)
    wanted = dense(images)
    torch.testing.assert_close(model(images), wanted, rtol=1e-4, atol=1e-4 * float(wanted.max()))
    assert gates_of(model)
    set_density(chosen(model), 0.5)
    again = load(save(model, tmp_path / "m.safetensors"))
    sparse = model(images)
    assert (sparse - wanted).abs().max() > 1e-3
    assert torch.equal(again(images), sparse)
    assert describe(again) == describe(model)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert not any("auxiliary" in name for name in again.state_dict())


@pytest.mark.parametrize("name", ["depthnet-nano-0", "fastdepth-0", "light-shuffle-0"])
@torch.no_grad()
def test_what_is_promised_is_kept(name: str, images: Tensor) -> None:
    """No convolution has more to do than ``gated_macs`` says, by the zeros that it really sees."""
    model = chosen(gated(SMALLEST[name], 0.5))
    seen: dict[str, int] = {}

    def look(path: str) -> Callable[..., None]:
        def hook(conv: nn.Conv2d, given: tuple[Tensor], out: Tensor) -> None:
            alive = int((given[0].abs().amax((2, 3)) > 0).sum())
            taps = out[0, 0].numel() * conv.kernel_size[0] * conv.kernel_size[1]
            own = model.get_submodule(path)
            if isinstance(own, FollowingConv):
                seen[path] = taps * alive
            elif conv.groups == 1:
                made = own.gate.active if isinstance(own, GatedConv) else conv.out_channels
                seen[path] = taps * alive * made

        return hook

    hooks = []
    for path, part in model.named_modules():
        if isinstance(part, nn.Conv2d):
            own = path.removesuffix(".conv")
            known = isinstance(model.get_submodule(own), GatedConv | FollowingConv)
            hooks.append(part.register_forward_hook(look(own if known else path)))
    model(images[:1])
    for hook in hooks:
        hook.remove()
    promised = gated_macs(model, SIZE).layers
    assert len(seen) > len(gates_of(model))
    assert {path: n for path, n in seen.items() if n > promised[path]} == {}


@pytest.mark.parametrize("name", ["depthnet-nano-0", "fastdepth-0"])
def test_as_onnx(name: str, tmp_path: Path) -> None:
    """The export checks itself against torch: where predictions are equal, and masks, too."""
    model = gated(SMALLEST[name], 0.5)
    model = chosen(model) if name == "fastdepth-0" else model
    assert export_onnx(model, tmp_path / "m.onnx", SIZE).max_abs_difference is not None


def test_counted_at_its_worst() -> None:
    """Every channel of every convolution, and the predictors."""
    model = nano(0.5)
    plain = cost(build(model.genotype), SIZE)
    assert cost(model, SIZE).macs == plain.macs + gated_macs(model, SIZE).predictors
    assert gated_macs(model, SIZE).dense == plain.macs


def test_gated_after_pruning(images: Tensor, tmp_path: Path) -> None:
    model = roughened(ready(SMALLEST["depthnet-nano-0"]))
    groups = find_groups(model, SIZE, verify=False)
    keeps = {g.name: range(g.channels - 1) for g in groups if g.prunable and g.channels > 8}
    cut = copy_cut(model, keeps, groups)
    assert isinstance(cut, DepthNet)
    shapes = pruned_shapes(cut)
    assert shapes
    attach(cut, sites(find_sites(cut, SIZE)), density=0.6)
    again = load(save(chosen(cut), tmp_path / "m.safetensors"))
    assert describe(again) == describe(cut)
    assert pruned_shapes(without_gates(again)) == shapes
    with torch.no_grad():
        assert torch.equal(again(images), cut.eval()(images))


def test_a_plain_file_says_nothing_of_gates(tmp_path: Path) -> None:
    model = ready(SMALLEST["depthnet-nano-0"])
    header, _ = files.read(save(model, tmp_path / "m.safetensors"))
    assert "gates" not in header
    assert describe(model) is None and sites_of(model) == []


def test_a_reader_that_knows_no_gates_refuses(tmp_path: Path) -> None:
    header, tensors = files.read(save(nano(), tmp_path / "m.safetensors"))
    del header["gates"], header["sha256"]
    with pytest.raises(CompressError, match="weights do not fit the genotype"):
        load(files.write(tmp_path / "m.safetensors", header, tensors))


def wide(model: DepthNet) -> dict[str, dict[str, int]]:
    return {path: widths_of(part) for path, part in model.named_modules() if widths_of(part)}


def test_without_gates_it_is_as_it_was_built() -> None:
    for name in ("depthnet-nano-0", "mobiledepth-0"):  # the second with activations in its norms
        model = gated(SMALLEST[name], 0.5)
        plain = without_gates(model)
        built = build(model.genotype)
        assert pruned_shapes(plain) == {}
        assert wide(plain) == wide(built)
        assert cost(plain, SIZE).macs == cost(built, SIZE).macs
        tensors = {tensor.data_ptr() for tensor in model.state_dict().values()}
        assert {t.data_ptr() for t in plain.state_dict().values()} <= tensors  # shared
        assert gates_of(model) and not gates_of(plain)


def test_it_trains_and_gamma_is_gone(images: Tensor) -> None:
    model = chosen(nano(0.5)).train()
    model(images).log().mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (
        sum(float(gate.predictor.weight.grad.abs().sum()) for gate in gates_of(model).values()) > 0
    )
    names = {name for name, _ in model.named_parameters()}
    for path, part in model.named_modules():
        if isinstance(part, GatedConv):
            assert f"{path}.norm.weight" not in names


def test_dp_leaves_norms_bare(images: Tensor, tmp_path: Path) -> None:
    model = gated(SMALLEST["resnet-depth-0"], variant="dp")
    norms = [part.norm for part in model.modules() if isinstance(part, GatedConv)]
    assert any(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    assert not any(list(norm.parameters()) for norm in norms)
    again = load(save(model, tmp_path / "m.safetensors"))
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    described = describe(again)
    assert described is not None and described["variant"] == "dp"


def test_the_papers_start() -> None:
    gates = gates_of(nano(1.0, start="paper")).values()
    for gate in gates:
        assert (gate.predictor.bias == 1).all()
    weights = (gate.predictor.weight.detach() for gate in gates)
    drawn = torch.cat([(weight * (weight.shape[1] / 2) ** 0.5).flatten() for weight in weights])
    assert abs(float(drawn.std()) - 1) < 0.1  # He: variance 2 / fan-in


def test_densities_by_name_and_blocks() -> None:
    model = ready(SMALLEST["resnet-depth-0"])
    attach(model, _found(SMALLEST["resnet-depth-0"]), density=0.5, block=8)
    gates = gates_of(model)
    first, second, *_ = gates
    set_density(model, {first: 0.3})
    assert (gates[first].density, gates[second].density) == (0.3, 0.5)
    assert all(gate.active % 8 == 0 for gate in gates.values())
    assert gates[first].active == 24  # 64 channels: 19.2, in whole blocks of 8


def test_followers_mask_only_below_full_density() -> None:
    model = gated(SMALLEST["fastdepth-0"])
    followers = [part for part in model.modules() if isinstance(part, FollowingConv)]
    assert followers and not any(part.masks for part in followers)
    set_density(model, {next(iter(gates_of(model))): 0.9})
    assert all(part.masks for part in followers)
    set_density(model, 1)
    assert not any(part.masks for part in followers)


@pytest.mark.parametrize(
    ("density", "said"),
    [
        (0, "density of .* = 0: give a number above 0 and at most 1"), (1.01, "give a number"),
        (-1, "give a number"), (float("nan"), "give a number"), (True, "give a number"),
        ("0.5", "give a number"), ({"stem": 0.5}, "unknown gate 'stem'; did you mean stem.0"),
        ({"nowhere": 0.5}, "unknown gate"),
    ],
)  # fmt: skip
def test_wrong_densities(density: Any, said: str) -> None:
    model = nano(0.5) if not isinstance(density, dict) or "stem" not in density else stemmed()
    before = describe(model)
    with pytest.raises(CompressError, match=said):
        set_density(model, density)
    assert describe(model) == before


def stemmed() -> DepthNet:
    model = build(SMALLEST["depthnet-nano-0"])
    attach(model, [Site("stem.0")])
    return model


@pytest.mark.parametrize(
    ("wanted", "options", "said"),
    [
        ([], {}, "no convolution to gate was given"),
        ([Site("stem.0", "nowhere")], {}, "'nowhere' is no module"),
        ([Site("stem")], {}, "a Sequential cannot be gated"),
        ([Site("stem.0", "stem.1")], {}, "is no batch norm"),
        ([Site("stem.0"), Site("stem.0")], {}, "stands in two sites"),
        ([Site("stem.0", "stages.0.dense.0.norm")], {}, "has .* channels, its convolution"),
        ([Site("stem.0"), Site("transitions.0.0", follow=True)], {}, "only a depthwise"),
        ([Site("stem.0")], {"block": 5}, "block 5 does not divide its 8 channels"),
        ([Site("stem.0")], {"block": 0}, "give a whole number from 1"),
        ([Site("stem.0")], {"density": 2}, "density = 2: give a number"),
        ([Site("stem.0")], {"variant": "fsb"}, "did you mean fbs"),
        ([Site("stem.0")], {"start": "exactly"}, "did you mean exact"),
    ],
)
def test_wrong_sites_change_nothing(wanted: list[Site], options: dict[str, Any], said: str) -> None:
    model = ready(SMALLEST["depthnet-nano-0"])
    before = {path: type(part) for path, part in model.named_modules()}
    with pytest.raises(CompressError, match=said) as caught:
        attach(model, wanted, **options)
    assert "\n" not in str(caught.value)
    assert {path: type(part) for path, part in model.named_modules()} == before


def test_gates_are_attached_once() -> None:
    with pytest.raises(CompressError, match="has gates already"):
        attach(stemmed(), [Site("stem.0")])
    with pytest.raises(CompressError, match="has no gates to set"):
        set_density(build(SMALLEST["depthnet-nano-0"]), 0.5)


GATES = {
    "variant": "fbs",
    "block": 1,
    "gates": {"stem.0": {"norm": None, "density": 0.5}},
    "follow": {},
}
HOSTILE: list[tuple[Any, str]] = [
    ([], "write a table"),
    ("x", "write a table"),
    ({}, "write a table of block, follow, gates, variant"),
    (GATES | {"more": 1}, "write a table"),
    (GATES | {"gates": []}, "gates is no table"),
    (GATES | {"gates": {}}, "names no convolution"),
    (GATES | {"follow": 3}, "follow is no table"),
    (GATES | {"variant": ["fbs"]}, "unknown variant"),
    (GATES | {"block": 2**70}, "does not divide"),
    (GATES | {"block": True}, "whole number from 1"),
    (GATES | {"block": "1"}, "whole number from 1"),
    (GATES | {"gates": {"stem.0": 3}}, "stem.0: write a table of density, norm"),
    (GATES | {"gates": {"stem.0": {"norm": None}}}, "write a table of density, norm"),
    (GATES | {"gates": {"stem.0": {"norm": 1, "density": 0.5}}}, "norm = 1: give a path, or null"),
    (GATES | {"gates": {"stem.0": {"norm": None, "density": 0}}}, "density = 0: give a number"),
    (GATES | {"gates": {"stem.0": {"norm": None, "density": "1"}}}, "give a number"),
    (GATES | {"gates": {"": {"norm": None, "density": 1}}}, "cannot be gated"),
    (GATES | {"gates": {"__class__": {"norm": None, "density": 1}}}, "no module"),
    (GATES | {"gates": {"stem.0": {"norm": "stem.0", "density": 1}}}, "stands in two sites"),
    (GATES | {"follow": {"stem.0": {"norm": None}}}, "stands in two sites"),
    (GATES | {"follow": {"ups.0.0.reduce": {"norm": None}}}, "only a depthwise"),
    (GATES, "weights do not fit"),
]


@pytest.mark.parametrize(("described", "said"), HOSTILE)
def test_hostile_gates(described: Any, said: str, tmp_path: Path) -> None:
    path = save(nano(), tmp_path / "m.safetensors")
    header, tensors = files.read(path)
    del header["sha256"]
    files.write(path, header | {"gates": json.dumps(described)}, tensors)
    with pytest.raises(CompressError, match=said) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)) and len(message) < 700


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["variant", "block", "gates", "follow", "stem.0", "norm", "density", ""]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(described=st.builds(lambda a, b: GATES | {"gates": a} if b else a, JSON, st.booleans()))
def test_any_gates_are_taken_or_refused(described: Any) -> None:
    with torch.device("meta"):
        conv = nn.Conv2d(3, 8, 1)
        model = nn.ModuleDict({"stem": nn.Sequential(conv, nn.BatchNorm2d(8)), "norm": conv})
    try:
        restore(model, described, "m")
    except CompressError as error:
        assert "\n" not in str(error)
    else:
        assert json.dumps(describe(model))
