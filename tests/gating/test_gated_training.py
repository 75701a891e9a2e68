"""Training gates: what each phase touches, the loss it adds, and that it pays."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.data import open_data
from compress.errors import CompressError
from compress.gating.sites import find_sites, sites
from compress.gating.train import (
    LOWER,
    Penalty,
    Phases,
    Progress,
    Step,
    schedule,
    train_gates,
)
from compress.models import DepthNet, build, normalised
from compress.models.blocks.gates import GatedConv, saliency
from compress.models.gates import Site, attach, gates_of
from compress.pruning.task import DepthTask
from compress.space import load_space
from compress.train import Recipe, StoppedError, Trainer
from compress.train.fit import centre
from compress.train.norms import recalibrate
from compress.train.teacher import Teacher

SIZE = (32, 48)


@pytest.fixture(scope="module")
def task() -> DepthTask:
    scenes = {"train": 48, "heldout": 8, "size": SIZE}
    data = open_data("scenes:indoor", scenes_options=scenes)
    return DepthTask(data, SIZE, {"batch": 8, "lr": 4e-3}, images=8)


@pytest.fixture(scope="module")
def trained(task: DepthTask, tmp_path_factory: pytest.TempPathFactory) -> DepthNet:
    """A dense network that knows a little."""
    space = tmp_path_factory.mktemp("space") / "tiny.toml"
    space.write_text(TINY)
    model = build(load_space(space).smallest, seed=0)
    model.size = SIZE
    centre(model, task.arrays, task.dataset.cap_m)
    recipe = Recipe.for_data(
        task.dataset, {"epochs": 20, "batch": 8, "lr": 1.5e-2, "auxiliary": 0.0}
    )
    trainer = Trainer(model, task.arrays, recipe, task.dataset.cap_m)
    trainer.run()
    return trainer.averaged


TINY = """
name = "tiny"
family = "depthnet-nano"
size = [32, 48]

