"""Ways to search the full space with real training, each given the same wall-clock.

    python benchmarks/strategies.py --minutes 20 --seeds 2 --save strategies
    python benchmarks/strategies.py --only tpe,one-shot --data folder:frames

Every study runs on one core (``--parallel`` at a time). The stem is at least 16 wide, which leaves
the space's own reference points out: they would be tried first by all. Printed: the best candidate
that passed the gate on the validation part, and the winner trained out, on the held-out list. A
study that is there goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from compress.search.records import best, records
from compress.search.store import find_study

WAYS = {
    "tpe": ["--sampler", "tpe"],
    "gensynth": ["--sampler", "gensynth"],
    "random": ["--sampler", "random"],
    "one-shot": ["--strategy", "one-shot"],
}


def run(args: argparse.Namespace, way: str, seed: int) -> dict[str, Any]:
    """One study, to its end."""
    name = f"{way}-{seed}"
    words = [
        sys.executable, "-m", "compress.cli", "search", "--space", args.space, "--data", args.data,
        "--budget", args.budget, "--delta1", str(args.delta1), "--minutes", str(args.minutes),
        "--seed", str(seed), "--workers", "1", "--study", name, "--out", str(args.save), "--json",
        "--size", args.size, "--epochs", str(args.epochs), "--fix", "norm=all",
        "--fix", "stem=16,20,24", *WAYS[way],
    ]  # fmt: skip
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if not done.stdout.strip():
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="depthnet-nano")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--budget", default="0.2M")
    parser.add_argument("--delta1", type=float, default=0.78)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--size", default="96x128")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="tpe,gensynth,one-shot", help="with commas between")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--save", type=Path, default=Path("strategies"))
    args = parser.parse_args()
    jobs = [(way, seed) for seed in range(args.seeds) for way in args.only.split(",")]
    with ThreadPoolExecutor(args.parallel) as pool:
        results = list(pool.map(lambda job: run(args, *job), jobs))
    print(f"{args.data} at {args.size}, {args.space}, budget {args.budget}, "
          f"d1 gate {args.delta1:g}, {args.minutes:g} min on one core")  # fmt: skip
    print(f"{'search':12}{'seed':>5}{'trained':>9}{'scored':>8}{'best gated':>12}{'winner':>9}"
          f"{'params':>10}{'MACs':>13}{'val d1':>8}{'held-out':>10}{'Spearman':>10}")  # fmt: skip
    for (way, seed), result in zip(jobs, results, strict=True):
        row = best(records(find_study(f"{way}-{seed}", args.save)), args.delta1)
        won = result["best"] or {}
        shared = result["one_shot"] or {}
        cells = [
            f"{row.netscore:.2f}" if row and row.netscore else "none",
            f"{won['netscore']:.2f}" if won else "none",
            f"{won['params']:,}" if won else "", f"{won['macs']:,}" if won else "",
            f"{won['delta1']:.3f}" if won else "",
            f"{won['heldout']['delta1']:.3f}" if won.get("heldout") else "",
            f"{shared['spearman']:.2f}" if shared.get("spearman") is not None else "",
        ]  # fmt: skip
        print(f"{way:12}{seed:>5}{result['trials']:>9}{shared.get('scored', 0):>8}"
              f"{cells[0]:>12}{cells[1]:>9}{cells[2]:>10}{cells[3]:>13}{cells[4]:>8}{cells[5]:>10}"
              f"{cells[6]:>10}")  # fmt: skip


if __name__ == "__main__":
    main()
