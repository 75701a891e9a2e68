"""What makes a small PBEP network generalise: metric zoom, and batch norm before every SELU.

Trains `depthnet-nano@small` with and without each, on the same folder of pairs with the same seed,
and prints d1 on the validation part and on the held-out list.

    python benchmarks/generalisation.py --data folder:PATH --epochs 12
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from compress.data import open_data
from compress.space import load_space
from compress.train import train

VARIANTS = [("all", 0.6), ("projection", 0.6), ("all", 1.0), ("projection", 1.0)]


def one(variant: tuple[str, float], data: str, epochs: int, seed: int) -> tuple[float, float]:
    """Validation and held-out d1 of one variant."""
    torch.set_num_threads(1)
    norm, zoom = variant
    space = load_space("depthnet-nano")
    genotype = space.genotype({**space.reference("small").values, "norm": norm})
    recipe = {"epochs": epochs, "seed": seed, "augment": {"zoom": zoom}}
    result = train(genotype, open_data(data), recipe=recipe)
    return result.validation["delta1"], result.heldout["delta1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="as compress search --data takes it")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    print(f"{'norm':<12}{'zoom':>5}{'seed':>5}{'validation d1':>15}{'held-out d1':>13}")
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        jobs = [
            (variant, seed, pool.submit(one, variant, args.data, args.epochs, seed))
            for seed in range(args.seeds)
            for variant in VARIANTS
        ]
        for (norm, zoom), seed, job in jobs:
            validation, heldout = job.result()
            print(f"{norm:<12}{zoom:>5}{seed:>5}{validation:>15.4f}{heldout:>13.4f}", flush=True)


if __name__ == "__main__":
    main()
