"""What a network is for: how its accuracy is taken, and how it is fine-tuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.cost import cost
from compress.data import Arrays, Dataset, Pairs, Subset, cut_validation, resized
from compress.errors import CompressError
from compress.models import DepthNet
from compress.models.base import normalised
from compress.pruning.factory import imported
from compress.train import Evaluation, Recipe, Scorer, Trainer
from compress.train.device import threads_for
from compress.train.evaluate import images_of
from compress.train.fit import Epoch
from compress.train.objective import Batch, Facts, Objective

LOSSES = 4  # batches that Taylor importance looks at
Reading = Callable[[str], Callable[[int, int], None] | None]


class DepthTask:
    """A depth network on a data set: d1 of some validation images, training as it was trained.

    Args:
        dataset: with a training list; its validation part is cut as ``train`` cuts it.
        size: network input (height, width).
        recipe: ``Recipe`` fields of the fine-tuning.
        images: validation images that a proposal is scored on.
        seed: of the cut, and of the images drawn.
        reading: is told what is read.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: tuple[int, int],
        recipe: Mapping[str, Any],
        *,
        images: int = 48,
        seed: int = 0,
        reading: Reading | None = None,
    ) -> None:
        told = reading or (lambda what: None)
        if dataset.train is None:
            raise CompressError(f"{dataset.name}: has no training list to fine-tune on")
        if dataset.relative:
            raise CompressError(f"{dataset.name}: has no depth in metres to score d1 on")
        self.dataset, self.size, self.seed = dataset, size, seed
        self.recipe = {"lr": 1e-3, "auxiliary": 0.0, "seed": seed, **recipe}
        frames, held = cut_validation(dataset.train, seed=seed)
        self.arrays = resized(frames, size, progress=told("training images"))
        few = Subset(held, list(images_of(held, images)))
        self._quick = Scorer.of(dataset, few, "validation", size, progress=told("images to score"))
        self._held = held

    def score(self, model: DepthNet) -> float:
        """d1 of the same few validation images every time."""
        with threads_for(cost(model, self.size).macs):
            return self._quick(model, precision="auto").metrics["delta1"]

    def tune(self, model: DepthNet, steps: int, seed: int) -> None:
        """Train in place for some steps of the recipe's batch, at a tenth of its rate."""
        batch = Recipe.for_data(self.dataset, self.recipe).batch
        count = min(steps * batch, len(self.arrays))
        drawn = np.random.default_rng([self.seed, seed]).permutation(len(self.arrays))[:count]
        recipe = Recipe.for_data(
            self.dataset,
            {
                **self.recipe, "epochs": max(1, round(steps * batch / count)), "ema": 0.9,
                "schedule": "constant", "lr": 0.3 * float(self.recipe["lr"]), "seed": seed,
            },
        )  # fmt: skip
        with threads_for(cost(model, self.size).macs):
            trainer = Trainer(model, some(self.arrays, np.sort(drawn)), recipe, self.dataset.cap_m)
            trainer.run()
        model.load_state_dict(trainer.averaged.state_dict())
        model.eval()

    def losses(self, model: DepthNet) -> Iterator[Tensor]:
        """The training loss of a few batches, for Taylor importance."""
        recipe = Recipe.for_data(self.dataset, self.recipe)
        facts = Facts(labels=self.arrays.labels is not None)
        joint = bool(model.classes)
        objective = Objective(recipe, self.dataset.cap_m, facts, joint=joint, taught=False)
        chance = np.random.default_rng([self.seed, 0])
        order = chance.permutation(len(self.arrays))[: LOSSES * recipe.batch]
        for start in range(0, len(order), recipe.batch):
            few = some(self.arrays, np.sort(order[start : start + recipe.batch]))
            batch = Batch(
                normalised(torch.from_numpy(few.rgb).permute(0, 3, 1, 2)),
                torch.from_numpy(few.depth_m)[:, None],
                None if few.labels is None else torch.from_numpy(few.labels),
            )
            generator = torch.Generator().manual_seed(start)
            yield objective.total(objective(model.outputs(batch.image), batch, generator, None))

    def finish(
        self,
        model: DepthNet,
        epochs: int,
        on_epoch: Callable[[Epoch], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> DepthNet:
        """Train for some epochs with the recipe's own rate and schedule; the averaged network."""
        if not epochs:
            return model
        recipe = Recipe.for_data(self.dataset, {**self.recipe, "epochs": epochs})
        with threads_for(cost(model, self.size).macs):
            trainer = Trainer(model, self.arrays, recipe, self.dataset.cap_m)
            trainer.run(None, on_epoch, should_stop)
        tuned: DepthNet = trainer.averaged
        tuned.drop_auxiliary()
        return tuned

    def evaluate(self, model: DepthNet) -> dict[str, Evaluation]:
        """All metrics on the whole validation part and on the held-out list."""
        parts = {"validation": self._held, "heldout": self.dataset.heldout}
        with threads_for(cost(model, self.size).macs):
            return {
                name: Scorer.of(self.dataset, frames, name, self.size)(model)
                for name, frames in parts.items()
            }


class CallableTask:
    """A user's own network: accuracy and fine-tuning are functions of theirs.

    Args:
        evaluate: ``module:function`` of the network, returns a number, more is better.
        finetune: ``module:function`` of the network and a number of steps, trains in place;
            without it nothing is fine-tuned.
    """

    def __init__(self, evaluate: str, finetune: str | None = None) -> None:
        self._evaluate = _function(evaluate, "evaluate")
        self._finetune = _function(finetune, "finetune") if finetune else None
        self._name = evaluate

    def score(self, model: nn.Module) -> float:
        """What the user's function says of the network."""
        try:
            with torch.no_grad():
                value = self._evaluate(model)
            return float(value)
        except Exception as error:  # the user's code decides what this raises
            raise CompressError(
                f"--evaluate {self._name}: raised {type(error).__name__}: {error}"
            ) from error

    def tune(self, model: nn.Module, steps: int, seed: int) -> None:
        """Call the user's function, where there is one."""
        if self._finetune:
            self._finetune(model, steps)
            model.eval()


def some(arrays: Arrays, index: np.ndarray[Any, np.dtype[np.int64]]) -> Arrays:
    """Some frames of resized arrays."""
    pairs = arrays.pairs
    return dataclasses.replace(
        arrays,
        rgb=arrays.rgb[index],
        depth_m=arrays.depth_m[index],
        names=tuple(arrays.names[i] for i in index),
        labels=None if arrays.labels is None else arrays.labels[index],
        pairs=None if pairs is None else Pairs(*(part[index] for part in pairs)),
    )


def _function(name: str, flag: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not colon or not attribute:
        raise CompressError(f"--{flag} {name}: write module:function, as my_package.eval:score")
    found = getattr(imported(module, f"--{flag} {name}"), attribute, None)
    if not callable(found):
        raise CompressError(f"--{flag} {name}: {module} has no function {attribute!r}")
    made: Callable[..., Any] = found
    return made
