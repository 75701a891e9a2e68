"""Training a network with gates: first the gates, then everything, then at ever lower density.

Source: Gao et al., "Dynamic Channel Pruning: Feature Boosting and Suppression", ICLR 2019, for the
loss; the order of phases is that of the dynamically pruned ResNet-50 depth network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.cost import cost
from compress.errors import CompressError
from compress.models import DepthNet
from compress.models.blocks.gates import ChannelGate
from compress.models.gates import checked_density, gates_of, round_predictors, set_density
from compress.pruning.task import DepthTask
from compress.train import Recipe, Trainer
from compress.train.device import threads_for
from compress.train.fit import Epoch
from compress.train.norms import recalibrate
from compress.train.teacher import Teacher

LAM = 1e-8
GATES, TOGETHER, LOWER, FINAL = "gates", "together", "lower", "final"
# Shares of the recipe's rate: a network that was trained once is not to be shaken.
RATES = {GATES: 1.0, TOGETHER: 0.3, LOWER: 0.3, FINAL: 1.0}
BRIEF_EMA = 0.9  # of averaged weights in all but the last phase, which are of few steps
REACH = 0  # all predictors learn at the whole rate


@dataclass(frozen=True)
class Phases:
    """Epochs of each phase.

    ``gates``: the gates alone, at density 1. ``together``: everything, at density 1. ``each``: at
    each density on the way down, which is lowered by at most ``step`` at a time. ``final``: at the
    target. A phase of 0 epochs is left out; the density is set all the same.
    """

    gates: int = 1
    together: int = 1
    each: int = 1
    final: int = 5
    step: float = 0.1

    def __post_init__(self) -> None:
        for name in ("gates", "together", "each", "final"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100_000:
                raise CompressError(f"{name} = {value!r}: give whole epochs from 0 to 100000")
        if not self.gates + self.together + self.each + self.final:
            raise CompressError("every phase has 0 epochs; give one more")
        checked_density(self.step, "step of density")


@dataclass(frozen=True)
class Step:
    """One part of a schedule: ``share`` of the way from density 1 to the target, and epochs.

    ``density`` is the mean over gates.
    """

    phase: str
    share: float
    density: float
    epochs: int


@dataclass(frozen=True)
class Progress:
    """One epoch: its step (``number`` from 1, ``of`` so many), training loss, d1 on few images.

    ``delta1`` is NaN where the averaged network's depth is no number yet.
    """

    step: Step
    number: int
    of: int
    epoch: Epoch
    delta1: float


def schedule(target: Mapping[str, float], phases: Phases) -> tuple[Step, ...]:
    """The steps to a target density, by gate.

    >>> [(s.phase, round(s.density, 2)) for s in schedule({"a": 0.7}, Phases(step=0.2))]
    [('gates', 1.0), ('together', 1.0), ('lower', 0.85), ('lower', 0.7), ('final', 0.7)]
    """
    lowest = min(target.values())
    mean = sum(target.values()) / len(target)
    # 1 - 0.7 is a little above 0.3 in floating point.
    stages = math.ceil(round((1 - lowest) / phases.step, 6))
    shares = [number / stages for number in range(1, stages + 1)]
    return (
        Step(GATES, 0.0, 1.0, phases.gates),
        Step(TOGETHER, 0.0, 1.0, phases.together),
        *(Step(LOWER, share, 1 - share * (1 - mean), phases.each) for share in shares),
        Step(FINAL, 1.0, mean, phases.final),
    )


def train_gates(
    model: DepthNet,
    task: DepthTask,
    density: float | Mapping[str, float],
    *,
    phases: Phases | None = None,
    lam: float = LAM,
    reach: int = REACH,
    teacher: Teacher | None = None,
    done: int = 0,
    on_epoch: Callable[[Progress], None] | None = None,
    on_step: Callable[[DepthNet, int, Step], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DepthNet:
    """Train a network with gates, in place, until it is at the target density.

    Args:
        model: with gates, of any density; trained without them before.
        task: data, recipe of the fine-tuning, and d1 of some validation images.
        density: the target of all gates, or by the path of the convolution (others stay at 1).
        phases: how long each phase is.
        lam: weight in the loss of the gates' predictions, summed over gates and channels, averaged
            over images.
        reach: channels that a gate may read for its predictor to learn at the whole rate; 0: all.
        teacher: a network to learn from beside the truth, such as the one without gates.
        done: steps of the schedule that ``model`` has behind it.
        on_epoch: is told of each epoch; d1 is taken only where it is given.
        on_step: is given the network after each step, how many are done, and the step.
        should_stop: asked before each batch.

    Returns:
        ``model``, evaluating: averaged weights, statistics of norms taken anew.

    Raises:
        DivergedError: the loss is no longer finite.
        StoppedError: ``should_stop`` said so; what the last step left is what ``on_step`` got.
    """
    gates = gates_of(model)
    set_density(model, density)  # says what is wrong with it
    slower = shares_of(gates.values(), reach)
    named = density if isinstance(density, Mapping) else dict.fromkeys(gates, density)
    target = dict.fromkeys(gates, 1.0) | {path: float(value) for path, value in named.items()}
    steps = schedule(target, phases or Phases())
    for number, step in enumerate(steps[done:], start=done + 1):
        set_density(model, {path: 1 - step.share * (1 - to) for path, to in target.items()})

        def told(epoch: Epoch, averaged: DepthNet, step: Step = step, number: int = number) -> None:
            if on_epoch:
                if epoch.number == epoch.of:
                    round_predictors(averaged)
                _settle(averaged, task, step)
                on_epoch(Progress(step, number, len(steps), epoch, _score(task, averaged)))

        if step.epochs:
            _train(model, task, step, number, lam, slower, teacher, told, should_stop)
        if on_step:
            on_step(model, number, step)
    return model.eval()


def _train(
    model: DepthNet,
    task: DepthTask,
    step: Step,
    number: int,
    lam: float,
    slower: Mapping[nn.Parameter, float],
    teacher: Teacher | None,
    told: Callable[[Epoch, DepthNet], None],
    should_stop: Callable[[], bool] | None,
) -> None:
    """One step of the schedule: the model then has the averaged weights."""
    recipe = Recipe.for_data(task.dataset, {**task.recipe, "epochs": step.epochs})
    brief = step.phase != FINAL
    recipe = replace(
        recipe,
        lr=RATES[step.phase] * recipe.lr,
        ema=min(recipe.ema, BRIEF_EMA) if brief else recipe.ema,
        seed=recipe.seed + number,  # other batches than in the step before
    )
    penalty = Penalty(lam)
    gates = list(gates_of(model).values())
    with threads_for(cost(model, task.size).macs):
        trainer = Trainer(
            model, task.arrays, recipe, task.dataset.cap_m, teacher=teacher, penalty=penalty,
            only=gates if step.phase == GATES else None, shares=slower,
        )  # fmt: skip
        with penalty.watching(trainer.model):
            trainer.run(None, lambda epoch: told(epoch, trainer.averaged), should_stop)
        trainer.averaged.drop_auxiliary()
        model.drop_auxiliary()
        model.load_state_dict(trainer.averaged.state_dict())
        model.eval().requires_grad_(True)
        round_predictors(model)
        _settle(model, task, step)


def shares_of(gates: Iterable[ChannelGate], reach: int = REACH) -> dict[nn.Parameter, float]:
    """Shares of the learning rate at which weights of predictors learn: less, the more they read.

    A prediction is a sum over means of magnitudes, none of which is below zero. Adam moves each
    weight by the rate, all in the sum's direction: what 2048 channels are read for moves 30 times
    as far in a step as what 64 are, and a network trained on few images loses what it knew.
    """
    if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
        raise CompressError(f"reach = {reach!r}: give a number of channels from 1, or 0 for all")
    shares: dict[nn.Parameter, float] = {}
    for gate in gates if reach else ():
        weight = gate.predictor.weight
        assert isinstance(weight, nn.Parameter)
        shares[weight] = min(1.0, reach / gate.predictor.in_features)
    return shares


def _score(task: DepthTask, model: DepthNet) -> float:
    """d1; NaN where what is predicted is none, which the next epoch may mend."""
    try:
        return task.score(model)
    except CompressError:
        return math.nan


def _settle(model: DepthNet, task: DepthTask, step: Step) -> None:
    """Take statistics anew, where the step moved them."""
    if step.phase != GATES:
        recalibrate(model, task.arrays, Recipe.for_data(task.dataset, task.recipe).augment)


class Penalty:
    """``lam`` times what gates predict before winners are taken: summed, averaged over images.

    It is collected while ``watching`` and handed out once per forward pass.
    """

    def __init__(self, lam: float = LAM) -> None:
        if not 0 <= lam < math.inf:
            raise CompressError(f"lam = {lam!r}: give a number from 0")
        self.lam = lam
        self._seen: list[Tensor] = []

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Collect from this network's gates while the context lasts."""
        hooks = [
            gate.predictor.register_forward_hook(lambda _, __, out: self._seen.append(out))
            for gate in gates_of(model).values()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._seen.clear()

    def __call__(self) -> Tensor:
        """What was collected since the last call."""
        seen, self._seen = self._seen, []
        total = torch.stack([F.relu(out).float().sum(1).mean() for out in seen]).sum()
        return self.lam * total
