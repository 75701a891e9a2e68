"""Training the network that holds all candidates, once.

Sources: Yu and Huang, "Universally Slimmable Networks", arXiv 1903.05134 (sandwich rule, in-place
distillation); Cai et al., "Once-for-All", arXiv 1908.09791 (the largest first, then channels
sorted by importance).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compress._files import whole
from compress.cost import cost
from compress.models.elastic import Supernet
from compress.search.gates import Gates
from compress.search.session import Session
from compress.space import Genotype, SearchSpace
from compress.train.device import autocast, threads_for
from compress.train.fit import Epoch, StoppedError, Trainer, centre
from compress.train.recipe import Recipe

# Candidates beside the largest and the smallest that learn from the largest in each step.
BETWEEN = 2
# What the others' loss counts for, beside the largest one's. They share its weights, so that a
# constant is another way to agree: at 3 all networks came to that.
TAUGHT = 0.5
# Share of the epochs in which the largest learns alone, before channels are sorted.
ALONE = 0.2
# Largest candidates that the gates allow, where they do not allow the largest of the space.
LARGEST = 32
EPOCHS, FEWEST, MOST = 30, 5, 100  # without a bound in time; within one
STEPS = 4  # timed, to plan epochs
PLANNED = "supernet_epochs"
FILE = "supernet.safetensors"


class Allowed:
    """Candidates of a space that pass the gates on size: the smallest, large ones, any."""

    def __init__(self, space: SearchSpace, gates: Gates, seed: int) -> None:
        self.space, self.gates = space, gates
        self.smallest = space.smallest
        if self.fits(space.largest.values):
            self.largest = [space.largest]
        else:
            chance = random.Random(seed)
            found = {self._grown(chance): None for _ in range(LARGEST)}
            self.largest = list(found)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a candidate passes the gates."""
        genotype = self.space.genotype(values)
        return self.gates.refusal(cost(genotype, self.gates.size), genotype) is None

    def draw(self, chance: random.Random) -> Genotype:
        """Draw one: uniformly among those of the space that pass, as far as that is quick."""
        for _ in range(200):
            values = {key: chance.choice(choices) for key, choices in self.space.choices.items()}
            if self.fits(values):
                return self.space.genotype(values)
        return self._grown(chance, stop=chance.random())

    def _grown(self, chance: random.Random, stop: float = 0.0) -> Genotype:
        """Raise random choices of the smallest, until none can be raised or chance says stop."""
        values = dict(self.smallest.values)
        left = sorted(key for key, choices in self.space.choices.items() if len(choices) > 1)
        while left and chance.random() >= stop / 10:
            key = chance.choice(left)
            above = [v for v in self.space.choices[key] if _above(v, values[key])]
            if above and self.fits(values | {key: min(above)}):
                values[key] = min(above)
            else:
                left.remove(key)
        return self.space.genotype(values)


def _above(value: Any, other: Any) -> bool:
    return not isinstance(value, str) and value > other


class Sandwich:
    """What each step adds to the loss of the largest: others that learn from it.

    The smallest and some between, from what the largest said of the same images.
    """

    def __init__(self, allowed: Allowed, seed: int, alone: int) -> None:
        self.allowed, self.seed, self.alone = allowed, seed, alone
        self.trainer: Trainer | None = None

    def take(self, trainer: Trainer) -> None:
        """Begin with the trainer's present step."""
        self.trainer = trainer
        self._choose(trainer.step)

    def _choose(self, step: int) -> None:
        assert self.trainer is not None
        largest = self.allowed.largest
        self._supernet(self.trainer).chosen = largest[step % len(largest)]

    @staticmethod
    def _supernet(trainer: Trainer) -> Supernet:
        assert isinstance(trainer.model, Supernet)
        return trainer.model

    def __call__(self) -> Tensor:
        """Mean absolute difference of log depth to the largest one's, weighted."""
        assert self.trainer is not None
        trainer, supernet = self.trainer, self._supernet(self.trainer)
        assert supernet.seen is not None
        image, taught_m = supernet.seen
        supernet.seen = None
        loss = torch.zeros((), device=image.device)
        if trainer.epoch >= self.alone:
            chance = random.Random(self.seed * 1_000_003 + trainer.step)
            between = [self.allowed.draw(chance) for _ in range(BETWEEN)]
            for genotype in (self.allowed.smallest, *between):
                with autocast(image.device, trainer.recipe.precision):
                    depth_m = supernet.run(genotype, image)
                loss = loss + (depth_m.log() - taught_m.log()).abs().mean()
            loss = TAUGHT * loss / (1 + BETWEEN)
        self._choose(trainer.step + 1)
        return loss


