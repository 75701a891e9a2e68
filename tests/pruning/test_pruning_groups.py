from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import EACH_FAMILY, Awkward, Toy, shipped, stirred

from compress.errors import CompressError
from compress.pruning import Group, find_groups
from compress.pruning.groups import LAYERS, results
from compress.pruning.opinion import second_opinion

SIZE = (16, 20)
# Where Torch-Pruning takes shuffles for elementwise operators.
SHUFFLED = {"light-shuffle", "mobiledepth"}


def named(groups: list[Group]) -> dict[str, Group]:
    return {group.name: group for group in groups}


class Wired(nn.Module):
    """A function over named convolutions."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, image: Tensor) -> Tensor:
        return self.run(self, image)


@EACH_FAMILY
def test_every_layer_of_a_shipped_network_is_in_one_group(family: str) -> None:
    model = shipped(family)
    groups = find_groups(model, (32, 48))
    makers = [layer for group in groups for layer in group.producers]
    assert len(makers) == len(set(makers))
    follows = {m.module for g in groups for m in g.members if m.role == "along"}
    layers = {path for path, module in model.named_modules() if isinstance(module, LAYERS)}
    assert layers <= set(makers) | follows
    assert len(groups) > 10
    # Nothing but the heads is closed.
    assert {g.why_not for g in groups if not g.prunable} == {"the network's output"}
    for group in groups:
        assert group.prunable == (not group.why_not)
        assert sorted(set(group.members[0].units)) == list(range(group.channels))
        for member in group.members:
            tensor = model.get_parameter(member.tensor) if "running" not in member.tensor else None
            assert tensor is None or tensor.shape[member.axis] == len(member.units)


@EACH_FAMILY
def test_groups_are_stable_and_leave_the_network_alone(family: str) -> None:
    model = shipped(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert find_groups(model, (32, 48)) == find_groups(model, (64, 64), verify=False)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@EACH_FAMILY
def test_noise_in_dropped_channels_reaches_nothing(family: str) -> None:
    """By hooks alone, without the code under test: what a unit's members say is all it touches.

    The dropped channels are noise where they are made and zero where they are read; the network
    must say the same whatever the noise. Where they are not zeroed, it must not.
    """
    model = shipped(family).double()
    groups = [group for group in find_groups(model, (32, 48), verify=False) if group.prunable]
    image = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    drawn = torch.Generator().manual_seed(0)
    for group in groups[:: max(1, len(groups) // 5)]:
        drop = set(range(0, group.channels, 2))
        quiet = run_with(model, group, drop, image, None, True)
        loud = run_with(model, group, drop, image, drawn, True)
        assert all(torch.equal(a, b) for a, b in zip(quiet, loud, strict=True)), group.name
        open_ = run_with(model, group, drop, image, drawn, False)
        assert not all(torch.equal(a, b) for a, b in zip(quiet, open_, strict=True)), group.name


def run_with(
    model: nn.Module,
    group: Group,
    drop: set[int],
    image: Tensor,
    drawn: torch.Generator | None,
    silence: bool,
) -> list[Tensor]:
    """Outputs, and what the layers make that read the group, under hooks."""
    handles = []
    read: list[Tensor] = []
    for member in group.members:
        places = [i for i, unit in enumerate(member.units) if unit in drop]
        module = model.get_submodule(member.module)
        axis = -1 if isinstance(module, nn.Linear) else 1
        index = torch.tensor(places)
        if member.role == "out" and drawn is not None:

            def add_noise(_: nn.Module, __: object, out: Tensor, index=index, axis=axis) -> Tensor:
                noise = torch.randn(out.shape, generator=drawn, dtype=out.dtype)
                return out.index_copy(axis, index, noise.index_select(axis, index))

            handles.append(module.register_forward_hook(add_noise))
        elif member.role == "in":

            def zero(_: nn.Module, inputs: tuple[Tensor], index=index, axis=axis) -> Tensor:
                return inputs[0].index_fill(axis, index, 0) if silence else inputs[0]

            def keep(_: nn.Module, __: object, out: Tensor) -> None:
                read.append(out.clone())

            handles.append(module.register_forward_pre_hook(zero))
            if member.module not in group.producers:
                handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        made = results(model, image)
    for handle in handles:
        handle.remove()
    return made + read


@EACH_FAMILY
def test_torch_pruning_agrees_where_it_can_follow(family: str) -> None:
    model = shipped(family)
    groups = find_groups(model, (32, 48), verify=False)
    differ = second_opinion(model, groups, (32, 48), units=(0, 1))
    assert (differ == {}) == (family not in SHUFFLED), differ


def test_ties_of_a_toy() -> None:
    groups = named(find_groups(stirred(Toy()), SIZE))
    assert groups["left"].producers == ("left", "right")  # added
    assert groups["stem"].channels == 8
    roles = {member.tensor: member.role for member in groups["left"].members}
    assert roles["scale"] == "free"
    assert roles["depthwise.weight"] == "along"  # after a concatenation of it with itself pooled
    mix = groups["mix"]  # read by a convolution in three groups, which squeeze and excite follow
    assert (mix.channels, mix.block, mix.producers) == (3, 4, ("mix", "excite"))
    assert (groups["up"].channels, groups["up"].block) == (2, 8)  # four a pixel, two halves
    assert groups["one"].producers == ("one", "other")  # the same of both, for a shuffle
    assert groups["turned"].channels == 6
    assert [name for name, group in groups.items() if not group.prunable] == ["head"]


def test_what_cannot_be_cut_is_named() -> None:
    model = Awkward()
    why = {g.name: g.why_not for g in find_groups(model, SIZE) if not g.prunable}
    assert "weight that is computed in weighted" in why["free"]
    assert "counts channels by itself" in why["counted"]
    assert "native_group_norm" in why["normed"] and "group_norm" in why["normed"]
    assert why["averaged"].startswith("mean mixes channels")
    assert "bmm" in why["attended"]
    assert why["added"] == "tied to the network's input"
    assert "constants" in why["constant"]
    assert why["unused"] == "never runs on an image of 16x20"
    assert why["weighted"] == "its weight is computed, not stored"
    assert why["head"] == "the network's output"
    assert {g.name for g in find_groups(model, SIZE) if g.prunable} == {"after"}


def test_unknown_operators_are_named() -> None:
    model = Wired(
        lambda m, x: m.b(torch.fft.rfft2(m.a(x)).real), a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1)
    )
    groups = named(find_groups(model, SIZE))
    assert not groups["a"].prunable and "fft" in groups["a"].why_not


@pytest.mark.parametrize(
    ("run", "units"),
    [
        (lambda m, x: m.b(torch.cat(m.a(x).split(4, 1)[::-1], 1)), None),
        (lambda m, x: m.b(torch.cat(m.a(x).chunk(2, 1)[::-1], 1)), 4),
        (lambda m, x: m.b(torch.cat((m.a(x)[:, ::2], m.a(x)[:, 1::2]), 1)), 4),
        (lambda m, x: m.b(F.channel_shuffle(m.a(x), 2)), 4),
        (lambda m, x: m.b(m.a(x).flip(1)), 8),
        (lambda m, x: m.b(m.a(x).permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2)), 8),
        (lambda m, x: m.b(m.a(m.a(x)[:, :3])), None),
        (lambda m, x: m.b(m.a(x) * m.a(x).mean((2, 3), keepdim=True)), 8),
        (lambda m, x: m.b(m.a(x) * m.a(x).amax(1, keepdim=True)), None),
        (lambda m, x: m.b(m.a(x).softmax(1)), None),
        (lambda m, x: m.b(m.a(x).unflatten(1, (-1, 2)).flatten(1, 2)), 4),
        (lambda m, x: m.b(m.a(x)) + m.a(x)[:, :1] * 0, None),
        (lambda m, x: m.b(F.pad(m.a(x), (1, 1, 1, 1), mode="reflect")), 8),
        (lambda m, x: m.b(F.pad(m.a(x), (0, 0, 0, 0, 1, 1))[:, 1:-1]), None),
        (lambda m, x: m.b(m.a(x).add_(1).clamp_(0, 3).mul_(m.a(x).tanh_())), 8),
    ],
)
def test_operators(run: Callable[[nn.Module, Tensor], Tensor], units: int | None) -> None:
    model = Wired(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    group = named(find_groups(model, SIZE))["a"]
    assert (group.channels if group.prunable else None) == units, group.why_not


def test_one_module_that_runs_twice_ties_what_it_reads() -> None:
    model = Wired(
        lambda m, x: m.c(m.a(x)) + m.c(m.b(x)),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(3, 6, 1),
        c=nn.Conv2d(6, 2, 1),
    )
    assert named(find_groups(model, SIZE))["a"].producers == ("a", "b")


def test_shared_weights_stay() -> None:
    first, second = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1)
    second.weight = first.weight
    model = Wired(lambda m, x: m.c(m.a(x) + m.b(x)), a=first, b=second, c=nn.Conv2d(6, 2, 1))
    group = named(find_groups(model, SIZE))["a"]
    assert not group.prunable and "same tensor" in group.why_not


def test_what_cannot_run_says_where() -> None:
    model = Wired(lambda m, x: m.b(m.a(x)), a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(5, 2, 1))
    with pytest.raises(CompressError, match="cannot be traced at 16x20 in module 'b'"):
        find_groups(model, SIZE)
    with pytest.raises(CompressError, match="give size="):
        find_groups(model)
