"""How well cheaper trainings order the table's networks, as the whole one does, and what they cost.

Spearman's and Kendall's correlations of d1 with that after the last epoch, at full resolution, on
all images, seed 0. The second seed, which is as dear, is the most that a cheaper way can reach.

    python benchmarks/bench_fidelity.py
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compress.search.bench import Bench, Trained, load_bench
from compress.search.ranks import kendall, spearman

Floats = npt.NDArray[np.float64]


def trained(bench: Bench, seed: int, height: int, share: float, epoch: int) -> dict[str, Trained]:
    """What was trained so, by hash."""
    frame = bench.frame
    rows = frame[(frame.seed == seed) & (frame.height == height) & (frame.share == share)]
    ways = {"height": height, "share": share}
    found = {g.hash: g for g in bench.genotypes}
    return {name: bench.query(found[name], epoch, seed, **ways) for name in rows.hash.unique()}


def with_interval(a: Floats, b: Floats) -> str:
    """Spearman's rho and its 95 % interval by resampling networks."""
    drawn = np.random.default_rng(0).integers(0, len(a), (2000, len(a)))
    low, high = np.quantile([spearman(a[rows], b[rows]) for rows in drawn], [0.025, 0.975])
    return f"{spearman(a, b):.2f} ({low:.2f}, {high:.2f})"


def main() -> None:
    bench = load_bench()
    height, last = bench.space.size[0], bench.epochs[-1]
    full = trained(bench, 0, height, 1.0, last)
    tenth = set(trained(bench, 1, height, 1.0, last))
    print(f"noise between seeds, standard deviation of d1: {bench.noise:.4f}; "
          f"d1 of all {len(full)}: {np.std([r.delta1 for r in full.values()]):.4f}")  # fmt: skip
    print(f"{'':34}{'networks':>9}{'Spearman':>20}{'Kendall':>9}{'share of the time':>19}")
    half = height // 2
    ways = {
        **{f"epoch {e} of {last}": (0, height, 1.0, e) for e in bench.epochs[:-1]},
        **{f"half resolution, epoch {e}": (0, half, 1.0, e) for e in bench.epochs},
        **{f"quarter of the images, epoch {e}": (0, height, 0.25, e) for e in bench.epochs},
        **{f"another seed, epoch {e}": (1, height, 1.0, e) for e in bench.epochs},
    }
    for title, way in ways.items():
        found = trained(bench, *way)
        for names in (set(full), tenth):
            if not names <= set(found):
                continue
            order = sorted(names)
            cheap = np.array([found[n].delta1 for n in order])
            whole = np.array([full[n].delta1 for n in order])
            cost = np.median([found[n].seconds / full[n].seconds for n in order])
            print(f"{title:34}{len(order):>9}{with_interval(cheap, whole):>20}"
                  f"{kendall(cheap, whole):>9.2f}{cost:>19.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
