"""Every sampler replayed over the table of 288 trained networks: how soon it finds what.

A replayed search is what ``compress search`` does, but that a training is looked up: gates, uniform
start, no candidate twice, probes for generative synthesis; every candidate is trained to the end.

    python benchmarks/replay.py --seeds 50 --trials 80
    python benchmarks/replay.py --only gensynth,tpe --seeds 10 --out other-folder
    python benchmarks/replay.py --draw reports/search-bench
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _replays import NAMES, Curve, Replayed, best_so_far, first_reached, replay

from compress._files import whole
from compress.netscore import netscore
from compress.report.front import hypervolume
from compress.report.plates import COLUMN_IN, OKABE_ITO, axes_of, new_figure, save_figure
from compress.search.bench import Bench, load_bench
from compress.search.gates import Gates
from compress.search.sampler import hush_optuna
from compress.space import Genotype

# d1 that a network must have: of the table, this share passes.
PASS = 0.35
MARKS = (10, 15, 20, 30, 40, 60, 80)
SHOWN = {
    "gensynth": ("generative synthesis", "vermillion", "-"),
    "tpe": ("TPE", "blue", "-"),
    "gp": ("Gaussian process", "green", "-"),
    "nsga2": ("NSGA-II", "purple", "--"),
    "cmaes": ("CMA-ES", "orange", "--"),
    "random": ("random", "grey", ":"),
}


@dataclass(frozen=True)
class Lookup:
    """The table as what trials are asked of."""

    bench: Bench

    @property
    def space(self) -> Any:
        return self.bench.space

    def delta1(self, genotype: Genotype) -> float:
        return self.bench.query(genotype).delta1

    def score(self, genotype: Genotype, delta1: float) -> float:
        found = self.bench.query(genotype)
        return netscore(100 * delta1, found.params, found.macs)

    def probe(self, genotype: Genotype) -> Mapping[str, Sequence[float]]:
        return self.bench.probe(genotype)


def gate_of(bench: Bench) -> float:
    """The d1 that ``PASS`` of all networks have, rounded down to the third decimal."""
    return math.floor(1000 * float(np.quantile([r.delta1 for r in bench.final], 1 - PASS))) / 1000


def covered(bench: Bench) -> Callable[[Sequence[Replayed]], Curve]:
    """Hypervolume of d1 against decades of MACs after each trial, as a share of the table's own.

    What is counted is what is cheaper than the largest network and better than the worst.
    """
    reference = float(max(r.macs for r in bench.final)), min(r.delta1 for r in bench.final)
    macs = {r.hash: float(r.macs) for r in bench.final}
    whole_of_it = hypervolume([(r.macs, r.delta1) for r in bench.final], reference, log_cost=True)

    def curve(found: Sequence[Replayed]) -> Curve:
        points = [(macs[one.genotype.hash], one.delta1) for one in found]
        areas = [
            hypervolume(points[: count + 1], reference, log_cost=True)
            for count in range(len(points))
        ]
        return np.array(areas) / whole_of_it

    return curve


def spread(values: Curve, statistic: Callable[..., Curve]) -> tuple[Curve, Curve, Curve]:
    """A statistic over seeds (S, T) and its 95 % interval by resampling them, each (T,)."""
    chance = np.random.default_rng(0)
    drawn = chance.integers(0, len(values), (2000, len(values)))
    with np.errstate(invalid="ignore"):
        samples = np.stack([statistic(values[rows], axis=0) for rows in drawn])
        low, high = np.quantile(samples, [0.025, 0.975], axis=0, method="nearest")
        return statistic(values, axis=0), low, high


def short_of(bench: Bench, gate: float, curves: Curve) -> Curve:
    """NetScore missing to the best network that passes; to the worst one's, before one is found."""
    worst = min(row.netscore for row in bench.final if row.delta1 >= gate)
    return bench.best(gate).netscore - np.where(np.isnan(curves), worst, curves)


