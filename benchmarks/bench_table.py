"""Train every network of the space depthnet-nano-bench by one protocol, for load_bench's table.

The protocol: rendered scenes at 48x64, 8 epochs by the default recipe, scored on the validation
part after 2, 4 and 8, and on the held-out list at the end. A tenth of the networks is trained from
a second seed, at half the resolution, and on a quarter of the images. What is done is kept line by
line, so that the command goes on where it was stopped; the table is written at the end.

    python benchmarks/bench_table.py --out bench-table --workers 2
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import itertools
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress._files import whole
from compress.cost import cost
from compress.data import Arrays, Dataset, cut_validation, open_data, resized
from compress.models import build, save
from compress.report.toml import toml_lines
from compress.search.bench import FOLDER, PROTOCOL, RESPONSE, SPACE, TABLE
from compress.search.probe import probe
from compress.search.run import environment
from compress.space import Genotype, SearchSpace, load_space
from compress.train.evaluate import Scorer
from compress.train.fit import Trainer, centre
from compress.train.recipe import Recipe

DATA, SIZE, EPOCHS = "scenes", (48, 64), 8
RUNGS = (2, 4, 8)
SHARE = 10  # one network in so many is trained in the other ways too
# (seed, resolution, share of the images): the table itself, and what it is compared with.
FULL, AGAIN, SMALL, FEW = (0, SIZE, 1.0), (1, SIZE, 1.0), (0, (24, 32), 1.0), (0, SIZE, 0.25)
Way = tuple[int, tuple[int, int], float]
COMMAND = "python benchmarks/bench_table.py"


def genotypes(space: SearchSpace) -> list[Genotype]:
    """All of the space, in an order that is no order of its choices."""
    keys, values = list(space.choices), list(space.choices.values())
    rows = [space.genotype(dict(zip(keys, row, strict=True))) for row in itertools.product(*values)]
    random.Random(0).shuffle(rows)
    return rows


def jobs(space: SearchSpace) -> Iterator[tuple[Genotype, Way]]:
    """What to train: everything in one way, then some in the others."""
    everything = genotypes(space)
    yield from ((genotype, FULL) for genotype in everything)
    yield from ((g, way) for way in (AGAIN, SMALL, FEW) for g in everything[::SHARE])


@lru_cache(maxsize=4)
def _data(size: tuple[int, int]) -> tuple[Dataset, Arrays, Scorer, Scorer]:
    data = open_data(DATA)
    assert data.train is not None
    frames, held = cut_validation(data.train, seed=0)
    part = Scorer.of(data, held, "validation", size), Scorer.of(data, data.heldout, "heldout", size)
    return data, resized(frames, size), *part


def some(arrays: Arrays, share: float) -> Arrays:
    """An evenly spread share of the images."""
    if share == 1.0:
        return arrays
    chosen = np.linspace(0, len(arrays) - 1, round(share * len(arrays))).round().astype(int)
    names = tuple(arrays.names[i] for i in chosen)
    return replace(arrays, rgb=arrays.rgb[chosen], depth_m=arrays.depth_m[chosen], names=names)


def train(genotype: Genotype, way: Way, out: Path) -> dict[str, Any]:
    """Train one network in one way: a row of the table for each rung."""
    torch.set_num_threads(1)
    seed, size, share = way
    data, arrays, scorer, heldout = _data(size)
    arrays = some(arrays, share)
    model = build(replace(genotype, size=size), seed=seed)
    centre(model, arrays, data.cap_m)
    recipe = Recipe.for_data(data, {"seed": seed, "epochs": EPOCHS})
    trainer = Trainer(model, arrays, recipe, data.cap_m)
    rungs, start = [], time.perf_counter()
    for until in RUNGS:
        trainer.run(until)
        seconds = time.perf_counter() - start
        score = scorer(trainer.averaged, precision="float32").metrics
        rungs.append({"epoch": until, "delta1": score["delta1"], "abs_rel": score["abs_rel"],
                      "seconds": seconds})  # fmt: skip
    counted = cost(genotype, SIZE)
    row = {
        "hash": genotype.hash, "values": dict(genotype.values), "seed": seed,
        "height": size[0], "width": size[1], "share": share, "params": counted.params,
        "macs": counted.macs, "rungs": rungs,
        "heldout_delta1": heldout(trainer.averaged, precision="float32").metrics["delta1"],
    }  # fmt: skip
    if way == FULL:
        row["probe"] = probe(trainer.averaged, scorer.arrays)
        save(trainer.averaged, out / "networks" / f"{genotype.hash}.safetensors")
    return row


def write(space: SearchSpace, rows: list[dict[str, Any]], folder: Path) -> None:
    """The table, a row for each network, way and rung, and its protocol beside it."""
    order = {(g.hash, *_key(way)): n for n, (g, way) in enumerate(jobs(space))}
    rows = sorted(rows, key=lambda row: order[_done(row)])
    varying = [key for key, values in space.choices.items() if len(values) > 1]
    modules = list(next(row["probe"] for row in rows if "probe" in row))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    counts = ["params", "macs", "seed", "height", "width", "share"]
    measured = ["epoch", "delta1", "abs_rel", "seconds", "heldout_delta1"]
    table.writerow(["hash", *varying, *counts, *measured, *(RESPONSE + m for m in modules)])
    for row in rows:
        for rung in row["rungs"]:
            last = rung["epoch"] == EPOCHS
            read = row.get("probe") if last else None
            table.writerow(
                [row["hash"], *(row["values"][key] for key in varying), *(row[c] for c in counts)]
                + [rung["epoch"], f"{rung['delta1']:.6f}", f"{rung['abs_rel']:.6f}"]
                + [f"{rung['seconds']:.2f}", f"{row['heldout_delta1']:.6f}" if last else ""]
                + [f"{read[m][0]:.5f}" if read else "" for m in modules]
            )
    with whole(folder / TABLE) as path:
        # Without the time and the name in its header, the same table is the same file.
        path.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    with whole(folder / PROTOCOL) as path:
        path.write_text("\n".join([*toml_lines(protocol(rows))]).rstrip() + "\n")


def protocol(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the figures mean, and how to make them again."""
    torch.set_num_threads(1)
    data, arrays, scorer, heldout = _data(SIZE)
    assert data.train is not None
    return {
        "space": SPACE, "data": DATA, "size": list(SIZE), "epochs": EPOCHS, "rungs": list(RUNGS),
        "networks": len({row["hash"] for row in rows}), "trainings": len(rows),
        "training_images": len(arrays), "training_split": data.train.split_hash,
        "hours_of_training": round(sum(row["rungs"][-1]["seconds"] for row in rows) / 3600, 2),
        "commands": [COMMAND, f"{COMMAND} --write"],
        "ways": [
            {"seed": seed, "size": list(size), "share": share, "every": 1 if way == FULL else SHARE}
            for way in (FULL, AGAIN, SMALL, FEW)
            for seed, size, share in [way]
        ],
        "recipe": Recipe.for_data(data, {"epochs": EPOCHS}).to_dict(),
        "validation": scorer.protocol.to_dict(), "heldout": heldout.protocol.to_dict(),
        "environment": environment(),
    }  # fmt: skip


