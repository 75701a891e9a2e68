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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import optuna
from _landscape import SIZE, Landscape
from optuna.samplers import BaseSampler

from compress.search.gates import Gates, Refusals
from compress.search.gensynth import PROBE, GenerativeSynthesisSampler
from compress.search.sampler import SAMPLERS, GatedSampler, distributions, hush_optuna

GATE, BUDGET = 0.81, 1e6
MARKS = (10, 20, 30, 50, 75, 100, 150, 200)

# Beside those of --sampler: generative synthesis without one of its parts, or without probes.
ABLATIONS: dict[str, Callable[[int], BaseSampler]] = {
    "gensynth-no-inquisitor": lambda seed: GenerativeSynthesisSampler(seed, inquisitor=False),
    "gensynth-no-seeds": lambda seed: GenerativeSynthesisSampler(seed, seeds=False),
}
PROBED = ("gensynth", "gensynth-no-seeds")


def replay(name: str, seed: int, trials: int) -> npt.NDArray[np.float64]:
    """Best true NetScore among candidates that passed the gate, after each trial; NaN before."""
    land = Landscape(seed)
    gates = Gates(BUDGET, None, GATE, SIZE)
    base = name.removesuffix("-no-probe")
    make = ABLATIONS.get(base, SAMPLERS.get(base))
    sampler = GatedSampler(land.space, gates, base, seed, Refusals(), make=make)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kinds = distributions(land.space)
    best, found = np.nan, []
    for _ in range(trials):
        trial = study.ask(kinds)
        genotype = land.space.genotype(trial.params)
        trial.set_user_attr("hash", genotype.hash)
        delta1 = land.delta1(genotype)
        if name in PROBED:
            trial.set_user_attr(PROBE, land.probe(genotype))
        trial.set_constraint("delta1", GATE - delta1)
        study.tell(trial, land.score(genotype, delta1))
        if delta1 >= GATE:
            # What it is worth, not what noise made of it.
            true = land.score(genotype, land.true_delta1(genotype.values))
            best = np.fmax(best, true)
        found.append(best)
    return np.array(found)


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Median and its 95 % interval by resampling seeds, NaN counted as worst."""
    filled = np.where(np.isnan(values), -np.inf, values)
    chance = np.random.default_rng(0)
    drawn = np.median(chance.choice(filled, (2000, len(filled))), axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return float(np.median(filled)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["gensynth", "gensynth-no-probe", *ABLATIONS, *(n for n in SAMPLERS if n != "gensynth")]
    parser.add_argument("--only", default=",".join(names), help="samplers, with commas between")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--save", type=Path, help="JSON of all curves")
    args = parser.parse_args()
    hush_optuna()
    marks = [m for m in MARKS if m < args.trials] + [args.trials]
    curves: dict[str, npt.NDArray[np.float64]] = {}
    print(f"{'best gated NetScore after':26}" + "".join(f"{m:>24}" for m in marks) + "  s/seed")
    for name in args.only.split(","):
        start = time.perf_counter()
        rows = [replay(name, args.first + s, args.trials) for s in range(args.seeds)]
        seconds = (time.perf_counter() - start) / args.seeds
        curves[name] = np.stack(rows)
        cells = [interval(curves[name][:, m - 1]) for m in marks]
        text = "".join(f"{f'{m:.2f} ({a:.2f}, {b:.2f})':>24}" for m, a, b in cells)
        print(f"{name:26}{text}{seconds:8.1f}", flush=True)
        if args.save:
            args.save.write_text(json.dumps({k: v.tolist() for k, v in curves.items()}))
    if "tpe" in curves:
        goal = curves["tpe"][:, -1:]
        print("\ntrials until TPE's last value is reached, seed by seed (median):")
        for name, rows in curves.items():
            reached = np.where(np.isnan(rows), -np.inf, rows) >= goal
            first = np.where(reached.any(1), reached.argmax(1) + 1, np.inf)
            print(f"{name:26}{np.median(first):8.0f}  ({reached.any(1).mean():.0%} of seeds)")


if __name__ == "__main__":
    main()
