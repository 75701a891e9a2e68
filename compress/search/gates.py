"""Gates: what a candidate must pass, size and speed before any training and d1 after it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compress.cost import Cost, cost
from compress.cost.count import operators
from compress.cost.table import DeviceTable
from compress.errors import CompressError
from compress.search.config import human
from compress.space import Genotype, SearchSpace


@dataclass(frozen=True)
class Gates:
    """Limits of a study; ``size`` is the network input at which MACs are counted.

    ``table`` predicts the latency that ``max_latency_ms`` bounds, at the same size.
    """

    max_params: float | None
    max_macs: float | None
    delta1: float
    size: tuple[int, int]
    max_latency_ms: float | None = None
    table: DeviceTable | None = None

    def __post_init__(self) -> None:
        assert self.max_latency_ms is None or self.table is not None

    def to_dict(self) -> dict[str, Any]:
        """The limits as JSON-ready values, for the study to keep."""
        limits = {
            "max_params": self.max_params,
            "max_macs": self.max_macs,
            "delta1": self.delta1,
            "size": list(self.size),
        }
        if self.max_latency_ms is None:
            return limits
        return limits | {"max_latency_ms": self.max_latency_ms}

    def latency_ms(self, genotype: Genotype) -> float | None:
        """The latency that the table predicts, in milliseconds; None without a table."""
        if self.table is None:
            return None
        return self.table.predict(operators(genotype, self.size))

    def refusal(self, candidate: Cost, genotype: Genotype | None = None) -> str | None:
        """Name the first gate that a network fails before training, or None.

        "params" and "macs" follow from its size; "latency" is asked of the table where its
        ``genotype`` is given.
        """
        if self.max_params is not None and candidate.params > self.max_params:
            return "params"
        if self.max_macs is not None and candidate.macs > self.max_macs:
            return "macs"
        if self.max_latency_ms is not None and genotype is not None:
            predicted_ms = self.latency_ms(genotype)
            assert predicted_ms is not None
            if predicted_ms > self.max_latency_ms:
                return "latency"
        return None

    def check_feasible(self, space: SearchSpace) -> None:
        """Raise ``CompressError`` when even the smallest network of the space is too large."""
        size = cost(space.smallest, self.size)
        gate = self.refusal(size)
        if gate is None:
            self._check_latency(space)
            return
        flag, limit, least = (
            ("--budget", self.max_params, size.params)
            if gate == "params"
            else ("--max-macs", self.max_macs, size.macs)
        )
        assert limit is not None
        raise CompressError(
            f"{flag} {human(limit)} is below the smallest network of space {space.name}, which has "
            f"{size.params:,} params and {size.macs:,} MACs at {self.size[0]}x{self.size[1]}; "
            f"give {flag} {least} or more"
        )

    def _check_latency(self, space: SearchSpace) -> None:
        """Raise ``CompressError`` where no network is found that is fast enough.

        The network of fewest parameters need not be the fastest one: from it, each choice in turn
        is made the fastest.
        """
        if self.max_latency_ms is None:
            return
        best = dict(space.smallest.values)
        fastest_ms = self.latency_ms(space.smallest)
        assert fastest_ms is not None
        for key, values in space.choices.items():
            for value in values:
                if fastest_ms <= self.max_latency_ms:
                    return
                found_ms = self.latency_ms(space.genotype(best | {key: value}))
                assert found_ms is not None
                if found_ms < fastest_ms:
                    best, fastest_ms = best | {key: value}, found_ms
        if fastest_ms <= self.max_latency_ms:
            return
        raise CompressError(
            f"--max-latency {self.max_latency_ms:g}ms is below the fastest network found in space "
            f"{space.name}, which is predicted at {fastest_ms:.3g} ms at "
            f"{self.size[0]}x{self.size[1]}; give --max-latency "
            f"{math.ceil(fastest_ms * 1000) / 1000:g} or more"
        )


@dataclass
class Refusals:
    """Counts of candidates refused before training, by gate."""

    by_gate: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Refusals:
        """Go on from stored counts."""
        return cls(Counter(counts))

    @property
    def total(self) -> int:
        """All refusals."""
        return sum(self.by_gate.values())

    def describe(self) -> str:
        """As in ``params 120, duplicate 3``; "none" when nothing was refused."""
        return ", ".join(f"{gate} {n:,}" for gate, n in self.by_gate.most_common()) or "none"
