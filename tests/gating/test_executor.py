"""The executor against the masked network itself, in double precision: choices then never flip."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.errors import CompressError
from compress.gating._graph import folded, read
from compress.gating._plan import Plan
from compress.gating._steps import Conv
from compress.gating.executor import GatedExecutor, dense_executor
from compress.gating.native import native
from compress.models.blocks.gates import ChannelGate, FollowingConv, GatedConv


def norm(channels: int) -> nn.BatchNorm2d:
    """With statistics of its own, and a shift that would wake silent channels."""
    made = nn.BatchNorm2d(channels)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.normal_(made.bias, std=0.5)
    made.running_mean.normal_()
    made.running_var.uniform_(0.5, 2.0)
    return made


def gated(
    cin: int, cout: int, kernel: int = 3, density: float = 0.5, block: int = 1, **conv: int
) -> GatedConv:
    made = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, **conv)
    gate = ChannelGate(cin, cout, density, block)
    nn.init.normal_(gate.predictor.weight, std=0.5)
    return GatedConv(made, norm(cout), gate)


def following(channels: int, stride: int = 1) -> FollowingConv:
    made = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return FollowingConv(made, norm(channels))


def equal(
    model: nn.Module, size: tuple[int, int], choose: str = "gather", count: int = 1
) -> GatedExecutor:
    """Compile, run on images it was not compiled with, and compare with the masked network."""
    model = model.double().eval()
    executor = GatedExecutor(model, size, choose=choose)
    image = torch.randn(count, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        wanted = model(image)
    got = executor(image)
    assert got.shape == wanted.shape
    error = (got - wanted).abs().max() / wanted.abs().max().clamp_min(1)
    assert error < 1e-9
    return executor


class Net(nn.Module):
    """Modules by name, and what happens between them."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.run = nn.ModuleDict(parts), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.parts, x)


class Drawn(nn.Module):
    """A chain of drawn blocks of 8 channels; every block may read what any before it left."""

    def __init__(self, plan: list[tuple[str, int]], density: float, block: int) -> None:
        super().__init__()
        self.plan = plan
        self.stem = gated(3, 8, density=density, block=block)
        self.blocks = nn.ModuleList(self._block(kind, density, block) for kind, _ in plan)
        self.head = nn.Conv2d(8, 1, 1)

    @staticmethod
    def _block(kind: str, density: float, block: int) -> nn.Module:
        if kind == "concat":
            return gated(16, 8, 1, density, block)
        if kind == "depthwise":
            return following(8)
        if kind == "grouped":
            return gated(8, 8, density=density, block=block, groups=2)
        if kind == "squeeze":
            return nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1))
        if kind == "bare":
            return GatedConv(nn.Conv2d(8, 8, 3, padding=1), nn.Identity(), ChannelGate(8, 8))
        return gated(8, 8, 3 if kind == "conv" else 1, density, block)

    def forward(self, x: Tensor) -> Tensor:
        maps = [F.relu(self.stem(x))]
        for (kind, back), block in zip(self.plan, self.blocks, strict=True):
            x, other = maps[-1], maps[-1 - back % len(maps)]
            if kind == "concat":
                x = F.relu6(block(torch.cat((x, other), 1)))
            elif kind == "add":
                x = F.relu(block(x) + other)
            elif kind == "squeeze":
                x = x * F.hardsigmoid(block(x.mean((2, 3), keepdim=True)))
            elif kind == "shuffle":
                x = F.pixel_shuffle(F.interpolate(block(x), scale_factor=0.5).repeat(1, 4, 1, 1), 2)
            elif kind == "pool":
                x = F.interpolate(F.max_pool2d(block(x), 2), x.shape[-2:], mode="bilinear")
            elif kind == "shift":
                x = block(x) + 0.5
            else:
                x = F.hardswish(block(x))
            maps.append(x)
        return self.head(maps[-1])


KINDS = "conv concat add depthwise grouped squeeze shuffle pool shift bare pointwise".split()


@settings(max_examples=14, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=3, max_size=6),
    st.sampled_from([0.25, 0.5, 0.75]),
    st.sampled_from([1, 2]),
    st.sampled_from(["gather", "measure"]),
    st.booleans(),
)
def test_any_network_of_these_blocks_gives_what_the_masked_one_gives(
    plan, density, block, choose, own
):
    torch.manual_seed(len(plan))
    with patch.dict(os.environ, {"COMPRESS_NATIVE": str(int(own))}):
        equal(Drawn(plan, density, block), (8, 12), choose)


