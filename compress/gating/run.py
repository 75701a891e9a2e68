"""``compress gate``: gates put in, trained, measured, and set beside a static network as fast."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from compress._files import whole
from compress.cost import cost
from compress.errors import CompressError
from compress.export import export_onnx
from compress.gating.account import MacsSpread, macs_over
from compress.gating.bench import eager, images_at, static_twin, time_networks
from compress.gating.executor import GatedExecutor, dense_executor
from compress.gating.macs import expected_macs
from compress.gating.sites import find_sites, sites
from compress.gating.stages import Tried, by_gate, search_stages
from compress.gating.sweep import entry, sweep
from compress.gating.train import LAM, REACH, Phases, Progress, Step, schedule, train_gates
from compress.models import DepthNet, load, save
from compress.models.gates import attach, checked_density, gates_of, set_density
from compress.pruning.keeper import Keeper
from compress.pruning.task import DepthTask

IMAGES = 16  # real ones, that latency is taken on
HALVINGS = 6  # of the density that meets a latency
LEAST = 0.05  # density
ROUNDS = 3  # of training on at a lower density, where measuring shows that a latency is missed
MARGIN = 0.97  # a density is chosen for a little less than the target
BRIEF_S = 0.7  # of a measurement while a density is looked for


class Events:
    """What a gating tells while it runs; override what is wanted."""

    def note(self, text: str) -> None:
        """Anything worth a line."""

    def epoch(self, progress: Progress) -> None:
        """An epoch is over."""

    def so_far(self, values: Mapping[str, Any]) -> None:
        """Parts of what the result's JSON will hold, as they come to be known."""


@dataclass
class Gating:
    """How a gating ended.

    ``before``, ``after`` and ``static`` hold figures of the dense network, the gated one and a
    uniformly pruned one that is as fast: params, macs, latency, speedup, validation, heldout.
    ``plan`` says how each convolution runs, and what each of its modes took; ``stages`` the
    densities that were searched for, by stage.
    """

    model: DepthNet
    target_ms: float | None
    reached: bool
    densities: dict[str, float]
    before: dict[str, Any]
    after: dict[str, Any]
    macs: MacsSpread
    plan: list[dict[str, Any]]
    threads: int
    static: dict[str, Any] | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    path: Path | None = None

    @property
    def density(self) -> float:
        """Mean over gates."""
        return sum(self.densities.values()) / len(self.densities)

    def to_dict(self) -> dict[str, Any]:
        """What ``compress gate --json`` prints."""
        return {
            "model": str(self.path) if self.path else None,
            "density": self.density,
            "densities": self.densities,
            "target": None if self.target_ms is None else {"latency_ms": self.target_ms},
            "reached": self.reached,
            "threads": self.threads,
            "before": self.before,
            "after": self.after,
            "macs": self.macs.to_dict(),
            "static": self.static,
            "better": self.better(),
            "plan": self.plan,
            "sweep": sweep(self.epochs, self.after["latency"]["median_ms"]),
            "epochs": self.epochs,
            "stages": self.stages,
        }

    def better(self) -> str:
        """Whether gating pays here, and whether static pruning does better; "" if not compared."""
        if self.after["speedup"]["ratio"] <= 1:
            return "gating does not pay here: it is slower than the dense network"
        if self.static is None:
            return ""
        mine, other = (figures["heldout"]["delta1"] for figures in (self.after, self.static))
        apart = 100 * (mine - other)
        if abs(apart) < 0.05:
            return "gating and static pruning come out alike at this latency"
        which, loses = ("gating", "static pruning") if apart > 0 else ("static pruning", "gating")
        return f"{which} is better here: {abs(apart):.1f} points of d1 more than {loses} as fast"


