"""``compress prune``: what it is asked, what it tells while it runs, what it answers."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.errors import CompressError


def prune(args: Namespace) -> int:
    """Prune a network to a target; the same command goes on after an interruption."""
    from compress.cli.commands import print_json
    from compress.cli.shrinking import Adding, depth_task, page_of, run_of
    from compress.cost.backends import backend_called
    from compress.cost.latency import Latency
    from compress.pruning.keeper import clear
    from compress.pruning.netadapt import Iteration, Schedule
    from compress.pruning.run import prune, write_result
    from compress.pruning.target import Events, Place, Target
    from compress.pruning.task import CallableTask
    from compress.report.live import checked_every
    from compress.report.pruned import write_pruning_report
    from compress.search.store import prepare_folder

    every_s = checked_every(args.every, args.live)
    backend_called(args.backend)  # a mistyped one shows before anything else
    target = Target(args.target_latency, args.target_macs, args.target_params, args.ratio)
    user_made = ":" in args.model and not Path(args.model).exists()
    if user_made and not args.evaluate:
        raise CompressError(
            f"{args.model}: a network of your own needs --evaluate my_package.eval:score, a "
            "function that takes it and returns a number, more is better"
        )
    if args.evaluate and not user_made:
        raise CompressError(
            "--evaluate goes with module:function; a model file is scored by its d1"
        )
    stem = args.model.replace(":", "-") if user_made else Path(args.model).stem
    out = Path(args.out or f"{stem}-pruned.safetensors")
    prepare_folder(out.absolute().parent)

    class Told(Adding, Events):
        """A line for each step, on stderr; parts of the result for the live page."""

        def note(self, text: str) -> None:
            print(text, file=sys.stderr)

        def iteration(self, step: Iteration, goal: float) -> None:
            print(
                f"{step.number:>4}  {_amount(target.name, step.resource)} of "
                f"{_amount(target.name, goal)}  accuracy {step.accuracy:.4f}  "
                f"{step.layer} {step.before} -> {step.after}  {step.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )

        def measured(self, latency: Latency, predicted_ms: float) -> None:
            print(
                f"      measured {latency.median_ms:.2f} ms [{latency.low_ms:.2f}, "
                f"{latency.high_ms:.2f}], predicted {predicted_ms:.2f} ms; {latency.verdict}",
                file=sys.stderr,
                flush=True,
            )

    def task(size: tuple[int, int]) -> Any:
        if user_made:
            return CallableTask(args.evaluate, args.finetune)
        return depth_task(args, size)

    table = _table(args) if target.latency_ms is not None else None
    schedule = Schedule.of(args.method, table.step if table else None)
    schedule = replace(schedule, short_steps=args.short_steps, step=args.step or schedule.step)
    # These do not change how layers are cut.
    unasked = ("out", "json", "debug", "run", "epochs", "words", "live", "every")
    asked = {key: value for key, value in vars(args).items() if key not in unasked}
    work = out.with_name(f".{out.stem}.prune")
    told = run_of(args)
    with page_of(out, told, every_s) as add:
        done = prune(
            args.model,
            target,
            task,
            size=args.size,
            place=Place(args.backend, args.threads, args.seconds),
            table=table,
            method=args.method,
            importance=args.importance,
            schedule=schedule,
            epochs=args.epochs,
            weights=args.weights,
            folder=work,
            asked=asked,
            events=Told(add),
        )
    if not done.nothing_to_do:
        size = args.size or done.model.size
        factory = args.model if user_made else None
        write_result(done, out, size, factory, told)  # type: ignore[arg-type]
        write_pruning_report(out.with_suffix(".json"), out.with_suffix(".html"))
        clear(work)
    if args.json:
        print_json(done.to_dict())
    else:
        _tell(done)
    if not done.reached:
        print(
            f"compress prune: the target of {_amount(target.name, target.value)} was not reached: "
            f"{_reached(done)}; the best network is {done.path}",
            file=sys.stderr,
        )
    return 0 if done.reached else 2


def _table(args: Namespace) -> Any:
    """The device table; None, said, where there is none."""
    from compress.cost.table import find_table

    try:
        return find_table(args.backend, args.threads, args.table)
    except CompressError as error:
        if args.table:
            raise
        print(
            f"no device table ({error}): latency is taken to follow multiply-adds, and corrected "
            "by measuring",
            file=sys.stderr,
        )
        return None


def _amount(name: str, value: float) -> str:
    from compress.search.config import human

    if name == "ratio":
        return f"{value:g} of all channels"
    return f"{value:.2f} ms" if name == "latency_ms" else f"{human(value)} {name}"


def _reached(done: Any) -> str:
    name = done.target.name
    if name == "latency_ms":
        found = done.after["latency"]
        return f"{found['median_ms']:.2f} ms [{found['low_ms']:.2f}, {found['high_ms']:.2f}]"
    return _amount(name, done.after[name])


def _tell(done: Any) -> None:
    name = done.target.name
    if done.nothing_to_do:
        found = _reached(done)
        print(f"nothing to do: {found} is within {_amount(name, done.target.value)} already")
        return
    print(f"{'':<12}{'before':>16}{'after':>16}")
    for key in ("params", "macs"):
        print(f"{key:<12}{done.before[key]:>16,}{done.after[key]:>16,}")
    for key in ("accuracy",):
        print(f"{key:<12}{done.before[key]:>16.4f}{done.after[key]:>16.4f}")
    if "latency" in done.after:
        for key in ("median_ms", "low_ms", "high_ms"):
            print(
                f"{key:<12}{done.before['latency'][key]:>16.3f}{done.after['latency'][key]:>16.3f}"
            )
        ratio = done.after["speedup"]
        print(
            f"{ratio['ratio']:.2f}x as fast, measured [{ratio['low']:.2f}, {ratio['high']:.2f}] on "
            f"{done.after['latency']['backend']}; {done.after['latency']['verdict']}"
        )
    for part in ("validation", "heldout"):
        for name, figures in (("before", done.before), ("after", done.after)):
            if part in figures:
                keys = ("delta1", "abs_rel", "rmse")
                line = "  ".join(f"{key} {figures[part][key]:.4f}" for key in keys)
                print(f"{part:<12}{name:<8}{line}")
    if done.table:
        print(f"predicted by a device table: {done.table}")
    if done.path:
        print(f"saved to {done.path} and {done.path.with_suffix('.onnx')}")
        print(f"report: {done.path.with_suffix('.html')}")
