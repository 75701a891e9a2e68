"""One process's work on a study: what all its candidates share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from optuna.study import Study

from compress.data import Arrays, Dataset, Frames, cut_validation, resized
from compress.models import DepthNet, build
from compress.models.elastic import inherit
from compress.search.config import SearchConfig
from compress.search.events import Events, Status
from compress.search.gates import Gates, Refusals
from compress.search.records import REFUSED, Record, best
from compress.search.rungs import Part, parts
from compress.search.sampler import GatedSampler
from compress.space import Genotype, SearchSpace
from compress.train.course import Stage, spread
from compress.train.evaluate import Scorer
from compress.train.fit import Trainer, centre
from compress.train.recipe import Recipe

SECONDS = "seconds"  # user attribute: the study's wall-clock over all its sessions


@dataclass
class Session:
    """A study being worked on.

    ``began`` (monotonic seconds) is when this session did, less what earlier ones took: the same in
    all processes. ``stop`` is set to end the study soon; ``deadline`` (monotonic seconds) ends what
    runs at present.
    """

    study: Study
    folder: Path
    config: SearchConfig
    space: SearchSpace
    dataset: Dataset
    gates: Gates
    events: Events
    refusals: Refusals
    sampler: GatedSampler
    began: float
    stop: threading.Event = field(default_factory=threading.Event)
    deadline: float = float("inf")

    def __post_init__(self) -> None:
        """Cut the validation part, and make training and validation images ready."""
        assert self.dataset.train is not None
        frames, held = cut_validation(self.dataset.train, seed=self.config.seed)
        self.arrays: Arrays = resized(
            frames, self.gates.size, progress=self.events.reading("training images")
        )
        self.scorer = self.scorer_of(held, "validation")
        # A share is a batch at least; rungs are to say what was really seen.
        least = min(1.0, self._recipe(self.config.epochs).batch / len(self.arrays))
        self.parts: list[Part] = [
            replace(part, share=max(part.share, least))
            for part in parts(self.config.epochs, self.config.fidelity, self.gates.size)
        ]
        # Images at the smaller sizes that candidates begin with, made once for all of them.
        self._smaller: dict[tuple[int, int], tuple[Arrays, Scorer]] = {}
        for size in {part.size for part in self.parts} - {self.gates.size}:
            told = self.events.reading(f"training images at {size[0]}x{size[1]}")
            self._smaller[size] = (resized(frames, size, progress=told), self.scorer.at(size))

    def scorer_of(self, frames: Frames, split: str) -> Scorer:
        """A scorer of one split under the study's protocol."""
        return Scorer.of(
            self.dataset,
            frames,
            split,
            self.gates.size,
            crop=self.config.crop,
            flip_average=self.config.flip_average,
            averaging=self.config.averaging,
            progress=self.events.reading(f"{split} images"),
        )

    def scorer_at(self, size: tuple[int, int]) -> Scorer:
        """The validation scorer at the size of one of a candidate's parts."""
        return self._smaller[size][1] if size in self._smaller else self.scorer

    def stages(self) -> list[Stage]:
        """What candidates train on before their last part; see ``rungs.parts``."""
        batch = self._recipe(self.config.epochs).batch
        return (
            [
                Stage(
                    part.until,
                    self._smaller[part.size][0] if part.size in self._smaller else self.arrays,
                    spread(len(self.arrays), part.share, batch) if part.share < 1 else None,
                )
                for part in self.parts[:-1]
            ]
            if self.config.fidelity != "epochs"
            else []
        )

    def trainer(
        self,
        genotype: Genotype,
        epochs: int,
        stages: Sequence[Stage] = (),
        parent: DepthNet | None = None,
    ) -> Trainer:
        """A trainer of a freshly built network of ``genotype``, with what fits of a ``parent``."""
        model = build(replace(genotype, size=self.gates.size), seed=self.config.seed)
        centre(model, self.arrays, self.dataset.cap_m)
        if parent is not None:
            inherit(model, parent)
        recipe = self._recipe(epochs)
        return Trainer(model, self.arrays, recipe, self.dataset.cap_m, stages=stages)

    def _recipe(self, epochs: int) -> Recipe:
        chosen = {"seed": self.config.seed, **self.config.training, "epochs": epochs}
        return Recipe.for_data(self.dataset, chosen)

    def checkpoint(self, name: str) -> Path:
        """Where training state is kept until it is finished."""
        return self.folder / "checkpoints" / f"{name}.pt"

    def should_stop(self) -> bool:
        """Whether what runs at present must end."""
        return self.stop.is_set() or time.monotonic() > self.deadline

    @property
    def end(self) -> float:
        """When the study's minutes are over, in monotonic seconds."""
        minutes = self.config.minutes
        return float("inf") if minutes is None else self.began + minutes * 60

    def tick(self) -> None:
        """Store how long the study has run."""
        self.study.set_user_attr(SECONDS, time.monotonic() - self.began)

    def status(self, rows: Sequence[Record]) -> None:
        """Tell the watcher where the study stands; other processes' refusals are read in."""
        self.refusals.by_gate = Counter(self.study.user_attrs.get(REFUSED, {}))
        done = sum(row.state in ("complete", "stopped", "failed") for row in rows)
        leader = best(rows, self.gates.delta1)
        left = None if self.end == float("inf") else max(0.0, self.end - time.monotonic())
        trials = self.config.trials
        self.events.status(Status(done, trials, self.refusals.describe(), leader, left))
