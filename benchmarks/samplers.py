"""Samplers on a made-up landscape over the DepthNet Nano space: best gated NetScore by trial.

Each seed is another landscape and another search. The final line says how many trials each sampler
takes to reach what TPE has at the end. What is measured here is a sampler's handling of such
spaces, not depth networks.

    python benchmarks/samplers.py --seeds 10 --trials 100
    python benchmarks/samplers.py --only gensynth,tpe,random --seeds 5
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from _landscape import SIZE, Landscape
from _replays import NAMES, Curve, best_so_far, first_reached, interval, replay

from compress.search.gates import Gates
from compress.search.sampler import hush_optuna

GATE, BUDGET = 0.81, 1e6
MARKS = (10, 20, 30, 50, 75, 100, 150, 200)


def curve(name: str, seed: int, trials: int) -> Curve:
    """Best true NetScore among candidates that passed the gate, after each trial; NaN before."""
    land = Landscape(seed)
    found = replay(land, Gates(BUDGET, None, GATE, SIZE), name, seed, trials)
    # What it is worth, not what noise made of it.
    return best_so_far(
        found, GATE, lambda one: land.score(one.genotype, land.true_delta1(one.genotype.values))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), help="samplers, with commas between")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--save", type=Path, help="JSON of all curves")
    args = parser.parse_args()
    hush_optuna()
    marks = [m for m in MARKS if m < args.trials] + [args.trials]
    curves: dict[str, Curve] = {}
    print(f"{'best gated NetScore after':26}" + "".join(f"{m:>24}" for m in marks) + "  s/seed")
    for name in args.only.split(","):
        start = time.perf_counter()
        rows = [curve(name, args.first + s, args.trials) for s in range(args.seeds)]
        seconds = (time.perf_counter() - start) / args.seeds
        curves[name] = np.stack(rows)
        cells = [interval(curves[name][:, m - 1]) for m in marks]
        text = "".join(f"{f'{m:.2f} ({a:.2f}, {b:.2f})':>24}" for m, a, b in cells)
        print(f"{name:26}{text}{seconds:8.1f}", flush=True)
        if args.save:
            args.save.write_text(json.dumps({k: v.tolist() for k, v in curves.items()}))
    if "tpe" in curves:
        print("\ntrials until TPE's last value is reached, seed by seed (median):")
        for name, rows in curves.items():
            first = first_reached(rows, curves["tpe"][:, -1])
            print(f"{name:26}{np.median(first):8.0f}  ({np.isfinite(first).mean():.0%} of seeds)")


if __name__ == "__main__":
    main()