def residual(density: float = 0.5) -> nn.Module:
    """Two sums in a row, then a concatenation: sets grow, and one map is read again later."""

    def run(parts, x):
        x = F.relu(parts["stem"](x))
        first = F.relu(parts["a"](x) + x)
        second = F.relu(first + parts["b"](first))
        third = F.relu(parts["c"](second) + second)
        return parts["head"](torch.cat((third, second), 1))

    return Net(
        run, stem=gated(3, 16, density=density), a=gated(16, 16, density=density),
        b=gated(16, 16, 1, density), c=gated(16, 16, 1, density), head=nn.Conv2d(32, 2, 1),
    )  # fmt: skip


def test_both_ways_give_the_same(monkeypatch):
    net = residual().double().eval()
    image = torch.randn(1, 3, 6, 10, dtype=torch.float64)
    results = []
    for wanted in ("1", "0"):
        monkeypatch.setenv("COMPRESS_NATIVE", wanted)
        executor = GatedExecutor(net, (6, 10), choose="gather")
        own = any("native" in layer.mode for layer in executor.plan.layers)
        assert own == (native(torch.float64) is not None)
        results.append(executor(image))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


def test_sums_that_write_into_what_they_read_spoil_nothing():
    equal(residual(), (6, 10), count=3)


def test_what_was_summed_into_is_whole_when_it_is_looked_at_again():
    def run(parts, x):
        x = parts["stem"](x)
        part = x[:, :, 1:5]  # a view: the sum below may not write under it
        return parts["head"](F.relu(parts["a"](x) + x)[:, :, 1:5] + part)

    parts = {"stem": gated(3, 8), "a": gated(8, 8), "head": nn.Conv2d(8, 1, 1)}
    equal(Net(run, **parts), (6, 10))


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_channels_that_a_relu_or_the_gate_silences_stay_silent_behind_a_depthwise_one(density):
    def run(parts, x):
        x = F.relu(parts["stem"](x))
        return parts["head"](F.relu6(parts["down"](x)))

    stem = gated(3, 8, density=density)
    stem.gate.predictor.bias.data[:4] = -50  # scales of zero among the winners
    stem.gate.predictor.bias.data[5] = 5
    stem.norm.weight.data[5], stem.norm.bias.data[5] = 0.0, -1.0  # the ReLU's own doing
    parts = {"stem": stem, "down": following(8, stride=2), "head": nn.Conv2d(8, 1, 1)}
    sets = equal(Net(run, **parts), (6, 10)).channels[0]
    assert sets["parts.stem"][1] <= 4
    assert sets["parts.down"][1] < sets["parts.stem"][1]


def test_a_network_that_suppresses_everything_still_gives_what_its_biases_give():
    def run(parts, x):
        x = F.relu(parts["stem"](x))
        return parts["head"](parts["next"](parts["down"](x)))

    stem = gated(3, 8)
    stem.gate.predictor.bias.data.fill_(-50)
    parts = {
        "stem": stem, "down": following(8), "next": gated(8, 8), "head": nn.Conv2d(8, 1, 1),
    }  # fmt: skip
    equal(Net(run, **parts), (6, 10))


def test_of_equal_scales_the_same_win_as_in_the_network():
    model = residual()
    for gate in model.modules():
        if isinstance(gate, ChannelGate):
            nn.init.zeros_(gate.predictor.weight)
    equal(model, (6, 10))


def test_gates_whose_scales_are_used_elsewhere_too_are_followed():
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate = nn.Conv2d(3, 8, 1), ChannelGate(3, 8, 0.5)

        def forward(self, x: Tensor) -> Tensor:
            g = torch.ops.compress.gate(
                x, self.gate.predictor.weight, self.gate.predictor.bias, 4, 1
            )
            return self.a(x) * g[:, :, None, None] + g.sum() * x.mean(1, keepdim=True)

    equal(Doubled(), (4, 4))


@pytest.mark.parametrize("way", ["one by one", "together"])
def test_a_batch_gives_what_the_network_gives_in_either_way(monkeypatch, way):
    monkeypatch.setattr(GatedExecutor, "_faster", lambda *_: way)
    executor = equal(residual(), (6, 10), count=3)
    assert executor.batches == {3: way}
    assert len(executor.macs) == len(executor.channels) == 3
    assert (executor.macs_run[0] < executor.dense_macs) == (way == "one by one")