def tell(bench: Bench, gate: float, scores: dict[str, Curve], areas: dict[str, Curve]) -> None:
    best = bench.best(gate).netscore
    trials = min(c.shape[1] for c in scores.values())
    marks = [m for m in MARKS if m <= trials]
    for title, what, digits in (
        ("mean NetScore short of the best gated network",
         {k: short_of(bench, gate, v) for k, v in scores.items()}, 3),
        ("mean share of the table's hypervolume", areas, 3),
    ):  # fmt: skip
        print(f"\n{title}, after\n{'':24}" + "".join(f"{m:>22}" for m in marks))
        for name, curves in what.items():
            mean, low, high = spread(curves, np.mean)
            cells = [f"{mean[m - 1]:.{digits}f} ({low[m - 1]:.{digits}f}, {high[m - 1]:.{digits}f})"
                     for m in marks]  # fmt: skip
            print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))
        if "tpe" not in what:
            continue
        print("less TPE's, of the same seeds, mean over all trials and at the last:")
        for name, curves in what.items():
            gap = curves - what["tpe"][: len(curves)]
            both = np.stack([gap.mean(1), gap[:, -1]], axis=1)
            cells = [f"{m:+.{digits}f} ({a:+.{digits}f}, {b:+.{digits}f})"
                     for m, a, b in zip(*spread(both, np.mean), strict=True)]  # fmt: skip
            print(f"{name:24}" + "".join(f"{cell:>28}" for cell in cells))
    print(f"\n{'trials until':24}{'best network, median':>24}{'found by':>10}", end="")
    print("   what TPE has at the end, seed by seed, and how much sooner than TPE itself")
    for name, curves in scores.items():
        found = first_reached(curves, np.full(len(curves), best))
        line = f"{name:24}{_median(found):>24}{np.isfinite(found).mean():>10.0%}"
        if "tpe" in scores:
            tpe = scores["tpe"]
            count = min(len(tpe), len(curves))
            goals = tpe[:count, -1]
            own, its = first_reached(curves[:count], goals), first_reached(tpe[:count], goals)
            line += f"   {_median(own):>18}  {_ratio(its, own)}"
        print(line)
    if "tpe" in scores:
        print(
            "\ntrials until the mean over seeds is where TPE's is at the end, and how much sooner:"
        )
        short = {name: short_of(bench, gate, curves) for name, curves in scores.items()}
        for name, curves in short.items():
            print(f"{name:24}{sooner(short['tpe'][: len(curves)], curves)}")


def sooner(tpe: Curve, other: Curve) -> str:
    """After how many trials the mean over seeds is where TPE's is at the end, against TPE's own.

    Args:
        tpe: what is missing to the best network (S, T), of the same seeds as ``other``.
    """

    def after(pairs: Curve, axis: int) -> Curve:
        means = pairs.mean(axis)  # (2, T)
        reached = means <= means[0, -1] + 1e-9
        own, its = np.where(reached.any(1), reached.argmax(1) + 1.0, np.inf)
        return np.array([its, own / its])

    middle, low, high = spread(np.stack([tpe, other], axis=1), after)
    trials = f"{middle[0]:g} ({low[0]:g}, {high[0]:g})".replace("inf", "never")
    return f"{trials}, {middle[1]:.2f}x ({low[1]:.2f}, {high[1]:.2f})"


