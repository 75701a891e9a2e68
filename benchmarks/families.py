"""Every family's reference networks, trained with one small budget on one data set.

The same recipe, seed, input size and number of epochs for all, from random weights: what the table
says is how far each comes in so little time, not how good it is when trained as published.

    python benchmarks/families.py --data scenes --epochs 6
    python benchmarks/families.py --data folder:PATH --epochs 6 --only fastdepth@original
    python benchmarks/families.py --epochs 20 --only densedepth@nyu reports/STUDY/best.safetensors

A model file stands for its network alone: its weights are not taken.

Rows that --save holds already are kept, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from compress._files import whole
from compress.cost import cost
from compress.data import cut_validation, open_data, resized
from compress.models import build, load
from compress.netscore import netscore
from compress.pruning.task import some
from compress.space import Genotype, input_size, parse_reference
from compress.train import Recipe, Trainer, train
from compress.train.device import threads_for

NETWORKS = (
    "depthnet-nano@nyu",
    "depthnet-nano@small",
    "mobiledepth@paper",
    "mobiledepth@small",
    "light-shuffle@paper",
    "light-shuffle@small",
    "sparse-mobile@paper",
    "sparse-mobile@small",
    "fastdepth@original",
    "fastdepth@pruned",
    "fastdepth@small",
    "resnet-depth@paper",
    "resnet-depth@small",
    "densedepth@nyu",
    "densedepth@small",
)

# At the common rate this one collapses: its decoder has no norms (d1 .000 after six epochs).
RATES = {"densedepth@nyu": 3e-4}


def opened(name: str) -> Genotype:
    """A reference network by its name, or that of a model file."""
    return load(name).genotype if name.endswith(".safetensors") else parse_reference(name)


def one(
    name: str, data: str, size: tuple[int, int], epochs: int, seed: int, lr: float | None
) -> dict[str, Any]:
    """Train one network; its figures on the held-out list."""
    seconds: list[float] = []
    rate = lr or RATES.get(name)
    recipe = {"epochs": epochs, "seed": seed} | ({"lr": rate} if rate else {})
    done = train(
        opened(name),
        open_data(data),
        size=size,
        recipe=recipe,
        on_epoch=lambda epoch, _: seconds.append(epoch.seconds),
    )
    info, held = done.model.info, done.heldout.metrics
    return {
        "network": name,
        "params": info["params"],
        "macs": info["macs"],
        "validation_delta1": done.validation["delta1"],
        **{key: held[key] for key in ("delta1", "abs_rel", "rmse")},
        "netscore": netscore(100 * held["delta1"], info["params"], info["macs"]),
        "seconds_per_epoch": sum(seconds) / len(seconds),
    }


def pace(name: str, data: str, size: tuple[int, int]) -> float:
    """Milliseconds an image in training on this machine now: the median epoch of 80 images."""
    dataset = open_data(data)
    frames, _ = cut_validation(dataset.train, seed=0)
    arrays = some(resized(frames, size), np.arange(80))
    model = build(replace(opened(name), size=size), seed=0)
    seconds: list[float] = []
    with threads_for(cost(model).macs):
        trainer = Trainer(model, arrays, Recipe.for_data(dataset, {"epochs": 4}), dataset.cap_m)
        trainer.run(on_epoch=lambda epoch: seconds.append(epoch.seconds))
    return 1000 * median(seconds[1:]) / 80


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    return (
        f"| {row['network']} | {row['params'] / 1e6:.3f} M | {row['macs'] / 1e6:.1f} M | "
        f"{row['delta1']:.3f} | {row['abs_rel']:.3f} | {row['rmse']:.3f} | "
        f"{row['netscore']:.2f} | {row['seconds_per_epoch']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--size", default="96x128")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float)
    parser.add_argument(
        "--pace", action="store_true", help="only time training, on an idle machine"
    )
    parser.add_argument("--only", nargs="*", help="some of the networks")
    parser.add_argument("--save", type=Path, help="a JSON file that keeps finished rows")
    args = parser.parse_args()
    size = input_size(args.size, "--size")
    rows = json.loads(args.save.read_text()) if args.save and args.save.exists() else {}
    if args.pace:
        for name in args.only or NETWORKS:
            print(
                f"{name:<22}{pace(name, args.data, size):8.1f} ms an image in training", flush=True
            )
        return
    print("| network | params | MACs | d1 | AbsRel | RMSE (m) | NetScore | s/epoch |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.only or NETWORKS:
        if name not in rows:
            rows[name] = one(name, args.data, size, args.epochs, args.seed, args.lr)
            if args.save:
                with whole(args.save) as path:
                    path.write_text(json.dumps(rows, indent=1))
        print(line(rows[name]), flush=True)


if __name__ == "__main__":
    main()
