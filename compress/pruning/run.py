"""``compress prune``: a target met by measurement, or a refusal that says how far it got."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from compress._files import whole
from compress.cost import cost
from compress.cost.table import DeviceTable
from compress.errors import CompressError, unknown
from compress.export import export_onnx
from compress.models import DepthNet, load
from compress.models.gates import gates_of
from compress.pruning.cut import widths
from compress.pruning.factory import load_weights, open_factory
from compress.pruning.importance import IMPORTANCES
from compress.pruning.keeper import Keeper, save_network
from compress.pruning.loop import Loop
from compress.pruning.netadapt import Iteration, Schedule, Task
from compress.pruning.target import Events, Place, Target
from compress.pruning.task import DepthTask

METHODS = ("netadapt", "netadapt-published", "depgraph")


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
    table: str = ""
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
            "device_table": self.table or None,
        }


def prune(
    model: str | Path | DepthNet,
    target: Target,
    task: Callable[[tuple[int, int]], Task],
    *,
    size: tuple[int, int] | None = None,
    place: Place | None = None,
    table: DeviceTable | None = None,
    method: str = "netadapt",
    importance: str = "magnitude",
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
        table: predicts latency; without it latency is taken to be proportional to multiply-adds,
            corrected by each measurement.
        method: one of ``METHODS``.
        importance: of one-shot pruning, a name of ``IMPORTANCES``.
        schedule: of NetAdapt; default: ours in the table's steps, or the published one.
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
    if importance not in IMPORTANCES:
        raise unknown("importance", importance, IMPORTANCES)
    if target.ratio is not None and method != "depgraph":
        raise CompressError(f"--ratio goes with --method depgraph, not with {method}")
    events, place = events or Events(), place or Place()
    factory = str(model) if isinstance(model, str) and ":" in model else None
    original = _opened(model, factory, weights)
    if gates_of(original):
        raise CompressError(f"{model}: has gates; prune the network first, then gate what is left")
    at = size or getattr(original, "size", None)
    if at is None:
        raise CompressError(f"{model}: has no input size of its own; give --size HxW")
    began = _figures(original, at)
    if target.latency_ms is not None:
        first = place.measure(original, at)
        began["latency"] = first.to_dict()
        have, certain = first.median_ms, first.high_ms
    else:
        have = certain = float(began.get(target.name, float("inf")))
    if certain <= target.value:
        return Pruning(original, target, True, True, began, began)
    began["widths"] = widths(original)
    events.so_far({"target": {target.name: target.value}, "before": dict(began)})
    if table is not None and (doubt := table.stretched(at)):
        events.note(doubt)
    schedule = schedule or Schedule.of(method, table.step if table else None)
    work = task(at)
    keeper = Keeper(folder, asked or {}, factory) if folder else None
    predict = table.predict if table else None
    run = Loop(
        original, at, target, place, work, method, importance, schedule, predict, events, keeper,
        have,
    )  # fmt: skip
    pruned, reached = run.go()
    began["accuracy"] = run.accuracy_before
    began |= _evaluated(work, original)
    after = _figures(pruned, at)
    if reached or not run.nothing_left:
        pruned = _finished(pruned, work, epochs)
    after["accuracy"] = work.score(pruned)
    after |= _evaluated(work, pruned)
    if target.latency_ms is not None:
        both = place.compare({"before": original, "after": pruned}, at)
        began["latency"] = both.latencies["before"].to_dict()
        after["latency"] = both.latencies["after"].to_dict()
        after["speedup"] = both.speedups["after"]._asdict()
        reached = both.latencies["after"].high_ms <= target.value
    elif target.name in after:
        reached = after[target.name] <= target.value
    after["widths"] = widths(pruned)
    described = table.describe() if table else ""
    return Pruning(
        pruned, target, reached, False, began, after, run.history, run.predictions, described
    )


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


def _evaluated(work: Any, model: nn.Module) -> dict[str, Any]:
    """All metrics of a depth network on the validation part and the held-out list."""
    if isinstance(work, DepthTask) and isinstance(model, DepthNet):
        return {name: found.to_dict() for name, found in work.evaluate(model).items()}
    return {}


def _finished(model: nn.Module, work: Any, epochs: int) -> nn.Module:
    """The long fine-tuning, where the task has one."""
    if isinstance(work, DepthTask) and isinstance(model, DepthNet):
        return work.finish(model, epochs)
    return model


def write_result(
    done: Pruning,
    out: Path,
    size: tuple[int, int],
    factory: str | None,
    told: Mapping[str, Any] | None = None,
) -> Path:
    """Save the network, its ONNX export (checked) and what happened, beside one another.

    ``told`` goes into the JSON too: the ``command`` and the ``environment``.
    """
    if isinstance(done.model, DepthNet):
        figures = {
            k: done.after[k] for k in ("params", "macs", "validation", "heldout") if k in done.after
        }
        done.model.info = dict(done.model.info) | figures | {"pruning": _brief(done)}
    done.path = save_network(done.model, out, factory)
    export_onnx(done.model, out.with_suffix(".onnx"), size)
    with whole(out.with_suffix(".json")) as path:
        values = done.to_dict() | dict(told or {})
        path.write_text(json.dumps(values, indent=1, default=str), "utf-8")
    return done.path


def _brief(done: Pruning) -> dict[str, Any]:
    return {
        "target": {done.target.name: done.target.value},
        "reached": done.reached,
        "iterations": len(done.history),
        "when": time.strftime("%Y-%m-%d"),
    }
