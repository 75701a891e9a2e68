"""Ways to search the full space with real training, each given the same wall-clock.

    python benchmarks/strategies.py --size 48x64 --epochs 8 --minutes 25 --seeds 2 --save strategies
    python benchmarks/strategies.py --only tpe,one-shot --data folder:frames

Every study runs on one core (``--parallel`` at a time). The stem is at least 16 wide, which leaves
the space's own reference points out: they would be tried first by all. Printed: the best candidate
that passed the gate on the validation part, after how many minutes a way had what TPE has at the
end, and the winner trained out, on the held-out list. A study that is there goes on, and what it
was while it ran counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from compress._files import whole
from compress.report.plates import COLUMN_IN, OKABE_ITO, axes_of, new_figure, save_figure
from compress.search.config import SearchConfig
from compress.search.events import Events
from compress.search.oneshot import Slices
from compress.search.ranks import kendall, spearman
from compress.search.records import Record, records, study_config
from compress.search.run import _session
from compress.search.store import find_study
from compress.search.supernet import open_supernet
from compress.space import Genotype

WAYS = {
    "tpe": ["--sampler", "tpe"],
    "gensynth": ["--sampler", "gensynth"],
    "random": ["--sampler", "random"],
    "one-shot": ["--strategy", "one-shot"],
}
SHOWN = {
    "gensynth": ("generative synthesis", "vermillion"),
    "one-shot": ("one-shot", "green"),
    "tpe": ("TPE", "blue"),
    "random": ("random", "grey"),
}


@dataclass(frozen=True)
class Done:
    """One study, ended: what ``compress search --json`` said, and the best gated NetScore reached
    (minutes, NetScore), at each improvement."""

    way: str
    seed: int
    said: dict[str, Any]
    reached: tuple[tuple[float, float], ...]

    @property
    def best(self) -> float:
        return self.reached[-1][1] if self.reached else -np.inf

    def after(self, goal: float) -> float:
        """Minutes until a NetScore was reached; inf for never."""
        return min((at for at, score in self.reached if score >= goal - 1e-9), default=np.inf)


def run(args: argparse.Namespace, way: str, seed: int) -> Done:
    """One study, to its end."""
    name = f"{way}-{seed}"
    words = [
        sys.executable, "-m", "compress.cli", "search", "--space", args.space, "--data", args.data,
        "--budget", args.budget, "--delta1", str(args.delta1), "--minutes", str(args.minutes),
        "--seed", str(seed), "--workers", "1", "--study", name, "--out", str(args.save), "--json",
        "--size", args.size, "--epochs", str(args.epochs), "--fix", "norm=all",
        "--fix", "stem=16,20,24", *WAYS[way],
    ]  # fmt: skip
    path = args.save / f"{name}.json"
    if not path.exists():
        with whole(path) as temporary:
            temporary.write_text(json.dumps({"began": time.time()}))
    began = float(json.loads(path.read_text())["began"])
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if not done.stdout.strip():
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    said = dict(json.loads(done.stdout.splitlines()[-1]))
    reached: list[tuple[float, float]] = []
    passing = [row for row in records(find_study(name, args.save)) if row.passes(args.delta1)]
    for row in sorted(passing, key=lambda row: row.finished):
        minutes = (datetime.fromisoformat(row.finished).timestamp() - began) / 60
        if not reached or (row.netscore or 0.0) > reached[-1][1]:
            reached.append((minutes, row.netscore or 0.0))
    return Done(way, seed, said, tuple(reached))


def tell(results: list[Done]) -> None:
    """The table."""
    print(f"{'search':10}{'seed':>5}{'trained':>9}{'scored':>8}{'best gated':>12}{'after':>7}"
          f"{'TPE has it':>12}{'sooner':>8}{'winner':>8}{'params':>9}{'MACs':>12}{'val d1':>8}"
          f"{'held-out':>10}{'Spearman':>16}")  # fmt: skip
    tpe = {one.seed: one for one in results if one.way == "tpe"}
    for one in results:
        won, shared = one.said["best"] or {}, one.said["one_shot"] or {}
        goal, own = np.inf, np.inf
        if one.seed in tpe and tpe[one.seed].reached:
            goal = tpe[one.seed].best
            own = tpe[one.seed].after(goal)
        cells = [
            f"{one.best:.2f}" if one.reached else "none",
            f"{one.reached[-1][0]:.1f}" if one.reached else "",
            f"{one.after(goal):.1f} min" if np.isfinite(one.after(goal)) else "never",
            f"{own / one.after(goal):.2f}x" if np.isfinite(one.after(goal)) else "",
            f"{won['netscore']:.2f}" if won else "none",
            f"{won['params']:,}" if won else "", f"{won['macs']:,}" if won else "",
            f"{won['delta1']:.3f}" if won else "",
            f"{won['heldout']['delta1']:.3f}" if won.get("heldout") else "",
            f"{shared['spearman']:.2f} (n = {shared['trained']})"
            if shared.get("spearman") is not None else "",
        ]  # fmt: skip
        print(f"{one.way:10}{one.seed:>5}{one.said['trials']:>9}{shared.get('scored', 0):>8}"
              f"{cells[0]:>12}{cells[1]:>7}{cells[2]:>12}{cells[3]:>8}{cells[4]:>8}{cells[5]:>9}"
              f"{cells[6]:>12}{cells[7]:>8}{cells[8]:>10}{cells[9]:>16}")  # fmt: skip


def ordered(results: list[Done], folder: Path) -> None:
    """How each supernet orders all networks that any study trained to the end from fresh weights.

    Studies of one seed train alike; of another, the same network comes out otherwise.
    """
    for one in (one for one in results if one.way == "one-shot"):
        name = f"{one.way}-{one.seed}"
        config = SearchConfig.from_dict(study_config(find_study(name, folder)), name)
        session = _session(name, folder / name, config, None, time.monotonic(), Events())
        supernet = open_supernet(session)
        assert supernet is not None
        slices = Slices(session, supernet)
        alone: dict[Genotype, Record] = {}
        for other in results:
            if other.seed == one.seed:
                rows = records(find_study(f"{other.way}-{other.seed}", folder))
                alone |= {
                    row.open_genotype(): row for row in rows
                    if row.state == "complete" and not row.cut
                }  # fmt: skip
        mine = [slices.delta1(genotype) for genotype in alone]
        theirs = [row.delta1 or 0.0 for row in alone.values()]
        sizes = [float(row.macs) for row in alone.values()]
        print(f"{name}: {len(alone)} networks trained alone, d1 {min(theirs):.3f} to "
              f"{max(theirs):.3f}; slices {min(mine):.3f} to {max(mine):.3f}: Spearman "
              f"{told(spearman, mine, theirs)}, Kendall {told(kendall, mine, theirs)}; MACs in "
              f"their place: Spearman {told(spearman, sizes, theirs)}")  # fmt: skip


def told(measure: Callable[..., float], one: list[float], other: list[float]) -> str:
    """A correlation and its 95 % interval by resampling networks."""
    chance, pairs = np.random.default_rng(0), np.array([one, other])
    drawn = [measure(*pairs[:, chance.integers(0, len(one), len(one))]) for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{measure(one, other):.2f} ({low:.2f}, {high:.2f})"


def draw(results: list[Done], minutes: float, stem: Path) -> None:
    """The best gated NetScore against minutes, a line for each study."""
    figure = new_figure(COLUMN_IN, 2.5)
    axes = axes_of(figure, 0.13, 0.25, 0.84, 0.72)
    for one in results:
        label, colour = SHOWN[one.way]
        if one.reached:
            at, scores = zip(*one.reached, strict=True)
            axes.step(
                (*at, minutes), (*scores, scores[-1]), where="post", color=OKABE_ITO[colour],
                lw=1.1, label=label, ls=("-", "--", ":", "-.")[one.seed % 4],
            )  # fmt: skip
    axes.set_xlabel("Minutes on one core")
    axes.set_ylabel("Best NetScore that passes")
    axes.set_xlim(0, minutes)
    handles: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=len(handles), frameon=False,
        fontsize=6.5, bbox_to_anchor=(0.53, 0.0), handlelength=1.8, columnspacing=1.2,
    )  # fmt: skip
    for path in save_figure(figure, stem):
        print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="depthnet-nano")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--budget", default="0.1M")
    parser.add_argument("--delta1", type=float, default=0.72)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--size", default="48x64")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="one-shot,gensynth,tpe", help="with commas between")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--save", type=Path, default=Path("strategies"))
    args = parser.parse_args()
    jobs = [(way, seed) for seed in range(args.seeds) for way in args.only.split(",")]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(lambda job: run(args, *job), jobs))
    print(f"{args.data} at {args.size}, {args.space}, budget {args.budget}, "
          f"d1 gate {args.delta1:g}, {args.minutes:g} min on one core")  # fmt: skip
    tell(results)
    ordered(results, args.save)
    draw(results, args.minutes, args.save / "figures" / "strategies")


if __name__ == "__main__":
    main()