@pytest.mark.parametrize(
    ("slow", "taken"), [("_one_by_one", "together"), ("_together", "one by one")]
)
def test_a_batch_runs_in_the_way_that_was_faster(monkeypatch, slow, taken):
    executor = GatedExecutor(residual().eval(), (6, 10))
    way = getattr(executor, slow)

    def slower(images):
        time.sleep(1.0)
        return way(images)

    monkeypatch.setattr(executor, slow, slower)
    executor(torch.randn(4, 3, 6, 10))
    assert executor.batches == {4: taken}


@pytest.mark.parametrize("name", ["mobiledepth@small", "resnet-depth@small"])
def test_families_of_the_project_agree_with_their_masked_networks(name):
    from compress.gating.sites import find_sites, sites
    from compress.models import build
    from compress.models.gates import attach, gates_of
    from compress.space import parse_reference

    size = (32, 64)
    model = build(parse_reference(name), seed=0)
    attach(model, sites(find_sites(model, size)), density=0.5)
    for gate in gates_of(model).values():
        gate.predictor.weight.data.normal_(std=0.2 / gate.predictor.in_features**0.5)
    executor = equal(model, size, "measure")
    assert executor.macs[0] < executor.dense_macs


def test_a_plan_makes_the_same_executor_again():
    model = residual().eval()
    plan = GatedExecutor(model, (6, 10)).plan
    again = GatedExecutor(model, (6, 10), plan=json.loads(json.dumps(plan.to_dict())))
    assert again.plan == plan


def test_modes_say_what_was_measured_and_can_be_asked_for():
    model = residual().eval()
    size = (6, 10)
    measured = GatedExecutor(model, size)
    by_path = {layer.path: layer for layer in measured.plan.layers}
    assert list(by_path) == ["parts.stem", "parts.a", "parts.b", "parts.c", "parts.head"]
    for layer in measured.plan.layers:
        assert layer.ms[layer.mode] == min(layer.ms.values())
    assert {mode.split("/")[0] for mode in by_path["parts.b"].ms} == {"both", "in", "out", "dense"}
    whole = dense_executor(model, size)
    assert {layer.mode.split("/")[0] for layer in whole.plan.layers} == {"dense"}
    gathered = GatedExecutor(model, size, choose="gather")
    assert {layer.mode.split("/")[0] for layer in gathered.plan.layers} == {"out", "both", "in"}


def test_a_plan_of_another_network_or_size_is_refused():
    model = residual().eval()
    plan = GatedExecutor(model, (6, 10), choose="gather").plan
    other = Plan(plan.size, plan.threads, plan.layers[1:])
    with pytest.raises(CompressError, match=r"no mode for parts\.stem"):
        GatedExecutor(model, (6, 10), plan=other)
    with pytest.raises(CompressError, match="no plan of an executor"):
        GatedExecutor(model, (6, 10), plan={"layers": 3})
    with pytest.raises(CompressError, match="way to choose"):
        GatedExecutor(model, (6, 10), choose="fast")


def test_images_of_another_size_are_refused():
    executor = GatedExecutor(residual().eval(), (6, 10), choose="gather")
    with pytest.raises(CompressError, match=r"made for \(N, 3, 6, 10\)"):
        executor(torch.zeros(1, 3, 10, 6))


def test_the_model_is_left_alone():
    model = residual().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    GatedExecutor(model, (6, 10), choose="gather")(torch.zeros(1, 3, 6, 10))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_norms_are_folded_into_the_convolutions_in_front_of_them():
    conv, after = nn.Conv2d(3, 4, 3, bias=True).double(), norm(4).double().eval()
    weight, bias = folded(
        conv.weight, conv.bias, after.weight, after.bias, after.running_mean, after.running_var,
        after.eps,
    )  # fmt: skip
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(F.conv2d(x, weight, bias), after(conv(x)))


def test_no_norm_or_scale_is_left_over_as_a_step_of_its_own():
    graph = read(residual().eval(), torch.zeros(1, 3, 6, 10))
    kinds = [type(step).__name__ for step in graph.steps]
    assert kinds.count("Conv") == 5 and kinds.count("Gate") == 4
    assert kinds.count("Op") == 4  # three sums, one concatenation
    assert [step.relu for step in graph.steps if isinstance(step, Conv)] == [
        True, False, False, False, False,
    ]  # fmt: skip
