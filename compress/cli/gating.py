"""``compress gate``, and what ``evaluate`` and ``bench`` say of a network with gates."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any


def gate(args: Namespace) -> int:
    """Gate a network; the same command goes on after an interruption."""
    from compress.cli.commands import print_json
    from compress.cli.shrinking import Adding, depth_task, page_of, run_of
    from compress.cost.backends import checked_threads
    from compress.gating.run import Events, gate, write_result
    from compress.gating.train import Phases, Progress
    from compress.pruning.keeper import clear
    from compress.report.live import checked_every
    from compress.report.pruned import write_pruning_report
    from compress.search.store import prepare_folder

    every_s = checked_every(args.every, args.live)
    checked_threads(args.threads, "--threads")
    out = Path(args.out or f"{Path(args.model).stem}-gated.safetensors")
    prepare_folder(out.absolute().parent)

    class Told(Adding, Events):
        """A line for each step, on stderr; parts of the result for the live page."""

        def note(self, text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        def epoch(self, progress: Progress) -> None:
            step, epoch = progress.step, progress.epoch
            print(
                f"step {progress.number}/{progress.of} {step.phase:<9} density {step.density:.2f}  "
                f"epoch {epoch.number}/{epoch.of}  loss {epoch.loss:.4f}  d1 "
                f"{progress.delta1:.4f}  {epoch.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    # These do not change the network.
    unasked = ("out", "json", "debug", "run", "static", "seconds", "words", "live", "every")
    work = out.with_name(f".{out.stem}.gate")
    told = run_of(args)
    with page_of(out, told, every_s) as add:
        done = gate(
            args.model,
            partial(depth_task, args),
            density=args.density,
            target_ms=args.target_latency,
            size=args.size,
            variant=args.variant,
            block=args.block,
            where=args.where,
            phases=Phases(args.gate_epochs, args.joint_epochs, args.step_epochs, args.epochs),
            lam=args.lam,
            reach=args.reach,
            threads=args.threads,
            seconds=args.seconds,
            static=args.static,
            trials=args.per_stage,
            folder=work,
            asked={key: value for key, value in vars(args).items() if key not in unasked},
            events=Told(add),
        )
    write_result(done, out, args.size or done.model.size, told)
    write_pruning_report(out.with_suffix(".json"), out.with_suffix(".html"))
    clear(work)
    if args.json:
        print_json(done.to_dict())
    else:
        _tell(done)
    if not done.reached:
        took = done.after["latency"]
        print(
            f"compress gate: the target of {args.target_latency:.2f} ms was not reached: "
            f"{took['median_ms']:.2f} ms [{took['low_ms']:.2f}, {took['high_ms']:.2f}]; the best "
            f"network is {done.path}",
            file=sys.stderr,
        )
    return 0 if done.reached else 2


def _tell(done: Any) -> None:
    """The closing table: dense, gated, and static pruning at the same latency."""
    from compress.search.config import human

    columns: dict[str, Mapping[str, Any]] = {"dense": done.before, "gated": done.after}
    if done.static is not None:
        columns["static"] = done.static
    print(f"{'':<22}" + "".join(f"{name:>24}" for name in columns))

    def row(name: str, cells: list[str]) -> None:
        print(f"{name:<22}" + "".join(f"{cell:>24}" for cell in cells))

    row("latency (ms)", [_interval(one["latency"]) for one in columns.values()])
    row("times as fast", ["", *(_ratio(one["speedup"]) for one in list(columns.values())[1:])])
    row("params", [f"{one['params']:,}" for one in columns.values()])
    macs = {"dense": human(done.before["macs"]), "gated": human(done.macs.mean)}
    row("MACs, mean", [macs.get(name, human(one["macs"])) for name, one in columns.items()])
    spread = f"{human(done.macs.p95)} / {human(done.macs.worst)}"
    row("MACs, p95 / worst", ["", spread][: len(columns)])
    for part in ("validation", "heldout"):
        row(f"d1, {part}", [f"{one[part]['delta1']:.4f}" for one in columns.values()])
    row("AbsRel, heldout", [f"{one['heldout']['abs_rel']:.4f}" for one in columns.values()])
    eager = done.before["eager"]
    print(f"dense in plain torch: {_interval(eager)} ms; {done.after['latency']['verdict']}")
    gathered = sum(not one["mode"].startswith("dense") for one in done.plan)
    print(
        f"{gathered} of {len(done.plan)} convolutions compute only chosen channels; in the others "
        "that is not possible, or does not pay here"
    )
    if done.stages:
        shares = ", ".join(f"{name}: {value:.2f}" for name, value in done.stages.items())
        print(f"density by stage (its maps' size): {shares}")
    if done.better():
        print(done.better())
    print(
        f"saved to {done.path} and {done.path.with_suffix('.onnx')} (gates as masks there: the "
        "same depth, not faster)"
    )


def _interval(latency: Mapping[str, Any]) -> str:
    return f"{latency['median_ms']:.2f} [{latency['low_ms']:.2f}, {latency['high_ms']:.2f}]"


def _ratio(speedup: Mapping[str, Any]) -> str:
    return f"{speedup['ratio']:.2f}x [{speedup['low']:.2f}, {speedup['high']:.2f}]"


def spread_over(model: Any, data: str, size: tuple[int, int] | None, part: str, **how: Any) -> Any:
    """Multiply-adds of a gated network over a split: mean, 95th percentile, worst."""
    from compress.data import cut_validation, open_data
    from compress.gating.account import macs_over
    from compress.gating.bench import images_at
    from compress.gating.executor import GatedExecutor

    dataset = open_data(data, **how)
    frames = dataset.heldout
    if part == "validation" and dataset.train is not None:
        frames = cut_validation(dataset.train)[1]
    at = size or model.size
    images = images_at(frames, at)
    return macs_over(GatedExecutor(model, at, choose="gather", images=images[:1]), images)


def bench_gated(args: Namespace, model: Any) -> int:
    """Time a gated network on real images, beside the dense and a static one of its MACs."""
    from compress.cli.commands import print_json
    from compress.cli.training import data_options
    from compress.data import open_data
    from compress.gating.account import macs_over
    from compress.gating.bench import eager, images_at, time_networks
    from compress.gating.executor import GatedExecutor, dense_executor
    from compress.models import build
    from compress.pruning.depgraph import prune_to

    dataset = open_data(args.data, **data_options(args))
    at = args.size or model.size
    images = images_at(dataset.heldout, at, 32)
    gated = GatedExecutor(model, at, threads=args.threads, images=images[:2])
    spread = macs_over(gated, images)
    plain = build(model.genotype, seed=0)
    cut = prune_to(plain, max_macs=int(spread.mean), size=at, scope="uniform").model
    networks: dict[str, Any] = {
        "dense": dense_executor(plain, at, threads=args.threads),
        "gated": gated,
        "static": dense_executor(cut, at, threads=args.threads),
        "dense, plain torch": eager(plain),
    }
    timed = time_networks(networks, images, threads=args.threads, seconds=args.seconds or 10.0)
    answer = {
        "images": len(images),
        "threads": args.threads,
        "macs": spread.to_dict(),
        "latencies": {name: one.to_dict() for name, one in timed.latencies.items()},
        "speedups": {name: one._asdict() for name, one in timed.speedups.items()},
    }
    if args.json:
        print_json(answer)
        return 0
    print(
        f"torch, {args.threads} thread{'s'[: args.threads > 1]}, {len(images)} images of "
        f"{dataset.name} at {at[0]}x{at[1]}"
    )
    for name, one in timed.latencies.items():
        ratio = f"  {_ratio(timed.speedups[name]._asdict())}" if name in timed.speedups else ""
        print(f"  {name:<20}{_interval(one.to_dict()):>26} ms{ratio}")
    print(f"  {timed.latencies['gated'].verdict}")
    share = (timed.speedups["gated"].ratio - 1) / max(spread.dense / spread.mean - 1, 1e-9)
    print(
        f"  MACs {spread.mean / 1e6:.1f} M mean, {spread.p95 / 1e6:.1f} M p95, "
        f"{spread.worst / 1e6:.1f} M worst, {spread.dense / 1e6:.1f} M dense; "
        f"{share:.0%} of what they promise is gained"
    )
    print("  static: uniformly pruned to the mean MACs; timed only, not trained")
    return 0