def gate(
    model: str | Path | DepthNet,
    task: Callable[[tuple[int, int]], DepthTask],
    *,
    density: float | None = None,
    target_ms: float | None = None,
    size: tuple[int, int] | None = None,
    variant: str = "fbs",
    block: int = 1,
    where: str = "all",
    phases: Phases | None = None,
    lam: float = LAM,
    reach: int = REACH,
    threads: int = 1,
    seconds: float = 5.0,
    static: bool = True,
    trials: int = 0,
    folder: Path | None = None,
    asked: Mapping[str, Any] | None = None,
    events: Events | None = None,
) -> Gating:
    """Add gates to a trained network, train them, lower the density, and measure what came of it.

    Args:
        model: a model file or network, without gates.
        task: data, and how to fine-tune, given the input size.
        density: share of each gate's channels that stay.
        target_ms: or the latency to meet, at which layers where gathering does not pay stay dense.
        size: network input (height, width); default: the model's own.
        variant: "fbs", or "dp" whose norms have no shift.
        block: channels win or lose in runs of so many.
        where: "all" or "encoder".
        phases: epochs of each phase.
        lam: weight of the gates' predictions in the loss.
        reach: channels that a gate may read for its predictor to learn at the whole rate; 0: all.
        threads: of torch, in what is measured.
        seconds: about how long each network is measured.
        static: whether to make the uniformly pruned network that is as fast, trained as long.
        trials: of a search for a density of each stage, at the multiply-adds of ``density``, once
            the network is there; 0: the same everywhere.
        folder: where progress is kept; an interrupted run goes on from there.
        asked: what makes two runs the same; anything JSON.
        events: is told what happens.

    Raises:
        CompressError: anything wrong with what was asked; nothing to gate; a target that the
            dense network meets already or that no density reaches.
    """
    events, phases = events or Events(), phases or Phases()
    if (density is None) == (target_ms is None):
        raise CompressError("give one of --density and --target-latency")
    if density is not None:
        checked_density(density)
    if trials and density is None:
        raise CompressError(
            "a density for each stage is searched for at that of --density; give it"
        )
    original = model if isinstance(model, DepthNet) else load(model)
    if gates_of(original):
        raise CompressError(f"{model}: has gates already; give the network without them")
    at = size or original.size
    put = sites(find_sites(original, at, where))
    work = task(at)
    images = images_at(work.dataset.heldout, at, IMAGES)
    dense_ms = _quickly(dense_executor(original, at, threads=threads), images, threads)
    if target_ms is not None and target_ms >= dense_ms:
        raise CompressError(
            f"--target-latency {target_ms:g}ms: the dense network takes {dense_ms:.2f} ms already; "
            "ask for less"
        )
    keeper = Keeper(folder, asked or {}, None) if folder else None
    held = keeper.open() if keeper else None
    state: dict[str, Any] = {"history": [], "predictions": [], "epochs": []}
    if held is not None:
        gated, state = held
        assert isinstance(gated, DepthNet)
        events.note(f"going on after {len(state['history'])} steps of the schedule")
    else:
        gated = copy.deepcopy(original)
        attach(gated, put, variant, block=block)
        state["densities"] = (
            dict.fromkeys(gates_of(gated), float(density))
            if density is not None
            else _densities_for(gated, float(target_ms or 0), images, threads, events)
        )

    def told(progress: Progress) -> None:
        state["epochs"].append(entry(progress, state["epochs"], lambda: expected_macs(gated, at)))
        events.epoch(progress)
        tell()

    def tell() -> None:
        events.so_far(
            {
                "target": None if target_ms is None else {"latency_ms": target_ms},
                "density": _mean(state["densities"]),
                "densities": dict(state["densities"]),
                "epochs": list(state["epochs"]),
                "sweep": sweep(state["epochs"]),
            }
        )

    def keep(net: DepthNet, done: int, step: Step) -> None:
        state["history"].append(step.phase)
        if keeper:
            keeper.store(net, state)

    tell()
    # Where densities are searched for, the last phase is at what is found.
    way = replace(phases, final=0, each=max(1, phases.each)) if trials else phases
    if "stages" not in state:
        gated = train_gates(
            gated, work, state["densities"], phases=way, lam=lam, reach=reach,
            done=len(state["history"]), on_epoch=told, on_step=keep,
        )  # fmt: skip
    if trials and density is not None and not state.get("finished"):
        if "stages" not in state:
            journal = folder / "densities.journal" if folder else None
            state |= _searched(gated, work, density, trials, journal, events)
            if keeper:
                keeper.store(gated, state)
        gated = _last_phase(gated, work, state["densities"], phases.final, lam, reach, told)
        state["finished"] = True
        if keeper:
            keeper.store(gated, state)
    for _ in range(ROUNDS if target_ms is not None else 0):
        taken = _quickly(_executor(gated, images, threads), images, threads)
        if taken <= MARGIN * float(target_ms or 0):
            break
        share = MARGIN * float(target_ms or 0) / taken
        state["densities"] = {
            path: value if value == 1 else max(LEAST, value * share)
            for path, value in state["densities"].items()
        }
        events.note(f"{taken:.2f} ms: training on at density {_mean(state['densities']):.2f}")
        epochs = max(1, phases.final // 2)
        gated = _last_phase(gated, work, state["densities"], epochs, lam, reach, told)
    return _measured(
        original, gated, work, at, images, target_ms, threads, seconds,
        len(state["epochs"]) if static else 0, state, events,
    )  # fmt: skip


def _last_phase(
    gated: DepthNet,
    work: DepthTask,
    densities: Mapping[str, float],
    epochs: int,
    lam: float,
    reach: int,
    told: Callable[[Progress], None],
) -> DepthNet:
    """Train at these densities, with nothing before."""
    phases = Phases(0, 0, 0, max(1, epochs))
    done = len(schedule(densities, phases)) - 1
    return train_gates(
        gated, work, densities, phases=phases, lam=lam, reach=reach, on_epoch=told, done=done
    )


def _searched(
    gated: DepthNet, work: DepthTask, density: float, trials: int, journal: Path | None,
    events: Events,
) -> dict[str, Any]:  # fmt: skip
    """A density for each stage, as a part of the state."""

    def told(tried: Tried) -> None:
        shares = " ".join(f"{value:.2f}" for value in tried.densities.values())
        events.note(f"densities {tried.number + 1}/{trials}  {shares}  d1 {tried.delta1:.4f}")

    best, stages = search_stages(
        gated, work, density, trials=trials, journal=journal, on_trial=told
    )
    shares = ", ".join(f"{name}: {value:.2f}" for name, value in best.densities.items())
    events.note(f"densities by stage: {shares}")
    return {"stages": dict(best.densities), "densities": by_gate(stages, best.densities)}


def _measured(
    original: DepthNet,
    gated: DepthNet,
    work: DepthTask,
    at: tuple[int, int],
    images: Sequence[Tensor],
    target_ms: float | None,
    threads: int,
    seconds: float,
    static_epochs: int,
    state: Mapping[str, Any],
    events: Events,
) -> Gating:
    """Time, score and count the dense, the gated and the static network."""
    executor = _executor(gated, images, threads)
    networks: dict[str, Any] = {
        "before": dense_executor(original, at, threads=threads),
        "after": executor,
        "eager": eager(copy.deepcopy(original)),
    }
    nets = {"before": original, "after": gated}
    if static_epochs:
        share = _quickly(executor, images, threads) / _quickly(networks["before"], images, threads)
        events.note(f"looking for a static network that takes {share:.2f} of the dense one's time")
        try:
            cut = static_twin(original, min(1.0, share), images, threads=threads)
        except CompressError as error:
            events.note(str(error))
        else:
            events.note(f"training it for {static_epochs} epochs, as long as the gated one")
            nets["static"] = work.finish(cut, static_epochs)
            networks["static"] = dense_executor(nets["static"], at, threads=threads)
    timed = time_networks(networks, images, threads=threads, seconds=seconds)
    figures: dict[str, dict[str, Any]] = {}
    for name, net in nets.items():
        counted = cost(net, at)
        figures[name] = {"params": counted.params, "macs": counted.macs}
        figures[name] |= {part: one.to_dict() for part, one in work.evaluate(net).items()}
        figures[name]["latency"] = timed.latencies[name].to_dict()
        if name in timed.speedups:
            figures[name]["speedup"] = timed.speedups[name]._asdict()
    figures["before"]["eager"] = timed.latencies["eager"].to_dict()
    events.note("counting what each held-out image needs")
    spread = macs_over(executor, images_at(work.dataset.heldout, at))
    return Gating(
        gated, target_ms,
        target_ms is None or timed.latencies["after"].high_ms <= target_ms,
        {path: one.density for path, one in gates_of(gated).items()},
        figures["before"], figures["after"], spread,
        [dict(one) for one in executor.plan.to_dict()["layers"]], threads, figures.get("static"),
        list(state["epochs"]), dict(state.get("stages", {})),
    )  # fmt: skip


def _executor(model: DepthNet, images: Sequence[Tensor], threads: int) -> GatedExecutor:
    size = (images[0].shape[-2], images[0].shape[-1])
    return GatedExecutor(model, size, threads=threads, images=images[:2])


def _quickly(network: Any, images: Sequence[Tensor], threads: int) -> float:
    taken = time_networks({"one": network}, images, threads=threads, seconds=BRIEF_S)
    return taken.latencies["one"].median_ms


def _densities_for(
    gated: DepthNet, target_ms: float, images: Sequence[Tensor], threads: int, events: Events
) -> dict[str, float]:
    """One density for all layers where gathering pays on this machine, the others dense.

    The largest that is measured to meet the target, before anything is trained: how many channels
    win does not depend on training.
    """
    low, high = LEAST, 1.0
    found: dict[str, float] | None = None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        set_density(gated, middle)
        modes = {one.path: one.mode for one in _executor(gated, images, threads).plan.layers}
        dense = {path for path, mode in modes.items() if mode.startswith("dense")}
        tried = {path: 1.0 if path in dense else middle for path in gates_of(gated)}
        set_density(gated, tried)
        taken = _quickly(_executor(gated, images, threads), images, threads)
        events.note(
            f"density {middle:.2f} in {sum(v < 1 for v in tried.values())} of {len(tried)} layers: "
            f"{taken:.2f} ms"
        )
        if taken <= MARGIN * target_ms:
            low, found = middle, tried
        else:
            high = middle
    if found is None:
        raise CompressError(
            f"--target-latency {target_ms:g}ms cannot be reached by gates: at density "
            f"{LEAST:g} this network takes {taken:.2f} ms; ask for more, or prune it first"
        )
    return found


def _mean(densities: Mapping[str, float]) -> float:
    return sum(densities.values()) / len(densities)


def write_result(
    done: Gating, out: Path, size: tuple[int, int], told: Mapping[str, Any] | None = None
) -> Path:
    """Save the network, its ONNX export with gates as masks (checked), and what happened."""
    done.model.info = dict(done.model.info) | {
        "params": done.after["params"],
        "macs": done.after["macs"],
        "validation": done.after["validation"],
        "heldout": done.after["heldout"],
        "gating": {
            "density": done.density,
            "macs": done.macs.to_dict(),
            "latency": done.after["latency"],
            "threads": done.threads,
            "when": time.strftime("%Y-%m-%d"),
        },
    }
    done.path = save(done.model, out)
    export_onnx(done.model, out.with_suffix(".onnx"), size)
    with whole(out.with_suffix(".json")) as path:
        values = done.to_dict() | dict(told or {})
        path.write_text(json.dumps(values, indent=1, default=str), "utf-8")
    return done.path
