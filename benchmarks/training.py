"""Training images per second of the project's trainer, against a plain float32 NCHW loop.

Both train the same network on the same rendered scenes with the same views, loss, optimiser and
batch. Then: two candidates at once on a thread each, against one after the other on two threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from _timing import interleaved, interval, ratio, table

from compress.data import Arrays, open_data, resized
from compress.losses import make_loss
from compress.models import build, normalised
from compress.space import load_space
from compress.train.device import native_bfloat16
from compress.train.fit import Trainer
from compress.train.recipe import Recipe

SIZE = (96, 128)
CPU = torch.device("cpu")


@cache
def scenes() -> tuple[Arrays, float]:
    dataset = open_data("scenes")
    assert dataset.train is not None
    return resized(dataset.train, SIZE), dataset.cap_m


def trainer(seed: int, images: int, precision: str = "auto") -> Trainer:
    arrays, cap_m = scenes()
    part = Arrays(arrays.rgb[:images], arrays.depth_m[:images], arrays.names[:images])
    model = build(load_space("depthnet-nano").sample(seed), seed=0)
    return Trainer(model, part, Recipe(epochs=10_000, precision=precision), cap_m, CPU)


def epochs(made: Trainer) -> Callable[[], None]:
    return lambda: made.run(made.epoch + 1)


class PlainLoop:
    """What one writes first: float32, NCHW, AdamW without fusing."""

    def __init__(self, seed: int, images: int) -> None:
        self.other = trainer(seed, images)  # for its batches and views; its network is not used
        self.model = build(load_space("depthnet-nano").sample(seed), seed=0)
        recipe = self.other.recipe
        self.average = build(load_space("depthnet-nano").sample(seed), seed=0)
        self.loss = make_loss(recipe.loss, self.other.cap_m)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )

    def __call__(self) -> None:
        recipe, chance = self.other.recipe, self.other._generator
        self.model.train()
        for rgb, metres in self.other._batches():
            image, depth_m = recipe.augment(normalised(rgb).contiguous(), metres, chance)
            predicted = self.model(image.contiguous())
            loss = self.loss(predicted, depth_m, (depth_m > 0) & (depth_m < self.other.cap_m))
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
            self.optimiser.step()
            with torch.no_grad():
                pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
                for mean, now in pairs:
                    mean.lerp_(now, 1 - recipe.ema)


def worker(seed: int, images: int, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    once = epochs(trainer(seed, images))
    once()
    pipe.send("ready")
    while pipe.recv():
        once()
        pipe.send("done")


def start(seed: int, images: int, threads: int) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=worker, args=(seed, images, threads, theirs), daemon=True).start()
    ours.recv()
    return ours


def ask(*pipes: Any) -> None:
    for pipe in pipes:
        pipe.send(True)
    for pipe in pipes:
        pipe.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3], help="of the networks")
    parser.add_argument("--images", type=int, default=64, help="in each repetition")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    scenes()
    clock = time.process_time if args.threads == 1 else time.perf_counter
    native = "native" if native_bfloat16(CPU) else "not native"
    print(f"bfloat16 is {native} here; {args.threads} thread(s); ratio above 1: the trainer wins")
    rows = [["network", "trainer img/s", "plain img/s", "ratio", "trainer in float32, ratio"]]
    for seed in args.seeds:
        taken = interleaved(
            {
                "trainer": epochs(trainer(seed, args.images)),
                "float32": epochs(trainer(seed, args.images, "float32")),
                "plain": PlainLoop(seed, args.images),
            },
            40,
            args.seconds,
            clock,
        )
        rate = {name: interval([args.images / t for t in times]) for name, times in taken.items()}
        rows.append(
            [
                f"sample {seed}",
                f"{rate['trainer']:.0f}",
                f"{rate['plain']:.0f}",
                f"{ratio(taken['plain'], taken['trainer']):.2f}",
                f"{ratio(taken['plain'], taken['float32']):.2f}",
            ]
        )
    table(rows)
    if (os.cpu_count() or 1) < 2:
        return
    rows = [["network", "2 workers x 1 thread / 1 worker x 2 threads, images a second"]]
    for seed in args.seeds:
        pair = [start(seed, args.images, 1) for _ in range(2)]
        single = start(seed, args.images, 2)

        def twice(pipe: Any = single) -> None:
            ask(pipe)
            ask(pipe)

        taken = interleaved({"two": lambda p=pair: ask(*p), "one": twice}, 20, args.seconds / 2)
        rows.append([f"sample {seed}", f"{ratio(taken['one'], taken['two']):.2f}"])
        for pipe in (*pair, single):
            pipe.send(False)
    print()
    table(rows)


if __name__ == "__main__":
    main()
