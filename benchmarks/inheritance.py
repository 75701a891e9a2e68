"""What a network gains by starting from its nearest trained relative, after each rung.

Networks of the space depthnet-nano-bench are trained as ``bench_table.py`` trains them, but from
the weights that the nearest of some others has in common with them; beside them stands what they
reached from fresh weights. Needs that command's folder, for its weights and figures.

    python benchmarks/inheritance.py --table bench-table --networks 16 --relatives 24
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import bench_table as table
import numpy as np
import torch

from compress.models import build, load
from compress.models.elastic import inherit
from compress.search.ranks import spearman
from compress.search.relatives import nearest
from compress.space import load_space
from compress.train.fit import Trainer, centre
from compress.train.recipe import Recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=Path("bench-table"))
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--relatives", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = load_space(table.SPACE)
    rows = [json.loads(line) for line in (args.table / "rows.jsonl").read_text().splitlines()]
    fresh = {
        r["hash"]: [rung["delta1"] for rung in r["rungs"]]
        for r in rows
        if (r["seed"], (r["height"], r["width"]), r["share"]) == table.FULL
    }
    known = [g for g in table.genotypes(space) if g.hash in fresh]
    relatives, children = known[: args.relatives], known[args.relatives :][: args.networks]
    data, arrays, scorer, _ = table._data(table.SIZE)
    gains = []
    inherited = []
    for child in children:
        parent = nearest(space, child, relatives)
        model = build(replace(child, size=table.SIZE), seed=0)
        centre(model, arrays, data.cap_m)
        share = inherit(model, load(args.table / "networks" / f"{parent.hash}.safetensors"))
        recipe = Recipe.for_data(data, {"seed": 0, "epochs": table.EPOCHS})
        trainer = Trainer(model, arrays, recipe, data.cap_m)
        found = []
        for until in table.RUNGS:
            trainer.run(until)
            found.append(scorer(trainer.averaged, precision="float32").metrics["delta1"])
        inherited.append(found)
        gains.append(np.array(found) - fresh[child.hash])
        text = "  ".join(
            f"{a:.3f} ({a - b:+.3f})" for a, b in zip(found, fresh[child.hash], strict=True)
        )
        print(f"{child.hash[:8]} {share:.0%} of its weights  {text}", flush=True)
    print("\nafter epochs     " + "".join(f"{epoch:>22}" for epoch in table.RUNGS))
    mean, error = np.mean(gains, 0), np.std(gains, 0, ddof=1) / len(gains) ** 0.5
    cells = "".join(f"{f'{m:+.4f} +- {2 * e:.4f}':>22}" for m, e in zip(mean, error, strict=True))
    print(f"gain in d1, mean {cells}")
    last = [fresh[child.hash][-1] for child in children]
    order = "".join(f"{spearman([f[i] for f in inherited], last):>22.2f}" for i in range(len(mean)))
    print(f"Spearman         {order}   with the last rung from fresh weights")
    own = "".join(
        f"{spearman([fresh[c.hash][i] for c in children], last):>22.2f}" for i in range(len(mean))
    )
    print(f"from fresh ones  {own}")


if __name__ == "__main__":
    main()
