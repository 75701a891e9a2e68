"""How fast scenes are drawn and batches made ready, against how fast training uses them up."""

from __future__ import annotations

import argparse
import itertools
import time

import torch
from _timing import interleaved, interval, ratio, table

from compress.data import open_data, resized
from compress.data.scenes import render_scene
from compress.models import build, normalised
from compress.space import load_space
from compress.train.fit import Trainer
from compress.train.recipe import Recipe

SIZE = (96, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=3, help="of the network that is trained")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_data("scenes")
    assert dataset.train is not None
    arrays = resized(dataset.train, SIZE)
    recipe = Recipe.for_data(dataset, {"epochs": 10_000})
    model = build(load_space("depthnet-nano").sample(args.seed), seed=0)
    trainer = Trainer(model, arrays, recipe, dataset.cap_m, torch.device("cpu"))
    seeds = itertools.count(500_000)

    def draw() -> None:
        for kind in ("indoor", "outdoor"):
            render_scene(next(seeds), kind, SIZE)

    def load() -> None:
        for rgb, depth_m in itertools.islice(trainer._batches(), 16):
            recipe.augment(normalised(rgb), depth_m, trainer._generator)

    def train() -> None:
        for image, depth_m in itertools.islice(trainer._batches(), 4):
            trainer._train_step(image, depth_m)

    model.train()
    images = {"drawing": 2, "loading": 16 * recipe.batch, "training": 4 * recipe.batch}
    taken = interleaved(
        {"drawing": draw, "loading": load, "training": train},
        args.rounds,
        args.seconds,
        time.process_time,
    )
    each = {name: [t / images[name] for t in times] for name, times in taken.items()}
    rows = [["", "images a second and core", "times training's"]]
    for name, times in each.items():
        rate = interval([1 / t for t in times])
        rows.append([name, f"{rate:,.0f}", f"{ratio(each['training'], times):.2f}"])
    table(rows)
    print(f"{SIZE[0]}x{SIZE[1]}, batch {recipe.batch}; loading includes the random views;")
    print("training includes loading; scenes are drawn once and then mapped from the cache")


if __name__ == "__main__":
    main()