def train_supernet(session: Session, seconds: float | None) -> Supernet:
    """Train a study's supernet, or take up what is there of it.

    Args:
        session: the study; nothing of its trials is touched.
        seconds: how long it may take; None for a fixed number of epochs.

    Returns:
        the supernet with averaged weights, also kept in the study's folder.

    Raises:
        StoppedError: the study is to end; what was trained is kept.
    """
    allowed = Allowed(session.space, session.gates, session.config.seed)
    path = session.folder / FILE
    known = open_supernet(session)
    if known is not None:
        return known
    macs = sum(cost(g, session.gates.size).macs for g in allowed.largest) // len(allowed.largest)
    with threads_for(macs):
        epochs = _planned(session, allowed, seconds)
        trainer, sandwich = _trainer(session, allowed, epochs)
        checkpoint = session.checkpoint("supernet")
        trainer.load_state(checkpoint)
        sandwich.take(trainer)
        progress = session.events.reading("supernet")

        def on_epoch(epoch: Epoch) -> None:
            if epoch.number == sandwich.alone:
                assert isinstance(trainer.model, Supernet)
                trainer.model.reorder(trainer.model.orders(allowed.largest), trainer.states())
            trainer.save_state(checkpoint)
            session.tick()
            if progress:
                progress(epoch.number, epoch.of)

        trainer.run(None, on_epoch, session.should_stop)
    supernet = trainer.averaged
    assert isinstance(supernet, Supernet)
    with whole(path) as temporary:
        save_file(
            {name: p.detach().contiguous() for name, p in supernet.named_parameters()}, temporary
        )
    checkpoint.unlink(missing_ok=True)
    return supernet


def open_supernet(session: Session) -> Supernet | None:
    """The study's trained supernet; None where there is none that fits."""
    supernet = Supernet(session.space, session.space.smallest)
    try:
        supernet.load_state_dict(load_file(session.folder / FILE))
    except (OSError, SafetensorError, RuntimeError):
        return None  # none yet, or torn: it is trained anew
    return supernet.eval()


def _trainer(session: Session, allowed: Allowed, epochs: int) -> tuple[Trainer, Sandwich]:
    config = session.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        supernet = Supernet(session.space, allowed.largest[0])
    supernet.size = session.gates.size
    centre(supernet, session.arrays, session.dataset.cap_m)
    chosen = {"seed": config.seed, **config.training, "epochs": epochs}
    recipe = Recipe.for_data(session.dataset, chosen)
    sandwich = Sandwich(allowed, config.seed, round(ALONE * epochs))
    trainer = Trainer(supernet, session.arrays, recipe, session.dataset.cap_m, penalty=sandwich)
    return trainer, sandwich


def _planned(session: Session, allowed: Allowed, seconds: float | None) -> int:
    """Epochs that fill the time given, by timing a few steps; the same ones after a restart."""
    known = session.study.user_attrs.get(PLANNED)
    if known is not None:
        return int(known)
    epochs = EPOCHS
    if seconds is not None:
        # With few images an epoch is a step.
        trainer, sandwich = _trainer(session, allowed, STEPS + 2)
        sandwich.alone = 0
        sandwich.take(trainer)
        times: list[float] = []

        def timed() -> bool:
            times.append(time.perf_counter())
            return len(times) > STEPS + 1

        with contextlib.suppress(StoppedError):
            trainer.run(None, None, timed)
        pace = (times[-1] - times[1]) / (len(times) - 2)
        steps = max(1, len(session.arrays) // trainer.recipe.batch)
        share = 1 - ALONE * BETWEEN / (BETWEEN + 2)  # epochs alone are shorter
        epochs = max(FEWEST, min(MOST, int(seconds / (pace * steps * share))))
    session.study.set_user_attr(PLANNED, epochs)
    return epochs
