"""How a network is trained: plain numbers, stored with what they led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from compress.data import Dataset
from compress.data.augment import Augment
from compress.errors import CompressError, unknown

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    ``precision`` "auto" is bfloat16 autocast where the processor computes it natively. ``ema`` is
    the decay per step of the averaged weights, which are the ones evaluated and saved.
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
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        from compress.losses import LOSSES

        for name, low, high in (
            ("epochs", 1, 100_000), ("batch", 1, 4096), ("lr", 1e-8, 10), ("weight_decay", 0, 10),
            ("warmup", 0, 0.9), ("clip", 1e-6, 1e6), ("ema", 0, 0.99999), ("seed", 0, 2**31),
        ):  # fmt: skip
            value = getattr(self, name)
            whole = name in ("epochs", "batch", "seed")
            if not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
                kind = "whole number" if whole else "number"
                raise CompressError(f"{name} = {value!r}: give a {kind} from {low} to {high}")
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    @classmethod
    def for_data(cls, dataset: Dataset, values: Mapping[str, Any]) -> Recipe:
        """The recipe for a data set: its own customs, and ``values`` over them."""
        augment = {"zoom": dataset.zoom, **values.get("augment", {})}
        return cls.from_dict({**values, "augment": augment}, "training")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "recipe") -> Recipe:
        """Read ``to_dict``'s form; unknown keys raise ``CompressError``."""
        values = dict(data)
        augment = values.pop("augment", {})
        for kind, given in ((cls, values), (Augment, augment)):
            names = [f.name for f in fields(kind)]
            for key in given:
                if key not in names:
                    raise CompressError(f"{source}: {unknown('key', key, names)}")
        try:
            return cls(**values, augment=Augment(**augment))
        except CompressError as error:
            raise CompressError(f"{source}: {error}") from None
