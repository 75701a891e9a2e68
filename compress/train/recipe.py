"""How a network is trained: plain numbers, stored with what they led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from compress.data import Dataset
from compress.data.augment import Augment
from compress.errors import CompressError, unknown

PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMISERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "constant", "step", "poly")
REBALANCE = ("none", "hard-to-easy", "easy-to-hard")
# What a training may sum: the recipe's loss on depth; the order of pairs of points; edge-aware
# smoothness; class maps; and what a teacher says: its depth, how its features resemble one another,
# and a critic that tells its depth maps from the student's.
TERMS = ("depth", "ranking", "smooth", "segmentation", "pixel", "pairwise", "adversarial")
TAUGHT = ("pixel", "pairwise", "adversarial")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    ``precision`` "auto" is bfloat16 autocast where the processor computes it natively. ``ema`` is
    the decay per step of the averaged weights, which are the ones evaluated and saved.

    ``encoder_lr`` is the encoder's share of the learning rate, ``encoder_frozen`` the first epochs
    that leave it as it is; both are for encoders that bring weights along. ``auxiliary`` is the
    share of the depth loss that intermediate heads carry together. ``terms`` holds weights of
    ``TERMS`` that differ from ``objective.default_terms``; ``rebalance`` moves the weights during
    training (Lee and Kim, ECCV 2020), ``rebalances`` times an epoch. ``pairs`` is the number of
    pairs of points drawn from each map of relative depth. ``step_epochs`` and ``step_factor`` are
    the "step" schedule's.
    """

    epochs: int = 30
    batch: int = 16
    lr: float = 6e-3
    weight_decay: float = 1e-2
    warmup: float = 0.15
    clip: float = 1.0
    ema: float = 0.99
    loss: str = "log-l1"
    precision: str = "auto"
    seed: int = 0
    optimiser: str = "adamw"
    schedule: str = "onecycle"
    step_epochs: int = 10
    step_factor: float = 0.1
    encoder_lr: float = 1.0
    encoder_frozen: int = 0
    auxiliary: float = 0.5
    terms: Mapping[str, float] = field(default_factory=dict)
    rebalance: str = "none"
    rebalances: int = 5
    pairs: int = 300
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        from compress.losses import LOSSES

        for name, low, high in (
            ("epochs", 1, 100_000), ("batch", 1, 4096), ("lr", 1e-8, 10), ("weight_decay", 0, 10),
            ("warmup", 0, 0.9), ("clip", 1e-6, 1e6), ("ema", 0, 0.99999), ("seed", 0, 2**31),
            ("step_epochs", 1, 100_000), ("step_factor", 1e-6, 1), ("encoder_lr", 0, 10),
            ("encoder_frozen", 0, 100_000), ("auxiliary", 0, 0.95), ("rebalances", 1, 1000),
            ("pairs", 1, 100_000),
        ):  # fmt: skip
            value = getattr(self, name)
            whole = type(getattr(type(self), name)) is int
            kinds = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "whole number" if whole else "number"
                raise CompressError(f"{name} = {value!r}: give a {kind} from {low} to {high}")
        for name, what, allowed in (
            ("loss", "loss", LOSSES), ("precision", "precision", PRECISIONS),
            ("optimiser", "optimiser", OPTIMISERS), ("schedule", "schedule", SCHEDULES),
            ("rebalance", "rebalancing", REBALANCE),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise unknown(what, str(getattr(self, name)), allowed)
        if not isinstance(self.terms, Mapping):
            raise CompressError(f"terms = {self.terms!r}: write a table of weights by name")
        for name, weight in self.terms.items():
            if name not in TERMS:
                raise unknown("term of the loss", name, TERMS)
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 <= weight <= 1e6:
                raise CompressError(f"terms: {name} = {weight!r}: give a number from 0 to 1e6")

    @classmethod
    def for_data(cls, dataset: Dataset, values: Mapping[str, Any]) -> Recipe:
        """The recipe for a data set: its own customs, and ``values`` over them."""
        augment = {"zoom": dataset.zoom, **values.get("augment", {})}
        customs = {"loss": "si-mse-grad"} if dataset.relative else {}
        return cls.from_dict({**customs, **values, "augment": augment}, "training")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """Read ``to_dict``'s form; unknown keys raise ``CompressError``."""
        values = dict(data)
        augment = values.pop("augment", {})
        for kind, given in ((cls, values), (Augment, augment)):
            if not isinstance(given, Mapping):
                raise CompressError(f"{source}: augment = {given!r}: write a table")
            names = [f.name for f in fields(kind)]
            for key in given:
                if key not in names:
                    raise CompressError(f"{source}: {unknown('key', key, names)}")
        try:
            return cls(**values, augment=Augment(**augment))
        except CompressError as error:
            raise CompressError(f"{source}: {error}") from None
