"""A ResNet-50 depth network with gates: d1, multiply-adds and milliseconds over density.

One trained network gets gates, whose density is lowered in steps with fine-tuning between. Every
density's network is kept in --save, so that an interrupted run goes on; `static` prunes the
network uniformly until it is as fast as the one at --static-at and trains it for as many epochs;
`measure` times all of them on held-out images beside one another and writes sweep.json, which
`compress report SAVE/sweep.json --figures` draws.

    compress train resnet-depth@paper --data scenes --size 96x128 --epochs 12 -o base.safetensors
    python benchmarks/gated.py base.safetensors --data scenes --save gated-scenes
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

from compress._files import whole
from compress.cost import cost
from compress.data import open_data
from compress.gating.account import macs_over
from compress.gating.bench import eager, images_at, static_twin, time_networks
from compress.gating.executor import GatedExecutor, dense_executor
from compress.gating.sites import find_sites, sites
from compress.gating.train import Phases, Progress, schedule, train_gates
from compress.models import DepthNet, load, save
from compress.models.gates import attach, gates_of
from compress.pruning.task import DepthTask
from compress.search.run import environment
from compress.space.genotype import input_size

DENSITIES = (0.9, 0.8, 0.7, 0.5, 0.3)
WAYS = ("gate", "longer", "static", "measure")


class Run:
    """One base network on one data set."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.save = args, Path(args.save)
        self.save.mkdir(parents=True, exist_ok=True)
        self.base = load(args.model)
        self.size = input_size([int(v) for v in args.size.split("x")], "--size")
        self.data = open_data(args.data)
        recipe = {"batch": args.batch, "lr": args.lr}
        self.task = DepthTask(self.data, self.size, recipe, seed=args.seed)

    def path(self, name: str) -> Path:
        return self.save / f"{name}.safetensors"

    def keep(self, name: str, model: DepthNet, epochs: int) -> None:
        counted = cost(model, self.size)
        row: dict[str, Any] = {"network": name, "params": counted.params, "macs": counted.macs}
        row["epochs"] = epochs
        for part, found in self.task.evaluate(model).items():
            row |= {f"{part}_{k}": found.metrics[k] for k in ("delta1", "abs_rel", "rmse")}
        with whole(self.save / f"{name}.json") as path:
            path.write_text(json.dumps(row, indent=1), "utf-8")
        save(model, self.path(name))
        print(json.dumps(row), flush=True)

    def row(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.save / f"{name}.json").read_text("utf-8"))
        return read

    def gate(self) -> None:
        """Lower the density from one of DENSITIES to the next."""
        if not self.path("base").is_file():
            self.keep("base", self.base, 0)
        model, epochs = copy.deepcopy(self.base), 0
        attach(model, sites(find_sites(model, self.size, self.args.where)), self.args.variant)
        above = 1.0
        for density in self.args.densities:
            name = f"gated-{density:g}"
            if self.path(name).is_file():
                model, epochs = load(self.path(name)), self.row(name)["epochs"]
                above = density
                continue
            first = above == 1.0
            start = self.args.start if first else 0
            phases = Phases(start, start, self.args.each, self.args.epochs, step=0.2)
            steps = schedule(dict.fromkeys(gates_of(model), density), phases)
            # What lies above the density reached is done.
            done = 0 if first else sum(s.density >= above - 1e-6 for s in steps[:-1])
            model = train_gates(
                model, self.task, density, phases=phases, reach=self.args.reach, done=done,
                on_epoch=told,
            )  # fmt: skip
            epochs += sum(step.epochs for step in steps[done:])
            self.keep(name, model, epochs)
            above = density

    def longer(self) -> None:
        """The dense network, trained on as long as the gated one was at --static-at."""
        epochs = self.row(f"gated-{self.args.static_at:g}")["epochs"]
        if not self.path("longer").is_file():
            self.keep("longer", self.task.finish(copy.deepcopy(self.base), epochs), epochs)

    def static(self) -> None:
        if self.path("static").is_file():
            return
        gated = load(self.path(f"gated-{self.args.static_at:g}"))
        epochs = self.row(f"gated-{self.args.static_at:g}")["epochs"]
        images = images_at(self.data.heldout, self.size, 16)
        pair = {
            "dense": dense_executor(self.base, self.size, threads=1),
            "gated": GatedExecutor(gated, self.size, threads=1, images=images[:2]),
        }
        ratio = time_networks(pair, images, threads=1, seconds=3.0).speedups["gated"].ratio
        cut = static_twin(self.base, 1 / ratio, images, threads=1)
        print(f"static: {cost(cut, self.size).macs / 1e6:.1f} M MACs for {ratio:.2f}x", flush=True)
        self.keep("static", self.task.finish(cut, epochs), epochs)

    def measure(self) -> None:
        images = images_at(self.data.heldout, self.size)
        some = images[:: max(1, len(images) // 32)]
        networks: dict[str, Any] = {"base": dense_executor(self.base, self.size, threads=1)}
        spreads = {}
        for density in sorted({*DENSITIES, *self.args.densities}, reverse=True):
            name = f"gated-{density:g}"
            if self.path(name).is_file():
                model = load(self.path(name))
                networks[name] = GatedExecutor(model, self.size, threads=1, images=some[:2])
                spreads[name] = macs_over(networks[name], images)
        if self.path("static").is_file():
            networks["static"] = dense_executor(load(self.path("static")), self.size, threads=1)
        networks["base, plain torch"] = eager(copy.deepcopy(self.base))
        timed = time_networks(networks, some, threads=1, seconds=self.args.seconds)
        sweep, others = [], {}
        for name, one in timed.latencies.items():
            row = self.row(name) if (self.save / f"{name}.json").is_file() else {}
            line = f"{name:<18}{one.median_ms:8.2f} [{one.low_ms:.2f}, {one.high_ms:.2f}] ms"
            known: dict[str, Any] = {"latency": one.to_dict()} | figures(row)
            if name in timed.speedups:
                ratio = timed.speedups[name]
                known["speedup"] = ratio._asdict()
                line += f"  {ratio.ratio:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
            if name in spreads:
                spread = spreads[name]
                promised = spread.dense / spread.mean
                gained = (timed.speedups[name].ratio - 1) / (promised - 1)
                known |= {
                    "density": float(name.split("-")[1]), "delta1": row["heldout_delta1"],
                    "epochs": row["epochs"], "share_gained": gained,
                    **{f"macs_{k}": v for k, v in spread.to_dict().items() if k != "images"},
                }  # fmt: skip
                sweep.append(known)
                line += (
                    f"  MACs {spread.mean / 1e6:.1f} M mean, {spread.p95 / 1e6:.1f} p95, "
                    f"{spread.worst / 1e6:.1f} worst ({promised:.2f}x); {gained:.0%} gained"
                )
            else:
                others[name] = known
            if row:
                line += f"  d1 {row['validation_delta1']:.4f} / {row['heldout_delta1']:.4f}"
            print(line)
        if (self.save / "longer.json").is_file():
            row = self.row("longer")
            others["longer"] = figures(row)
            print(f"longer  d1 {row['validation_delta1']:.4f} / {row['heldout_delta1']:.4f}")
        verdicts = sorted({one.verdict for one in timed.latencies.values()})
        print(", ".join(verdicts))
        least = min(sweep, key=lambda one: one["density"])
        result = {
            "density": least["density"], "before": others["base"], "after": least,
            "static": others.get("static"), "sweep": sweep, "others": others,
            "macs": {k[5:]: v for k, v in least.items() if k.startswith("macs_")},
            "verdicts": verdicts, "command": ["python", *sys.argv], "environment": environment(),
        }  # fmt: skip
        with whole(self.save / "sweep.json") as path:
            path.write_text(json.dumps(result, indent=1), "utf-8")


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """What is known of a network, as a result of ``compress gate`` has it."""
    found: dict[str, Any] = {k: row[k] for k in ("params", "macs", "epochs") if k in row}
    for part in ("validation", "heldout"):
        keys = [key for key in row if key.startswith(f"{part}_")]
        if keys:
            found[part] = {key.removeprefix(f"{part}_"): row[key] for key in keys}
    return found


def told(progress: Progress) -> None:
    print(
        f"{progress.number}/{progress.of} {progress.step.phase} {progress.step.density:.2f}  epoch "
        f"{progress.epoch.number}/{progress.epoch.of}  loss {progress.epoch.loss:.4f}  d1 "
        f"{progress.delta1:.4f}  {progress.epoch.seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a trained model file")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--size", default="96x128")
    parser.add_argument("--save", required=True)
    parser.add_argument("--epochs", type=int, default=2, help="at each density, after lowering it")
    parser.add_argument("--each", type=int, default=1, help="at each density on the way there")
    parser.add_argument("--reach", type=int, default=0, help="as compress gate has it")
    parser.add_argument("--static-at", type=float, default=0.5, help="one of --densities")
    parser.add_argument("--start", type=int, default=0, help="epochs at density 1, twice")
    parser.add_argument("--densities", type=float, nargs="+", default=DENSITIES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--where", default="all")
    parser.add_argument("--variant", default="fbs")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    args = parser.parse_args()
    run = Run(args)
    for way in args.only:
        getattr(run, way)()


if __name__ == "__main__":
    main()
