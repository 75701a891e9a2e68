"""The commands that measure: ``bench`` and ``calibrate``."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from compress.errors import CompressError

if TYPE_CHECKING:
    from compress.cost.latency import Comparison, Latency
    from compress.cost.timing import Ratio

RANDOM = "random weights: latency does not depend on them"


def bench(args: Namespace) -> int:
    """Measure networks beside one another."""
    from compress.cli.commands import print_json
    from compress.cost.latency import compare_latency
    from compress.models import build
    from compress.space import Genotype
    from compress.train.run import open_model

    if args.data:
        return _on_real_images(args)
    models: dict[str, Any] = {}
    drawn = set()
    for word in [args.against, *args.model] if args.against else args.model:
        name, count = word, 1
        while name in models:  # a network against itself tells what the machine can tell apart
            count += 1
            name = f"{word} ({count})"
        opened = open_model(word)
        if isinstance(opened, Genotype):
            drawn.add(name)
            opened = build(opened, seed=0)
        models[name] = opened
    if sys.stderr.isatty():  # a live display would take the processor from what is measured
        print(f"measuring {len(models)} on {args.backend} ...", file=sys.stderr)
    result = compare_latency(
        models,
        args.backend,
        threads=args.threads,
        size=args.size,
        preset=args.preset,
        runs=args.runs,
        seconds=args.seconds,
        seed=args.seed,
    )
    if args.json:
        print_json(_described(result, drawn))
    else:
        _tell(result, drawn)
    return 0


def _on_real_images(args: Namespace) -> int:
    from compress.cli.gating import bench_gated
    from compress.models import load
    from compress.models.gates import gates_of

    if len(args.model) != 1 or args.against:
        raise CompressError("--data goes with one network with gates, and without --against")
    model = load(args.model[0])
    if not gates_of(model):
        raise CompressError(
            f"{args.model[0]}: has no gates, so that its latency does not depend on the image; "
            "leave out --data"
        )
    return bench_gated(args, model)


def calibrate(args: Namespace) -> int:
    """Measure this device's table."""
    from compress.cli.commands import print_json
    from compress.cost.calibrate import SPACES
    from compress.cost.calibrate import calibrate as run

    live = sys.stderr.isatty()
    end = "\x1b[K\r" if live else "\n"
    try:
        table, path = run(
            args.backend,
            threads=args.threads,
            minutes=args.minutes,
            spaces=args.space or SPACES,
            size=args.size,
            out=args.out,
            tell=lambda said: print(said, end=end, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        print("the same command goes on from here", file=sys.stderr)
        raise
    if live:
        print("\x1b[K", end="", file=sys.stderr)
    if args.json:
        print_json({"table": str(path)} | table.to_dict())
        return 0
    sizes = ", ".join(f"{height}x{width}" for height, width in table.sizes)
    print(f"{path}")
    print(f"  fitted to {table.measured} measurements at {sizes}; {table.clock}")
    if table.step:
        print(f"  latency rises every {table.step} channels: prune keeps multiples of it")
    print(f"  {table.proof.describe() if table.proof else 'no network was left to prove it on'}")
    return 0


def _described(result: Comparison, drawn: set[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "models": {
            name: one.to_dict() | {"random_weights": name in drawn}
            for name, one in result.latencies.items()
        }
    }
    if result.speedups:
        answer["against"] = next(iter(result.latencies))
        answer["speedups"] = {name: one._asdict() for name, one in result.speedups.items()}
    return answer


def _tell(result: Comparison, drawn: set[str]) -> None:
    first, some = next(iter(result.latencies.items()))
    threads = "" if some.backend == "cuda" else f", {some.threads} thread{'s'[: some.threads > 1]}"
    print(f"{some.backend}{threads}; {', '.join(f'{k} {v}' for k, v in some.device.items())}")
    for name, one in result.latencies.items():
        _tell_one(name, one, name in drawn)
    for name, ratio in result.speedups.items():
        print(_compared(name, ratio, first))


def _compared(name: str, ratio: Ratio, first: str) -> str:
    if ratio.high < 1:
        interval = f"{1 / ratio.ratio:.3f} [{1 / ratio.high:.3f}, {1 / ratio.low:.3f}]"
        return f"{name} takes {interval} times as long as {first}"
    interval = f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    if ratio.told_apart:
        return f"{name} is {interval} times as fast as {first}"
    return f"{name} and {first} cannot be told apart: {interval} times as fast"


def _tell_one(name: str, one: Latency, random_weights: bool) -> None:
    print(
        f"{name} at {one.size[0]}x{one.size[1]}" + (f" ({RANDOM})" if random_weights else ""),
        f"  median   {one.median_ms:.3f} ms, 95 % interval {one.low_ms:.3f} to {one.high_ms:.3f} "
        f"({one.runs} runs in {one.rounds} rounds, {one.image} image)",
        f"  spread   5 % under {one.p5_ms:.3f} ms, 5 % over {one.p95_ms:.3f} ms, "
        f"mean {one.mean_ms:.3f} ms",
        f"  speed    {one.fps:.1f} images/s, one at a time",
        sep="\n",
    )
    if one.peak_memory_mb is not None:
        print(f"  memory   {one.peak_memory_mb:.1f} MB at peak, the library's own apart")
    if one.joules_per_image is None:
        print(f"  energy   {one.power_sensor}")
    else:
        print(
            f"  energy   {one.joules_per_image:.4g} J an image, "
            f"{one.images_per_s_per_watt:.4g} images/s/watt ({one.power_sensor})"
        )
    for note in one.notes:
        print(f"  note     {note}")
    print(f"  verdict  {one.verdict}")
