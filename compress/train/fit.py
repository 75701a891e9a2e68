"""Training one network, in steps that can stop and go on."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress._files import whole
from compress.data import Arrays
from compress.errors import CompressError
from compress.models import DepthNet, normalised
from compress.train.course import Course, Stage
from compress.train.device import autocast, default_device
from compress.train.objective import Batch, Facts, Objective
from compress.train.optimise import make_optimiser, make_schedule
from compress.train.recipe import Recipe
from compress.train.teacher import Critic, Teacher


class DivergedError(CompressError):
    """The loss became NaN or infinite; this network's training cannot go on."""


class StoppedError(Exception):
    """A ``should_stop`` callback ended training early; the state at the last epoch stands."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch reports: its number from 1, mean loss, seconds, images per second.

    ``terms`` are the means of the loss's terms, unweighted, where there are several.
    """

    number: int
    of: int
    loss: float
    seconds: float
    images_per_s: float
    terms: dict[str, float] = field(default_factory=dict)


class Trainer:
    """Trains one network by a recipe, epoch by epoch.

    ``averaged`` is the network to evaluate and save: the exponential moving average of the
    weights. ``save_state`` and ``load_state`` carry everything, so that a run stopped between two
    epochs and continued ends with the weights of an uninterrupted one.

    Args:
        model: the network; intermediate heads that its genotype asks for are added to it.
        data: images at the network's size, and their truth.
        recipe: how to train.
        cap_m: metres beyond which depth is not used.
        device: where; CUDA where there is one, otherwise the CPU.
        relative: whether the data's depth has no unit.
        teacher: a network to learn from beside the truth.
        penalty: asked after each forward pass for what else to add to the loss.
        only: the parts to train; all else stays as it is, statistics of norms too.
        stages: what earlier epochs train on in place of ``data``, in order; the schedule runs over
            the steps of all of them.
        shares: of the learning rate, for parameters that are to learn more slowly.
    """

    def __init__(
        self,
        model: DepthNet,
        data: Arrays,
        recipe: Recipe,
        cap_m: float,
        device: torch.device | None = None,
        *,
        relative: bool = False,
        teacher: Teacher | None = None,
        penalty: Callable[[], Tensor] | None = None,
        only: Collection[nn.Module] | None = None,
        stages: Sequence[Stage] = (),
        shares: Mapping[nn.Parameter, float] | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = device or default_device()
        self.epoch = 0
        self.step = 0
        joint = bool(model.classes)
        if joint and data.labels is None:
            raise CompressError(
                "a network with a segmentation head needs class maps to train on; give data that "
                "has them (scenes, or folder: with a third column) or a network without the head"
            )
        pairs = data.pairs is not None
        facts = Facts(not pairs, relative and not pairs, pairs, data.labels is not None)
        self.objective = Objective(recipe, cap_m, facts, joint=joint, taught=teacher is not None)
        if recipe.auxiliary > 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                model.add_auxiliary()
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).eval()
        self._teacher, self._penalty, self._only = teacher, penalty, only
        self._critic = (
            Critic(self.device, recipe.seed) if "adversarial" in self.objective.weights else None
        )
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._course = Course(data, stages, recipe.epochs, recipe.batch, self.device)
        self._optimiser = make_optimiser(self.model, recipe, shares)
        self._schedule = make_schedule(self._optimiser, recipe, self._course.ends)

    def run(
        self,
        until: int | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Train up to and including epoch ``until`` (default: all of the recipe's).

        Raises:
            DivergedError: the loss is no longer finite.
            StoppedError: ``should_stop`` said so; asked before each step.
        """
        until = min(until or self.recipe.epochs, self.recipe.epochs)
        while self.epoch < until:
            start = time.perf_counter()
            total = torch.zeros((), device=self.device)
            sums: dict[str, Tensor] = {}
            images = 0
            self._set_modes()
            feed = self._course.feed(self.epoch)
            for batch in feed.epoch(self._generator):
                if should_stop and should_stop():
                    raise StoppedError
                loss, terms = self._train_step(batch, feed.steps)
                total += loss
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0) + term
                images += len(batch.image)
            # One look an epoch: reading every step's loss would stall a GPU. A NaN stays one.
            mean = float(total) / feed.steps
            if mean != mean or mean in (float("inf"), float("-inf")):
                raise DivergedError(
                    f"training diverged in epoch {self.epoch + 1} (loss {mean}); "
                    "lower the learning rate"
                )
            self.epoch += 1
            if on_epoch:
                seconds = time.perf_counter() - start
                means = {name: float(value) / feed.steps for name, value in sums.items()}
                of = self.recipe.epochs
                on_epoch(
                    Epoch(
                        self.epoch, of, mean, seconds, images / seconds,
                        means if len(means) > 1 else {},
                    )
                )  # fmt: skip

    def _set_modes(self) -> None:
        """Put the network in training mode, but for an encoder that is still to be left alone."""
        if self._only is not None:
            self.model.eval().requires_grad_(False)
            for part in self._only:
                part.train().requires_grad_(True)
            return
        self.model.train()
        encoder = self.model.pretrained
        if encoder is not None and self.recipe.encoder_frozen:
            frozen = self.epoch < self.recipe.encoder_frozen
            encoder.train(not frozen).requires_grad_(not frozen)

    def _train_step(self, batch: Batch, steps: int) -> tuple[Tensor, dict[str, Tensor]]:
        recipe, objective = self.recipe, self.objective
        batch = self._viewed(batch)
        with autocast(self.device, recipe.precision):
            out = self.model.outputs(batch.image)
            taught = self._teacher(batch.image) if self._teacher else None
        terms = objective(out, batch, self._generator, taught)
        if self._critic:
            terms["adversarial"] = self._critic.judge(batch.image, out.depth_m)
        loss = objective.total(terms)
        if self._penalty:
            loss = loss + self._penalty()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self._optimiser.step()
        if self._critic and taught:
            self._critic.learn(batch.image, out.depth_m, taught.depth_m)
        if self.step + 1 < self._course.ends[-1]:
            self._schedule.step()
        self.step += 1
        self._average()
        terms = {name: term.detach() for name, term in terms.items()}
        if objective.rebalancer:
            objective.rebalancer.record({name: float(term) for name, term in terms.items()})
            every = max(1, steps // recipe.rebalances)
            if self.step % every == 0:
                objective.rebalancer.update(self._course.passed(self.step))
        return loss.detach(), terms

    def _viewed(self, batch: Batch) -> Batch:
        """Random views of a batch's images and of all that is known of them."""
        view = self.recipe.augment.view(
            normalised(batch.image), batch.depth_m, self._generator, batch.labels, batch.pairs
        )
        image = view.image.contiguous(memory_format=torch.channels_last)
        return Batch(image, view.depth_m, view.labels, view.pairs)

    @torch.no_grad()
    def _average(self) -> None:
        # Early steps count for more, or the first epochs would show the random initial weights.
        weight = 1 - min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self._state(self.averaged), self._state(self.model), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, weight)
            else:
                mean.copy_(now)

    @staticmethod
    def _state(model: DepthNet) -> list[Tensor]:
        return [*model.parameters(), *model.buffers()]

    def states(self) -> list[dict[str, Tensor]]:
        """All tensors shaped like parameters, by their names: for who permutes channels.

        Parameters, their averages, and the optimiser's moments.
        """
        own = dict(self.model.named_parameters())
        found = [own, dict(self.averaged.named_parameters())]
        moments: dict[str, dict[str, Tensor]] = {}
        for name, parameter in own.items():
            for kind, tensor in self._optimiser.state.get(parameter, {}).items():
                if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                    moments.setdefault(kind, {})[name] = tensor
        return found + list(moments.values())

    def save_state(self, path: Path) -> None:
        """Write everything needed to go on, complete or not at all."""
        rebalancer = self.objective.rebalancer
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "recipe": self.recipe.to_dict(),
            "stages": self._course.described(),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self._generator.get_state(),
            "rebalancer": rebalancer.state_dict() if rebalancer else None,
            "critic": self._critic.state_dict() if self._critic else None,
        }
        with whole(path) as temporary:
            torch.save(state, temporary)

    def load_state(self, path: Path) -> bool:
        """Go on from ``save_state``'s file; False where it is missing, broken or of another run."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            if Recipe.from_dict(state["recipe"]) != self.recipe:
                return False
            if state.get("stages", []) != self._course.described():
                return False
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
        except FileNotFoundError:
            return False
        except Exception:  # a torn or foreign file: training starts anew, which loses only time
            return False
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["generator"].cpu())
        if self.objective.rebalancer:
            self.objective.rebalancer.load_state_dict(state["rebalancer"])
        if self._critic:
            self._critic.load_state_dict(state["critic"])
        self.epoch, self.step = state["epoch"], state["step"]
        return True


def centre(model: DepthNet, data: Arrays, cap_m: float) -> None:
    """Start an untrained network from the mean log depth of (some of) its training data."""
    if data.pairs is not None:
        return  # pairs of points say nothing of scale
    some = torch.from_numpy(data.depth_m[:: max(1, len(data) // 64)].copy())
    valid = some[(some > 0) & (some < cap_m)]
    if not len(valid):
        raise CompressError(
            f"no training image has a depth between 0 and the cap of {cap_m:g} m; "
            "check the unit (--depth-scale) and the cap (--cap)"
        )
    model.centre_on(float(valid.log().mean()))