def summarise(
    bench: Bench, gate: float, scores: dict[str, Curve], areas: dict[str, Curve], path: Path
) -> None:
    """All curves as a CSV: mean over seeds and its interval, by sampler and trial."""
    lines = ["sampler,seeds,trial,short,short_low,short_high,covered,covered_low,covered_high"]
    for name, curves in scores.items():
        told = [*spread(short_of(bench, gate, curves), np.mean), *spread(areas[name], np.mean)]
        for trial, row in enumerate(zip(*told, strict=True), 1):
            figures = ",".join(f"{value:.4f}" for value in row)
            lines.append(f"{name},{len(curves)},{trial},{figures}")
    with whole(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _median(values: Curve) -> str:
    middle, low, high = (float(v[0]) for v in spread(values[:, None], np.median))
    return f"{middle:g} ({low:g}, {high:g})".replace("inf", "never")


def _ratio(slow: Curve, fast: Curve) -> str:
    """Ratio of the medians over seeds, with its interval."""

    def ratio(values: Curve, axis: int) -> Curve:
        slow, fast = np.median(values, axis=axis)
        return np.array([slow / fast])

    found = spread(np.stack([slow, fast], axis=1), ratio)
    middle, low, high = (float(v[0]) for v in found)
    return f"{middle:.2f}x ({low:.2f}, {high:.2f})"


def draw(bench: Bench, gate: float, scores: dict[str, Curve], areas: dict[str, Curve],
         folder: Path) -> None:  # fmt: skip
    """Two plots in one figure: what is missing to the best network, and the area covered."""
    figure = new_figure(2 * COLUMN_IN, 2.7)
    left = axes_of(figure, 0.075, 0.235, 0.41, 0.725)
    right = axes_of(figure, 0.575, 0.235, 0.41, 0.725)
    for name, (label, colour, style) in SHOWN.items():
        if name not in scores:
            continue
        for axes, curves in ((left, short_of(bench, gate, scores[name])), (right, areas[name])):
            mean, low, high = spread(curves, np.mean)
            trials = np.arange(1, len(mean) + 1)
            ink = OKABE_ITO[colour]
            axes.plot(trials, mean, color=ink, ls=style, lw=1.1, label=label, zorder=3)
            axes.fill_between(trials, low, high, color=ink, alpha=0.13, lw=0, zorder=2)
    left.set_ylabel("NetScore short of the best")
    right.set_ylabel("Share of the true hypervolume")
    left.set_ylim(bottom=0)
    right.set_ylim(top=1.0)
    for axes in (left, right):
        axes.set_xlabel("Candidates trained")
        axes.set_xlim(1, None)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=6.5,
        bbox_to_anchor=(0.52, 0.0), handlelength=1.8, columnspacing=1.2,
    )  # fmt: skip
    for path in save_figure(figure, folder / "figures" / "samplers"):
        print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), help="samplers, with commas between")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--out", type=Path, default=Path("reports/search-bench"))
    parser.add_argument("--draw", type=Path, help="no replay: figures of what a folder holds")
    args = parser.parse_args()
    hush_optuna()
    bench = load_bench()
    gate = gate_of(bench)
    best = bench.best(gate)
    passing = sum(row.delta1 >= gate for row in bench.final)
    print(f"gate {gate}: {passing} of {len(bench.final)} pass; best {best.hash}, NetScore "
          f"{best.netscore:.3f}, d1 {best.delta1:.4f}; noise of d1 {bench.noise:.4f}")  # fmt: skip
    folder = args.draw or args.out
    area = covered(bench)
    for name in [] if args.draw else args.only.split(","):
        start = time.perf_counter()
        scores, areas = [], []
        for seed in range(args.seeds):
            gates = Gates(None, None, gate, bench.space.size)
            found = replay(Lookup(bench), gates, name, seed, args.trials)
            scores.append(best_so_far(found, gate, lambda one: one.score).tolist())
            areas.append(area(found).tolist())
        seconds = (time.perf_counter() - start) / args.seeds
        print(f"{name}: {seconds:.1f} s a seed", flush=True)
        with whole(folder / "curves" / f"{name}.json") as path:
            path.write_text(json.dumps({"netscore": scores, "hypervolume": areas}))
    stored = {p.stem: json.loads(p.read_text()) for p in sorted((folder / "curves").glob("*.json"))}
    both = [
        {name: np.array(stored[name][key], dtype=float) for name in NAMES if name in stored}
        for key in ("netscore", "hypervolume")
    ]
    tell(bench, gate, *both)
    summarise(bench, gate, *both, folder / "samplers.csv")
    draw(bench, gate, *both, folder)


if __name__ == "__main__":
    main()
