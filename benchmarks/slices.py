"""How well slices of one trained network order the 288 networks of the table, beside a second seed.

Trains the supernet of the space depthnet-nano-bench as ``--strategy one-shot`` does, scores all its
networks as slices, and compares with what training each alone came to.

    python benchmarks/slices.py --epochs 16 --out slices
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import optuna
import torch

from compress.errors import CompressError
from compress.search.bench import Bench, load_bench
from compress.search.config import SearchConfig
from compress.search.events import Events
from compress.search.oneshot import Slices
from compress.search.ranks import kendall, spearman
from compress.search.run import _session
from compress.search.sampler import hush_optuna
from compress.search.store import open_storage
from compress.search.supernet import PLANNED, train_supernet
from compress.space import Genotype


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=16, help="of the supernet")
    parser.add_argument("--out", type=Path, default=Path("slices"))
    args = parser.parse_args()
    hush_optuna()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = load_bench()
    config = SearchConfig(
        space="depthnet-nano-bench", data="scenes", strategy="one-shot", size=(48, 64)
    )
    optuna.create_study(
        study_name="slices", storage=open_storage(None, args.out), direction="maximize",
        load_if_exists=True,
    )  # fmt: skip
    session = _session("slices", args.out, config, None, time.monotonic(), Events())
    session.study.set_user_attr(PLANNED, args.epochs)
    start = time.perf_counter()
    slices = Slices(session, train_supernet(session, None))
    print(f"supernet: {args.epochs} epochs in {time.perf_counter() - start:.0f} s, one thread")
    start = time.perf_counter()
    scores = {genotype.hash: slices.delta1(genotype) for genotype in bench.genotypes}
    seconds = time.perf_counter() - start
    pace = 600 * len(scores) / seconds
    print(f"scores: {len(scores)} in {seconds:.0f} s, {pace:.0f} in ten minutes")
    (args.out / "scores.json").write_text(json.dumps(scores))

    alone = {g.hash: bench.query(g) for g in bench.genotypes}
    twice = [g for g in bench.genotypes if _again(bench, g) is not None]

    def told(what: str, of: list[str], figures: list[float]) -> None:
        shared = [scores[key] for key in of]
        macs = [float(alone[key].macs) for key in of]
        print(
            f"{what:44} n {len(of):3}  slices {spearman(shared, figures):.2f} "
            f"({kendall(shared, figures):.2f})  MACs {spearman(macs, figures):.2f}"
        )

    print("Spearman (Kendall) of d1")
    everything = list(scores)
    told("with training alone", everything, [alone[key].delta1 for key in everything])
    keys = [g.hash for g in twice]
    one = [alone[key].delta1 for key in keys]
    two = [_again(bench, g) or 0.0 for g in twice]
    told("with training alone, where there are two seeds", keys, one)
    told("with the other seed", keys, two)
    told("with the mean of both", keys, [(a + b) / 2 for a, b in zip(one, two, strict=True)])
    print(f"{'one seed with the other':44} n {len(keys):3}  {spearman(one, two):.2f} "
          f"({kendall(one, two):.2f})")  # fmt: skip
    mean = sum(scores.values()) / len(scores)
    print(f"mean d1 of slices {mean:.3f}, trained alone "
          f"{sum(row.delta1 for row in alone.values()) / len(alone):.3f}")  # fmt: skip


def _again(bench: Bench, genotype: Genotype) -> float | None:
    """d1 of the second seed, where it was trained."""
    try:
        return bench.query(genotype, seed=1).delta1
    except CompressError:
        return None


if __name__ == "__main__":
    main()
