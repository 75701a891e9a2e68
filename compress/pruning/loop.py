"""Pruning, exporting and measuring, until a target is met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from compress.cost import cost
from compress.errors import CompressError
from compress.pruning.depgraph import prune_ratio, prune_to
from compress.pruning.keeper import Keeper
from compress.pruning.netadapt import Adapted, Iteration, Schedule, Task, netadapt
from compress.pruning.resource import Macs, Params, PredictedLatency, Resource, operators_of
from compress.pruning.target import Events, Place, Target

ROUNDS = 6  # of pruning to a corrected prediction and measuring
# A prediction is asked to be this much below the target: the interval's upper bound has to pass.
MARGIN = 0.99
AHEAD = 1.15  # times the target: where a network is measured on its way to it


class Loop:
    """The loop of pruning, exporting and measuring."""

    def __init__(
        self,
        original: nn.Module,
        size: tuple[int, int],
        target: Target,
        place: Place,
        work: Task,
        method: str,
        importance: str,
        schedule: Schedule,
        predict: Callable[[Any], float] | None,
        events: Events,
        keeper: Keeper | None,
        have: float,
    ) -> None:
        self.original, self.size, self.target, self.place = original, size, target, place
        self.work, self.method, self.events, self.keeper = work, method, events, keeper
        self.importance, self.schedule = importance, schedule
        self.resource: Resource
        runs = operators_of(original, size)
        if target.latency_ms is None:
            self.resource = Params() if target.params is not None else Macs()  # a ratio: either
        else:
            # Without a table a network is taken to be as fast as its multiply-adds are few.
            table = predict or (lambda operators: float(sum(op.macs for op in operators)))
            self.resource = PredictedLatency(table)
            self.resource.correction = have / max(self.resource(runs), 1e-12)
        self.start = self.resource(runs)
        self.history: list[Iteration] = []
        self.predictions: list[dict[str, float]] = []
        self.nothing_left = False
        self.accuracy_before = work.score(original)

    def go(self) -> tuple[nn.Module, bool]:
        """Prune until the target is met or nothing is left; the network and whether it was met."""
        model = self._taken_up()
        self._tell()
        if self.target.latency_ms is not None and self.method != "depgraph":
            # The prediction is corrected once on the way, or it may cut far more than is asked.
            ahead = AHEAD * self.target.value
            if self.resource(operators_of(model, self.size)) > ahead:
                model, _ = self._to(model, ahead)
                if self._measured(model):
                    return model, True
        for _ in range(ROUNDS):
            model, reached = self._to(model, self._goal())
            if self.target.latency_ms is None:
                return model, reached
            met = self._measured(model)
            if met or not reached:
                return model, met
        return model, False

    def _goal(self) -> float:
        return self.target.value * (MARGIN if self.target.latency_ms is not None else 1.0)

    def _to(self, model: nn.Module, goal: float) -> tuple[nn.Module, bool]:
        if self.method == "depgraph":
            return self._at_once(model, goal)
        adapted: Adapted[Any] = netadapt(
            model, goal, self.resource, self.work, self.size, self.schedule,
            history=self.history, start=self.start, on_iteration=self._after,
        )  # fmt: skip
        self.history = adapted.history
        self.nothing_left = not adapted.reached
        return adapted.model, adapted.reached

    def _at_once(self, model: nn.Module, goal: float) -> tuple[nn.Module, bool]:
        """One-shot pruning: the same share of every group's channels."""
        size = self.size
        how: dict[str, Any] = {
            "importance": self.importance, "size": size, "scope": "uniform",
            "losses": getattr(self.work, "losses", None), "seed": getattr(self.work, "seed", 0),
        }  # fmt: skip
        if self.target.ratio is not None:
            return prune_ratio(self.original, self.target.ratio, **how).model, True
        limits: dict[str, Any] = {}
        if self.target.params is not None:
            limits["max_params"] = int(goal)
        elif self.target.macs is not None:
            limits["max_macs"] = int(goal)
        else:
            # Latency falls less than multiply-adds do: half-way steps, each checked by prediction.
            low, high = 0.0, float(cost(self.original, size).macs)
            found = self.original
            for _ in range(12):
                middle = (low + high) / 2
                try:
                    cut = prune_to(self.original, max_macs=int(middle), **how)
                except CompressError:  # below what the narrowest network has
                    low = middle
                    continue
                if self.resource(operators_of(cut.model, size)) <= goal:
                    low, found = middle, cut.model
                else:
                    high = middle
            return found, self.resource(operators_of(found, size)) <= goal
        cut = prune_to(self.original, **limits, **how)
        return cut.model, True

    def _after(self, model: nn.Module, step: Iteration) -> None:
        self.history.append(step)
        self._store(model)
        self.events.iteration(step, self._goal())
        self._tell()

    def _tell(self) -> None:
        self.events.so_far(
            {
                "before": {"accuracy": self.accuracy_before},
                "iterations": [step.to_dict() for step in self.history],
                "predictions": list(self.predictions),
            }
        )

    def _store(self, model: nn.Module) -> None:
        if self.keeper:
            self.keeper.store(
                model,
                {
                    "history": [step.to_dict() for step in self.history],
                    "predictions": self.predictions,
                    "correction": getattr(self.resource, "correction", 1.0),
                    "start": self.start,
                    "accuracy_before": self.accuracy_before,
                },
            )

    def _taken_up(self) -> nn.Module:
        """The network that an interrupted run left, or the original."""
        held = self.keeper.open() if self.keeper else None
        if held is None:
            return self.original
        model, state = held
        self.history = [Iteration(**step) for step in state["history"]]
        self.predictions = state["predictions"]
        self.start, self.accuracy_before = state["start"], state["accuracy_before"]
        if isinstance(self.resource, PredictedLatency):
            self.resource.correction = state["correction"]
        self.events.note(f"going on after {len(self.history)} iterations")
        return model

    def _measured(self, model: nn.Module) -> bool:
        """Measure what was predicted, and correct the prediction; whether the target is met."""
        assert isinstance(self.resource, PredictedLatency)
        predicted = self.resource(operators_of(model, self.size))
        found = self.place.measure(model, self.size)
        self.events.measured(found, predicted)
        self.predictions.append(
            {
                "iteration": len(self.history),
                "predicted_ms": predicted,
                "median_ms": found.median_ms,
                "low_ms": found.low_ms,
                "high_ms": found.high_ms,
            }
        )
        self._tell()
        met = found.high_ms <= self.target.value
        if not met:
            self.resource.correction *= found.high_ms / predicted
            self._store(model)
        return met
