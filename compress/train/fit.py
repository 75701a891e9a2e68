"""Training one network, in steps that can stop and go on."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress._files import whole
from compress.data import Arrays
from compress.errors import CompressError
from compress.losses import make_loss
from compress.models import DepthNet, normalised
from compress.train.device import autocast, default_device
from compress.train.recipe import Recipe

# On a GPU the whole data set lies in its memory, up to this share of what is free.
GPU_SHARE = 0.5


class DivergedError(CompressError):
    """The loss became NaN or infinite; this network's training cannot go on."""


class StoppedError(Exception):
    """A ``should_stop`` callback ended training early; the state at the last epoch stands."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch reports: its number from 1, mean loss, seconds, images per second."""

    number: int
    of: int
    loss: float
    seconds: float
    images_per_s: float


class Trainer:
    """Trains one network by a recipe, epoch by epoch.

    ``averaged`` is the network to evaluate and save: the exponential moving average of the
    weights. ``save_state`` and ``load_state`` carry everything, so that a run stopped between two
    epochs and continued ends with the weights of an uninterrupted one.
    """

    def __init__(
        self,
        model: DepthNet,
        data: Arrays,
        recipe: Recipe,
        cap_m: float,
        device: torch.device | None = None,
    ) -> None:
        self.recipe = recipe
        self.cap_m = cap_m
        self.device = device or default_device()
        self.epoch = 0
        self.step = 0
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).eval()
        self.loss = make_loss(recipe.loss, cap_m)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._data = data
        self._on_gpu = self._upload(data) if self.device.type == "cuda" else None
        self._steps = max(1, len(data) // recipe.batch)
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, recipe.lr, recipe.epochs * self._steps, pct_start=recipe.warmup
        )

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
            images = 0
            self.model.train()
            for image, depth_m in self._batches():
                if should_stop and should_stop():
                    raise StoppedError
                total += self._train_step(image, depth_m)
                images += len(image)
            # One look an epoch: reading every step's loss would stall a GPU. A NaN stays one.
            mean = float(total) / self._steps
            if mean != mean or mean in (float("inf"), float("-inf")):
                raise DivergedError(
                    f"training diverged in epoch {self.epoch + 1} (loss {mean}); "
                    "lower the learning rate"
                )
            self.epoch += 1
            if on_epoch:
                seconds = time.perf_counter() - start
                of = self.recipe.epochs
                on_epoch(Epoch(self.epoch, of, mean, seconds, images / seconds))

    def _train_step(self, image: Tensor, depth_m: Tensor) -> Tensor:
        recipe = self.recipe
        image, depth_m = recipe.augment(normalised(image), depth_m, self._generator)
        image = image.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, recipe.precision):
            predicted = self.model(image)
        valid = (depth_m > 0) & (depth_m < self.cap_m)
        loss = self.loss(predicted, depth_m, valid)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self._optimiser.step()
        if self.step + 1 < recipe.epochs * self._steps:
            self._schedule.step()
        self.step += 1
        self._average()
        return loss.detach()

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

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each epoch's batches in a new order: uint8 (N, 3, H, W) and metres (N, 1, H, W)."""
        order = torch.randperm(len(self._data), generator=self._generator)
        batch = min(self.recipe.batch, len(self._data))
        for start in range(0, self._steps * batch, batch):
            chosen = order[start : start + batch]
            if self._on_gpu:
                rgb, depth_m = (part[chosen.to(self.device)] for part in self._on_gpu)
            else:
                index = chosen.sort().values.numpy()  # memory maps are read in file order
                rgb = torch.from_numpy(self._data.rgb[index]).to(self.device)
                depth_m = torch.from_numpy(self._data.depth_m[index]).to(self.device)
            yield rgb.permute(0, 3, 1, 2), depth_m[:, None]

    def _upload(self, data: Arrays) -> tuple[Tensor, Tensor] | None:
        free, _ = torch.cuda.mem_get_info(self.device)
        if data.rgb.nbytes + data.depth_m.nbytes > GPU_SHARE * free:
            return None
        return (
            torch.from_numpy(data.rgb.copy()).to(self.device),
            torch.from_numpy(data.depth_m.copy()).to(self.device),
        )

    def save_state(self, path: Path) -> None:
        """Write everything needed to go on, complete or not at all."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "recipe": self.recipe.to_dict(),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self._generator.get_state(),
        }
        with whole(path) as temporary:
            torch.save(state, temporary)

    def load_state(self, path: Path) -> bool:
        """Go on from ``save_state``'s file; False where it is missing, broken or of another run."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            if state["recipe"] != self.recipe.to_dict():
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
        self.epoch, self.step = state["epoch"], state["step"]
        return True


def centre(model: DepthNet, data: Arrays, cap_m: float) -> None:
    """Start an untrained network from the mean log depth of (some of) its training data."""
    some = torch.from_numpy(data.depth_m[:: max(1, len(data) // 64)].copy())
    valid = some[(some > 0) & (some < cap_m)]
    if not len(valid):
        raise CompressError(
            f"no training image has a depth between 0 and the cap of {cap_m:g} m; "
            "check the unit (--depth-scale) and the cap (--cap)"
        )
    model.centre_on(float(valid.log().mean()))
