"""``compress prune``: a target met by measurement, or a refusal that says how far it got."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from compress._files import whole
from compress.cost import cost
from compress.cost.latency import Comparison, Latency, compare_latency, measure_latency
from compress.errors import CompressError, unknown
from compress.export import export_onnx
from compress.models import DepthNet, load, save
from compress.pruning.cut import widths
from compress.pruning.depgraph import prune_to
from compress.pruning.factory import load_pruned, load_weights, open_factory, save_pruned
from compress.pruning.netadapt import Adapted, Iteration, Schedule, Task, netadapt
from compress.pruning.resource import (
    Macs,
    Params,
    PredictedLatency,
    Resource,
    operators_of,
)
from compress.pruning.task import DepthTask

METHODS = ("netadapt", "netadapt-published", "depgraph")
ROUNDS = 6  # of pruning to a corrected prediction and measuring
# A prediction is asked to be this much below the target: the interval's upper bound has to pass.
MARGIN = 0.99
QUIET_TRIES = 3  # measurements of one network, while the machine is too noisy to tell


@dataclass(frozen=True)
class Target:
    """What is to be met: exactly one of latency, multiply-adds and parameters."""

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in asdict(self).items() if v is not None}
        if len(given) != 1:
            raise CompressError(
                f"{len(given)} targets are given; give one of --target-latency, --target-macs "
                "and --target-params"
            )
        name, value = next(iter(given.items()))
        if not (value > 0 and value < float("inf")):
            raise CompressError(f"target {name} = {value:g}: give a number above 0")

    @property
    def name(self) -> str:
        """ "latency_ms", "macs" or "params"."""
        return next(key for key, value in asdict(self).items() if value is not None)

    @property
    def value(self) -> float:
        """The target in its unit."""
        return float(next(value for value in asdict(self).values() if value is not None))


class Events:
    """What a pruning tells while it runs; override what is wanted."""

    def note(self, text: str) -> None:
        """Anything worth a line."""

    def iteration(self, step: Iteration, target: float) -> None:
        """One layer was cut."""

    def measured(self, latency: Latency, predicted_ms: float) -> None:
        """The exported network was measured."""


@dataclass
class Pruning:
    """How a pruning ended; ``reached`` is whether the target is met, by measurement where it is one
    of latency."""

    model: nn.Module
    target: Target
    reached: bool
    nothing_to_do: bool
    before: dict[str, Any]
    after: dict[str, Any]
    history: list[Iteration] = field(default_factory=list)
    predictions: list[dict[str, float]] = field(default_factory=list)
    path: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """What ``compress prune --json`` prints."""
        return {
            "model": str(self.path) if self.path else None,
            "target": {self.target.name: self.target.value},
            "reached": self.reached,
            "nothing_to_do": self.nothing_to_do,
            "before": self.before,
            "after": self.after,
            "iterations": [step.to_dict() for step in self.history],
            "predictions": self.predictions,
        }


@dataclass(frozen=True)
class Place:
    """Where and how latency is measured."""

    backend: str = "onnxruntime"
    threads: int = 1
    seconds: float = 5.0

    def measure(self, model: nn.Module, size: tuple[int, int]) -> Latency:
        """Measure, again where the machine was too noisy to tell; the quietest counts."""
        best: Latency | None = None
        for seed in range(QUIET_TRIES):
            found = measure_latency(
                model, self.backend, threads=self.threads, size=size, seconds=self.seconds,
                seed=seed, memory=False, energy=False,
            )  # fmt: skip
            if best is None or found.high_ms / found.median_ms < best.high_ms / best.median_ms:
                best = found
            if not found.noisy:
                return found
        assert best is not None
        return best

    def compare(self, models: Mapping[str, nn.Module], size: tuple[int, int]) -> Comparison:
        """Measure networks beside one another."""
        return compare_latency(
            dict(models), self.backend, threads=self.threads, size=size, seconds=self.seconds,
            memory=False, energy=False,
        )  # fmt: skip


class Keeper:
    """Where a pruning keeps what it has done, so that a killed one goes on.

    A folder of two files: the network after the last iteration, and what led to it. The state is
    written after the network and names it by content, so that a kill between the two is told.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], factory: str | None) -> None:
        self.folder, self.factory = folder, factory
        text = json.dumps(asked, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)

    def store(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Write both files, each whole or not at all."""
        name = f"net-{len(state['history'])}-{len(state['predictions'])}.safetensors"
        save_network(model, self.folder / name, self.factory)
        with whole(self.folder / "state.json") as path:
            path.write_text(json.dumps({"key": self.key, "network": name, **state}), "utf-8")
        for old in self.folder.glob("net-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    def open(self) -> tuple[nn.Module, dict[str, Any]] | None:
        """What an earlier run of the same command left; None where there is none."""
        try:
            state = json.loads((self.folder / "state.json").read_text("utf-8"))
            if state["key"] != self.key:
                return None
            return open_network(self.folder / state["network"], self.factory), state
        except (OSError, ValueError, KeyError, CompressError):
            return None

    def clear(self) -> None:
        """Remove it all."""
        for file in self.folder.glob("*"):
            file.unlink(missing_ok=True)
        self.folder.rmdir()


def save_network(model: nn.Module, path: Path, factory: str | None) -> Path:
    """Write a network of a family, or of a user's factory."""
    if isinstance(model, DepthNet):
        return save(model, path)
    assert factory is not None
    return save_pruned(model, path, factory)


def open_network(path: Path, factory: str | None) -> nn.Module:
    """Open what ``save_network`` wrote."""
    return load_pruned(path, factory) if factory else load(path)


def prune(
    model: str | Path | DepthNet,
    target: Target,
    task: Callable[[tuple[int, int]], Task],
    *,
    size: tuple[int, int] | None = None,
    place: Place | None = None,
    predict: Callable[[Any], float] | None = None,
    method: str = "netadapt",
    schedule: Schedule | None = None,
    epochs: int = 5,
    weights: str | Path | None = None,
    folder: Path | None = None,
    asked: Mapping[str, Any] | None = None,
    events: Events | None = None,
) -> Pruning:
    """Prune a network to a target.

    For a latency, the network is cut until its predicted latency meets the target, exported,
    measured; the prediction is corrected by what was measured, and so on until the upper bound of
    the measured interval meets it. It is then fine-tuned and measured once more, beside the
    original.

    Args:
        model: a model file or network, or ``module:function`` that builds a user's own.
        target: what to meet.
        task: makes the scoring and fine-tuning, given the input size.
        size: network input (height, width); default: the model's own.
        place: where latency is measured.
        predict: latency in ms of a list of operators; without it latency is taken to be
            proportional to multiply-adds, corrected by each measurement.
        method: one of ``METHODS``.
        schedule: of NetAdapt; default: ours, or the published one.
        epochs: of the long fine-tuning at the end.
        weights: of a user's own network.
        folder: where progress is kept; an interrupted run goes on from there.
        asked: what makes two runs the same; anything JSON.
        events: is told what happens.

    Raises:
        CompressError: anything wrong with what was asked, a network that cannot be traced, a
            backend that is not installed.
    """
    if method not in METHODS:
        raise unknown("pruning method", method, METHODS)
    events, place = events or Events(), place or Place()
    factory = str(model) if isinstance(model, str) and ":" in model else None
    original = _opened(model, factory, weights)
    at = size or getattr(original, "size", None)
    if at is None:
        raise CompressError(f"{model}: has no input size of its own; give --size HxW")
    began = _figures(original, at)
    if target.latency_ms is not None:
        first = place.measure(original, at)
        began["latency"] = first.to_dict()
        have, certain = first.median_ms, first.high_ms
    else:
        have = certain = float(began[target.name])
    if certain <= target.value:
        return Pruning(original, target, True, True, began, began)
    work = task(at)
    keeper = Keeper(folder, asked or {}, factory) if folder else None
    run = _Run(original, at, target, place, work, method, schedule, predict, events, keeper, have)
    pruned, reached = run.go()
    began["accuracy"] = run.accuracy_before
    after = _figures(pruned, at)
    if reached or not run.nothing_left:
        pruned = _finished(pruned, work, epochs)
    after["accuracy"] = work.score(pruned)
    if isinstance(work, DepthTask) and isinstance(pruned, DepthNet):
        after |= {name: found.to_dict() for name, found in work.evaluate(pruned).items()}
    if target.latency_ms is not None:
        both = place.compare({"before": original, "after": pruned}, at)
        began["latency"] = both.latencies["before"].to_dict()
        after["latency"] = both.latencies["after"].to_dict()
        after["speedup"] = both.speedups["after"]._asdict()
        reached = both.latencies["after"].high_ms <= target.value
    elif target.name in after:
        reached = after[target.name] <= target.value
    after["widths"] = widths(pruned)
    began["widths"] = widths(original)
    return Pruning(pruned, target, reached, False, began, after, run.history, run.predictions)


def _opened(model: str | Path | DepthNet, factory: str | None, weights: Any) -> nn.Module:
    if isinstance(model, DepthNet):
        return model
    if factory is None:
        if weights:
            raise CompressError("--weights goes with module:function; a model file has its own")
        return load(model)
    built = open_factory(factory)
    if weights:
        load_weights(built, weights)
    return built.eval()


def _figures(model: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    counted = cost(model, size)
    return {"params": counted.params, "macs": counted.macs, "macs_all": counted.macs_all}


def _finished(model: nn.Module, work: Any, epochs: int) -> nn.Module:
    """The long fine-tuning, where the task has one."""
    if isinstance(work, DepthTask) and isinstance(model, DepthNet):
        return work.finish(model, epochs)
    return model


class _Run:
    """The loop of pruning, exporting and measuring."""

    def __init__(
        self,
        original: nn.Module,
        size: tuple[int, int],
        target: Target,
        place: Place,
        work: Task,
        method: str,
        schedule: Schedule | None,
        predict: Callable[[Any], float] | None,
        events: Events,
        keeper: Keeper | None,
        have: float,
    ) -> None:
        self.original, self.size, self.target, self.place = original, size, target, place
        self.work, self.method, self.events, self.keeper = work, method, events, keeper
        default = Schedule.published() if method == "netadapt-published" else Schedule()
        self.schedule = schedule or default
        self.resource: Resource
        if target.latency_ms is None:
            self.resource = Params() if target.params is not None else Macs()
        else:
            # Without a table a network is taken to be as fast as its multiply-adds are few.
            table = predict or (lambda operators: float(sum(op.macs for op in operators)))
            self.resource = PredictedLatency(table)
            self.resource.correction = have / max(
                self.resource(operators_of(original, size)), 1e-12
            )
        self.start = self.resource(operators_of(original, size))
        self.history: list[Iteration] = []
        self.predictions: list[dict[str, float]] = []
        self.nothing_left = False
        self.accuracy_before = work.score(original)

    def go(self) -> tuple[nn.Module, bool]:
        """Prune until the target is met or nothing is left; the network and whether it was met."""
        model = self._taken_up()
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
        """One-shot pruning: the same share of every group's channels, by magnitude."""
        size = self.size
        limits: dict[str, int] = {}
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
                cut = prune_to(self.original, max_macs=int(middle), size=size, scope="uniform")
                if self.resource(operators_of(cut.model, size)) <= goal:
                    low, found = middle, cut.model
                else:
                    high = middle
            return found, self.resource(operators_of(found, size)) <= goal
        cut = prune_to(self.original, size=size, scope="uniform", **limits)  # type: ignore[arg-type]
        return cut.model, True

    def _after(self, model: nn.Module, step: Iteration) -> None:
        self.history.append(step)
        self._store(model)
        self.events.iteration(step, self._goal())

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
            {"predicted_ms": predicted, "median_ms": found.median_ms, "high_ms": found.high_ms}
        )
        met = found.high_ms <= self.target.value
        if not met:
            self.resource.correction *= found.high_ms / predicted
            self._store(model)
        return met


def write_result(done: Pruning, out: Path, size: tuple[int, int], factory: str | None) -> Path:
    """Save the network, its ONNX export (checked) and what happened, beside one another."""
    if isinstance(done.model, DepthNet):
        figures = {
            k: done.after[k] for k in ("params", "macs", "validation", "heldout") if k in done.after
        }
        done.model.info = dict(done.model.info) | figures | {"pruning": _brief(done)}
    done.path = save_network(done.model, out, factory)
    export_onnx(done.model, out.with_suffix(".onnx"), size)
    with whole(out.with_suffix(".json")) as path:
        path.write_text(json.dumps(done.to_dict(), indent=1, default=str), "utf-8")
    return done.path


def _brief(done: Pruning) -> dict[str, Any]:
    return {
        "target": {done.target.name: done.target.value},
        "reached": done.reached,
        "iterations": len(done.history),
        "when": time.strftime("%Y-%m-%d"),
    }