def _key(way: Way) -> tuple[int, int, float]:
    return way[0], way[1][0], way[2]


def _done(row: dict[str, Any]) -> tuple[str, int, int, float]:
    return row["hash"], row["seed"], row["height"], row["share"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench-table"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--networks", type=int, help="stop after so many trainings")
    parser.add_argument("--write", action="store_true", help="write the table, train nothing")
    parser.add_argument("--to", type=Path, default=FOLDER, help="where --write writes")
    parser.add_argument("--partial", action="store_true", help="even where trainings are missing")
    args = parser.parse_args()
    (args.out / "networks").mkdir(parents=True, exist_ok=True)
    lines = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    done = {_done(row) for row in rows}
    space = load_space(SPACE)
    wanted = list(jobs(space))[: args.networks]
    left = [(g, way) for g, way in wanted if (g.hash, *_key(way)) not in done]
    print(f"{len(done)} trained, {len(left)} left", flush=True)
    if args.write:
        if left and not args.partial:
            parser.error(f"{lines}: {len(left)} trainings are missing; run without --write first")
        write(space, rows, args.to)
        return
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    with lines.open("a") as file, ProcessPoolExecutor(args.workers, context) as pool:
        waiting = [pool.submit(train, genotype, way, args.out) for genotype, way in left]
        for number, finished in enumerate(as_completed(waiting), 1):
            row = finished.result()
            file.write(json.dumps(row) + "\n")
            file.flush()
            left_s = (time.perf_counter() - start) / number * (len(left) - number)
            d1 = " ".join(f"{rung['delta1']:.3f}" for rung in row["rungs"])
            print(
                f"{number}/{len(left)} {row['hash'][:8]} seed {row['seed']} {row['height']} "
                f"{row['share']} {row['params']} {row['macs']} d1 {d1} "
                f"{row['rungs'][-1]['seconds']:.0f} s, {left_s / 60:.0f} min left",
                flush=True,
            )


if __name__ == "__main__":
    main()
