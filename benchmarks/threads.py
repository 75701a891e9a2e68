"""Training a small network on one thread against all of them, alone and beside another process.

Epochs on rendered scenes, interleaved; prints images/s (median, quartiles) and the ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import numpy as np
import torch

from compress.data import open_data, resized
from compress.models import build
from compress.space import load_space
from compress.train import Recipe, Trainer
from compress.train.fit import centre

IMAGES = 160


def spin() -> None:
    torch.set_num_threads(1)
    x = torch.randn(256, 256)
    while True:
        x = torch.tanh(x @ x)


def rates(trainer: Trainer, threads: list[int], rounds: int) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {count: [] for count in threads}
    for _ in range(rounds):
        for count in threads:
            torch.set_num_threads(count)
            start = time.perf_counter()
            trainer.run(trainer.epoch + 1)
            found[count].append(IMAGES / (time.perf_counter() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", default="tiny", help="a reference of depthnet-nano")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    every = torch.get_num_threads()
    dataset = open_data("scenes", scenes_options={"train": IMAGES, "heldout": 8})
    arrays = resized(dataset.train, (96, 128))
    model = build(load_space("depthnet-nano").reference(args.reference), seed=0)
    centre(model, arrays, dataset.cap_m)
    recipe = Recipe.for_data(dataset, {"epochs": 10_000})
    trainer = Trainer(model, arrays, recipe, dataset.cap_m)
    trainer.run(1)
    for beside in (0, 1):
        others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(beside)]
        for other in others:
            other.start()
        found = rates(trainer, [1, every], args.rounds)
        for other in others:
            other.terminate()
        print(f"beside {beside} other busy processes")
        for count, values in found.items():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            print(f"  {count} threads  {middle:6.1f} images/s [{low:.1f}, {high:.1f}]")
        pairs = np.array(found[every]) / np.array(found[1])
        low, middle, high = np.quantile(pairs, [0.25, 0.5, 0.75])
        print(f"  ratio      {middle:6.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
