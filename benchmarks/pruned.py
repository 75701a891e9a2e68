"""FastDepth pruned to shares of its measured latency, beside other ways to get there.

Everything starts from one trained network and gets the same long fine-tuning; the ways differ in
which channels go. Networks and what is known of them are kept in --save, so that an interrupted
run goes on; `measure` then times all of them beside one another.

    compress train fastdepth@original --data scenes --size 128x160 --epochs 20 -o base.safetensors
    python benchmarks/pruned.py base.safetensors --data scenes --save pruned-scenes

- ours: `compress prune --target-latency` to .75, .5 and .35, each from the one before.
- uniform: Torch-Pruning's magnitude pruner, the same share of every layer, to the latency of .5.
- published: the literal NetAdapt algorithm to the latency of .5.
- longer: the network as it is, trained on for as long as the others are fine-tuned.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from torch import nn

from compress._files import whole
from compress.cost import cost
from compress.cost.latency import Latency, compare_latency
from compress.cost.table import DeviceTable, find_table
from compress.data import open_data
from compress.models import DepthNet, load, save
from compress.pruning.groups import results
from compress.pruning.netadapt import Iteration, Schedule
from compress.pruning.run import prune
from compress.pruning.target import Events, Place, Target
from compress.pruning.task import DepthTask
from compress.space.genotype import input_size

SHARES = (0.75, 0.5, 0.35)
WAYS = ("ours", "uniform", "longer", "published", "measure")
# Beside other programs the thread's own processor time says more than the time that passes;
# `measure` takes the latter.
PLACE = Place(seconds=3.0, clock=time.thread_time_ns)


@dataclass(frozen=True)
class Beside(Place):
    """Measures every network beside the one that all began with, whose latency is known.

    What else runs on the machine then slows both, and the ratio says what it is alone.
    """

    base: nn.Module | None = None
    base_ms: float = 1.0

    def measure(self, model: nn.Module, size: tuple[int, int]) -> Latency:
        assert self.base is not None
        both = self.compare({"base": self.base, "cut": model}, size)
        ratio, found = both.speedups["cut"], both.latencies["cut"]
        return replace(
            found, median_ms=self.base_ms / ratio.ratio, low_ms=self.base_ms / ratio.high,
            high_ms=self.base_ms / ratio.low,
        )  # fmt: skip


class Told(Events):
    def note(self, text: str) -> None:
        print(text, flush=True)

    def iteration(self, step: Iteration, goal: float) -> None:
        print(
            f"{step.number:>3} {step.resource:.3f} of {goal:.3f} ms  d1 {step.accuracy:.4f}  "
            f"{step.layer} {step.before} -> {step.after}  {step.seconds:.0f} s",
            flush=True,
        )

    def measured(self, latency: Any, predicted_ms: float) -> None:
        print(
            f"    measured {latency.median_ms:.3f} [{latency.low_ms:.3f}, {latency.high_ms:.3f}] "
            f"ms, predicted {predicted_ms:.3f}; {latency.verdict}",
            flush=True,
        )


class Run:
    """One base network on one data set."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.save = args, Path(args.save)
        self.save.mkdir(parents=True, exist_ok=True)
        self.base = load(args.model)
        self.table = (
            DeviceTable.load(args.table) if args.table else find_table(PLACE.backend, PLACE.threads)
        )
        self.size = input_size([int(v) for v in args.size.split("x")], "--size")
        data = open_data(args.data)
        self.task = DepthTask(data, self.size, {"batch": args.batch, "lr": args.lr}, seed=args.seed)

    def kept(self, name: str) -> DepthNet | None:
        path = self.save / f"{name}.safetensors"
        return load(path) if path.is_file() else None

    def keep(self, name: str, model: DepthNet, **known: Any) -> None:
        counted = cost(model, self.size)
        found = self.task.evaluate(model)
        row = {"network": name, "params": counted.params, "macs": counted.macs, **known}
        row |= {
            f"{part}_{key}": one.metrics[key]
            for part, one in found.items()
            for key in ("delta1", "abs_rel", "rmse")
        }
        with whole(self.save / f"{name}.json") as path:
            path.write_text(json.dumps(row, indent=1), "utf-8")
        save(model, self.save / f"{name}.safetensors")
        print(json.dumps({k: v for k, v in row.items() if not isinstance(v, list)}), flush=True)

    def finished(self, name: str, model: DepthNet, **known: Any) -> None:
        began = time.monotonic()
        tuned = self.task.finish(copy.deepcopy(model), self.args.epochs)
        self.keep(name, tuned, finetune_s=time.monotonic() - began, **known)

    def base_ms(self) -> float:
        path = self.save / "base.json"
        if not path.is_file():
            self.keep("base", self.base, median_ms=PLACE.measure(self.base, self.size).median_ms)
        return float(json.loads(path.read_text("utf-8"))["median_ms"])

    def place(self) -> Beside:
        return Beside(seconds=3.0, clock=PLACE.clock, base=self.base, base_ms=self.base_ms())

    def adapted(self, start: DepthNet, share: float, method: str, schedule: Schedule) -> Any:
        began = time.monotonic()
        target = Target(latency_ms=share * self.base_ms())
        done = prune(
            start, target, lambda _: self.task, size=self.size, place=self.place(),
            table=self.table, method=method, schedule=schedule, epochs=0, events=Told(),
            folder=self.save / f".{method}-{share:g}", asked=vars(self.args),
        )  # fmt: skip
        known = {
            "asked_ms": target.value,
            "reached": done.reached,
            "iterations": len(done.history),
            "tuned": sum(step.tuned for step in done.history),
            "proposed": sum(step.tried for step in done.history),
            "search_s": time.monotonic() - began,
            "predictions": done.predictions,
        }
        return done.model, known

    def ours(self) -> None:
        multiple = self.args.multiple or self.table.step or 8
        schedule = Schedule(multiple=multiple, short_steps=self.args.short_steps)
        start = self.base
        for share in self.args.shares:
            cut = self.kept(f"cut-{share:g}")
            if cut is None:
                cut, known = self.adapted(start, share, "netadapt", schedule)
                self.keep(f"cut-{share:g}", cut, **known)
            if self.kept(f"ours-{share:g}") is None:
                self.finished(f"ours-{share:g}", cut)
            start = cut

    def published(self) -> None:
        name = "published-0.5"
        if self.kept(name) is None:
            schedule = Schedule.published(self.args.published_steps)
            cut, known = self.adapted(self.base, 0.5, "netadapt-published", schedule)
            self.finished(name, cut, **known)

    def longer(self) -> None:
        if self.kept("longer") is None:
            self.finished("longer", self.base)

    def uniform(self) -> None:
        """Bisect the pruner's ratio until the cut network is as fast as ours, by measurement."""
        if self.kept("uniform-0.5") is not None:
            return
        ours = self.kept("ours-0.5")
        goal = 0.5 * self.base_ms()
        if ours is not None:
            goal = self.place().measure(ours, self.size).median_ms
        low, high = 0.2, 0.8
        for _ in range(6):
            ratio = (low + high) / 2
            cut = uniformly_cut(self.base, self.size, ratio)
            taken = self.place().measure(cut, self.size).median_ms
            print(f"ratio {ratio:.3f}: {taken:.3f} ms of {goal:.3f}", flush=True)
            low, high = (low, ratio) if taken <= goal else (ratio, high)
        self.finished("uniform-0.5", uniformly_cut(self.base, self.size, high), ratio=high)

    def measure(self) -> None:
        names = ["base"] + [
            f"{way}-{share:g}"
            for way in ("ours", "uniform", "published")
            for share in SHARES
            if (self.save / f"{way}-{share:g}.safetensors").is_file()
        ]
        models = {name: load(self.save / f"{name}.safetensors") for name in names}
        both = compare_latency(
            models, PLACE.backend, threads=PLACE.threads, size=self.size, seconds=8.0,
            memory=False, energy=False,
        )  # fmt: skip
        for name in [*names, "longer"]:
            path = self.save / f"{name}.json"
            if not path.is_file():
                continue
            row = json.loads(path.read_text("utf-8"))
            line = f"{name:<14}{row['macs'] / 1e6:9.1f} M MACs {row['params'] / 1e6:7.3f} M params"
            line += f"  d1 {row['validation_delta1']:.4f} / held-out {row['heldout_delta1']:.4f}"
            if name in both.latencies:
                one = both.latencies[name]
                line += f"  {one.median_ms:.3f} [{one.low_ms:.3f}, {one.high_ms:.3f}] ms"
            if name in both.speedups:
                ratio = both.speedups[name]
                line += f"  {ratio.ratio:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
            print(line)
        print(", ".join(sorted({one.verdict for one in both.latencies.values()})))


def uniformly_cut(model: DepthNet, size: tuple[int, int], ratio: float) -> DepthNet:
    """Cut by Torch-Pruning: group magnitude, the same ratio everywhere, multiples of 8."""
    cut = copy.deepcopy(model).cpu().eval()
    image = torch.rand(1, 3, *size).requires_grad_()
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.MagnitudePruner(
            cut, image, torch_pruning.importance.MagnitudeImportance(p=2), pruning_ratio=ratio,
            ignored_layers=[cut.head.conv], round_to=8,
            forward_fn=lambda net, x: tuple(results(net, x)),
        )  # fmt: skip
        pruner.step()
    return cut.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a trained model file")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--size", default="128x160")
    parser.add_argument("--save", required=True)
    parser.add_argument("--epochs", type=int, default=10, help="of each long fine-tuning")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--short-steps", type=int, default=8)
    parser.add_argument("--published-steps", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the latency")
    parser.add_argument("--multiple", type=int, help="of channels kept (default: the device's)")
    parser.add_argument("--table", help="device table (default: this device's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    args = parser.parse_args()
    only = args.only
    del args.only
    run = Run(args)
    for way in only:
        getattr(run, way)()


if __name__ == "__main__":
    main()