[choices]
stem = [8]
stages = [2]
neck = [16]
norm = ["all"]
stage1 = { modules = [1], width_first = [8], width_last = [8], projection = [1.0], expansion = [2.0], transition = [16] }
stage2 = { modules = [1], width_first = [8], width_last = [8], projection = [1.0], expansion = [2.0], transition = [16] }
stage3 = { modules = [1], width_first = [8], width_last = [8], projection = [1.0], expansion = [2.0], transition = [16] }
stage4 = { modules = [1], width_first = [8], width_last = [8], projection = [1.0], expansion = [2.0], transition = [16] }
decoder = { expansion = [1.0] }
up1 = { a = [8], b = [8] }
up2 = { a = [8], b = [8] }
up3 = { a = [8], b = [8] }
up4 = { a = [8], b = [8] }
"""  # noqa: E501


_SITES: list[Site] = []  # of the one network there is here


def gated(model: DepthNet, density: float = 1.0) -> DepthNet:
    model = copy.deepcopy(model)
    if not _SITES:
        _SITES.extend(sites(find_sites(model, SIZE)))
    attach(model, _SITES, density=density)
    return model


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@torch.no_grad()
def error(model: DepthNet, task: DepthTask) -> float:
    """Mean difference of log depth from the truth, over the training images."""
    rgb = torch.from_numpy(task.arrays.rgb.copy()).permute(0, 3, 1, 2)
    truth = torch.from_numpy(task.arrays.depth_m.copy())
    off = model.eval()(normalised(rgb))[:, 0].log() - truth.clamp(min=1e-3).log()
    return float(off[truth > 0].abs().mean())


def test_it_loses_less_than_cutting_at_once(task: DepthTask, trained: DepthNet) -> None:
    at_once = [gated(trained, 0.5) for _ in range(2)]
    recalibrate(at_once[1], task.arrays)
    model, told = gated(trained), []
    steps: list[tuple[int, str, float]] = []
    train_gates(
        model, task, 0.5, phases=Phases(1, 1, 1, 4, step=0.25),
        on_epoch=told.append,
        on_step=lambda _, number, step: steps.append((number, step.phase, step.density)),
    )  # fmt: skip
    dense, now, cut = error(trained, task), error(model, task), [error(m, task) for m in at_once]
    assert now - dense < 0.75 * (min(cut) - dense)
    assert all(gate.density == 0.5 for gate in gates_of(model).values())
    assert steps == [
        (1, "gates", 1.0), (2, "together", 1.0), (3, "lower", 0.75), (4, "lower", 0.5),
        (5, "final", 0.5),
    ]  # fmt: skip
    assert [(one.number, one.epoch.number) for one in told] == [
        (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2), (5, 3), (5, 4)
    ]  # fmt: skip
    assert all(isinstance(one, Progress) and one.of == 5 and one.epoch.loss > 0 for one in told)
    assert told[-1].delta1 == task.score(model)


def test_the_first_phase_trains_gates_alone(task: DepthTask, trained: DepthNet) -> None:
    model = gated(trained)
    before = state(model)
    train_gates(model, task, 1.0, phases=Phases(1, 0, 0, 0))
    moved = changed(before, state(model))
    assert {name for name in before if ".gate." in name} == moved
    assert not model.training and all(p.requires_grad for p in model.parameters())


def test_a_gate_that_reads_much_is_not_moved_further(task: DepthTask, trained: DepthNet) -> None:
    """What a prediction can move: as far as at the whole rate from so many channels."""
    model = gated(trained)
    train_gates(model, task, 1.0, phases=Phases(1, 0, 0, 0), reach=2)
    steps = len(task.arrays) // task.recipe["batch"]
    most = 2 * task.recipe["lr"] * steps
    weights = [gate.predictor.weight.detach() for gate in gates_of(model).values()]
    assert {weight.shape[1] for weight in weights} >= {8, 16}
    assert all(0 < float(weight.abs().sum(1).mean()) <= most for weight in weights)
    freely = gated(trained)
    train_gates(freely, task, 1.0, phases=Phases(1, 0, 0, 0), reach=0)
    moved = [gate.predictor.weight.detach() for gate in gates_of(freely).values()]
    assert any(float(weight.abs().sum(1).mean()) > most for weight in moved)


def test_then_everything_is_trained(task: DepthTask, trained: DepthNet) -> None:
    model = gated(trained)
    before = state(model)
    first, *others = gates_of(model)
    train_gates(model, task, {first: 0.5}, phases=Phases(0, 1, 0, 0))
    assert changed(before, state(model)) >= {name for name, _ in model.named_parameters()}
    # Densities by gate: one that is not named keeps all its channels.
    assert gates_of(model)[first].density == 0.5
    assert {gates_of(model)[path].density for path in others} == {1.0}


def test_it_goes_on_where_it_was_left(task: DepthTask, trained: DepthNet) -> None:
    """From the network of a finished step: the same weights as in one go."""
    phases = Phases(1, 1, 1, 1, step=0.5)
    left: dict[int, DepthNet] = {}
    whole = train_gates(
        gated(trained), task, 0.5, phases=phases,
        on_step=lambda net, number, _: left.update({number: copy.deepcopy(net)}),
    )  # fmt: skip
    assert list(left) == [1, 2, 3, 4]
    assert (
        changed(state(whole), state(train_gates(left[2], task, 0.5, phases=phases, done=2)))
        == set()
    )
    # All done: nothing moves.
    assert (
        changed(state(whole), state(train_gates(left[4], task, 0.5, phases=phases, done=4)))
        == set()
    )


def test_stopping(task: DepthTask, trained: DepthNet) -> None:
    finished: list[int] = []
    with pytest.raises(StoppedError):
        train_gates(
            gated(trained), task, 0.5, phases=Phases(1, 1, 1, 1, step=0.5),
            on_step=lambda _, number, __: finished.append(number),
            should_stop=lambda: bool(finished),
        )  # fmt: skip
    assert finished == [1]


def test_a_teacher_is_learnt_from(task: DepthTask, trained: DepthNet) -> None:
    told: list[Progress] = []
    train_gates(
        gated(trained), task, 0.5, phases=Phases(0, 0, 0, 1), on_epoch=told.append,
        teacher=Teacher(copy.deepcopy(trained)),
    )  # fmt: skip
    assert {"depth", "pixel"} <= set(told[0].epoch.terms)


def test_the_penalty_by_hand(trained: DepthNet) -> None:
    model = gated(trained, 0.5)
    for gate in gates_of(model).values():
        nn.init.normal_(gate.predictor.weight, std=0.05)
    image = torch.rand(3, 3, *SIZE)
    penalty = Penalty(0.25)
    wanted: list[Tensor] = []

    def look(part: nn.Module, given: tuple[Tensor], _: Tensor) -> None:
        linear = part.gate.predictor
        wanted.append((saliency(given[0]) @ linear.weight.T + linear.bias).clamp(min=0))

    parts = [part for part in model.modules() if isinstance(part, GatedConv)]
    hooks = [part.register_forward_hook(look) for part in parts]
    with penalty.watching(model):
        model(image)
        found = penalty()
    for hook in hooks:
        hook.remove()
    total = sum(float(g.detach().sum()) for g in wanted)
    assert float(found.detach()) == pytest.approx(0.25 * total / 3, rel=1e-5)
    found.backward()
    assert all(gate.predictor.bias.grad is not None for gate in gates_of(model).values())
    assert not any(gate.predictor._forward_hooks for gate in gates_of(model).values())


def test_a_heavy_penalty_lowers_what_gates_say(task: DepthTask, trained: DepthNet) -> None:
    model = gated(trained)
    before = [gate.predictor.bias.clone() for gate in gates_of(model).values()]
    train_gates(model, task, 1.0, phases=Phases(1, 0, 0, 0), lam=10.0)
    after = [gate.predictor.bias for gate in gates_of(model).values()]
    assert all((now < was).all() for now, was in zip(after, before, strict=True))


def test_statistics_are_those_of_the_images(task: DepthTask, trained: DepthNet) -> None:
    model = gated(trained, 0.5)
    before = state(model)
    recalibrate(model, task.arrays, most=8, batch=8)
    assert {name.rpartition(".")[2] for name in changed(before, state(model))} == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    assert not model.training and {
        m.momentum for m in model.modules() if hasattr(m, "momentum")
    } == {0.1}
    first = next(part for part in model.modules() if isinstance(part, GatedConv))
    chosen = torch.linspace(0, len(task.arrays) - 1, 8).round().int().tolist()
    rgb = torch.from_numpy(task.arrays.rgb[chosen].copy()).permute(0, 3, 1, 2)
    with torch.no_grad():
        made = first.conv(normalised(rgb))
    norm: Any = first.norm
    torch.testing.assert_close(norm.running_mean, made.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(norm.running_var, made.var((0, 2, 3)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "step", "densities"),
    [
        ({"a": 0.7}, 0.1, [0.9, 0.8, 0.7]),
        ({"a": 0.5, "b": 1.0}, 0.25, [0.875, 0.75]),
        ({"a": 0.5}, 1.0, [0.5]),
        ({"a": 1.0}, 0.1, []),
    ],
)
def test_the_way_down(target: dict[str, float], step: float, densities: list[float]) -> None:
    steps = schedule(target, Phases(step=step))
    down = [one.density for one in steps if one.phase == LOWER]
    assert down == pytest.approx(densities)
    mean = sum(target.values()) / len(target)
    assert steps[-1] == Step("final", 1.0, mean, 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gates": -1}, "gates = -1: give whole epochs"), ({"final": 1.5}, "final = 1.5"),
        ({"gates": 0, "together": 0, "each": 0, "final": 0}, "every phase has 0 epochs"),
        ({"step": 0}, "step of density = 0"),
    ],
)  # fmt: skip
def test_wrong_phases(options: dict[str, Any], said: str) -> None:
    with pytest.raises(CompressError, match=said):
        Phases(**options)


def test_wrong_targets(task: DepthTask, trained: DepthNet) -> None:
    with pytest.raises(CompressError, match="has no gates"):
        train_gates(trained, task, 0.5)
    with pytest.raises(CompressError, match=r"density of .* = 0: give"):
        train_gates(gated(trained), task, 0)
    with pytest.raises(CompressError, match="lam = -1"):
        train_gates(gated(trained), task, 0.5, lam=-1)
    with pytest.raises(CompressError, match="reach = -1: give a number of channels"):
        train_gates(gated(trained), task, 0.5, reach=-1)
    with pytest.raises(CompressError, match="lam = nan"):
        Penalty(float("nan"))
