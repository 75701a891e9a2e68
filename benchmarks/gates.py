"""Candidates per second through the size gates, on one core, against counting a built network."""

from __future__ import annotations

import argparse
import itertools
import logging
import time
import warnings

import torch
from _timing import interleaved, interval, ratio, table
from fvcore.nn import FlopCountAnalysis

from compress.cost import cost
from compress.models import build
from compress.search.gates import Gates
from compress.space import load_space

CHUNK = {"closed form": 100, "build and trace on meta": 2, "build and fvcore": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="depthnet-nano")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    space = load_space(args.space)
    gates = Gates(500_000, 200e6, 0.81, space.size)
    seeds = itertools.count()

    def closed_form() -> None:
        genotype = space.sample(next(seeds))
        gates.refusal(cost(genotype, gates.size))

    def traced() -> None:
        with torch.device("meta"):
            model = build(space.sample(next(seeds)))
        gates.refusal(cost(model, gates.size))

    def fvcore() -> None:
        model = build(space.sample(next(seeds))).eval()
        analysis = FlopCountAnalysis(model, torch.zeros(1, 3, *gates.size))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        macs = analysis.by_operator()["conv"]
        assert sum(p.numel() for p in model.parameters()) and macs

    ways = dict(zip(CHUNK, (closed_form, traced, fvcore), strict=True))

    def chunk(name: str) -> None:
        for _ in range(CHUNK[name]):
            ways[name]()

    taken = interleaved(
        {name: lambda n=name: chunk(n) for name in ways},
        args.rounds,
        args.seconds,
        time.process_time,
    )
    each = {name: [t / CHUNK[name] for t in times] for name, times in taken.items()}
    rows = [["counted by", "candidates a second", "closed form is faster by"]]
    for name, times in each.items():
        rate = interval([1 / t for t in times])
        rows.append([name, f"{rate:,.1f}", f"{ratio(times, each['closed form']):,.0f}"])
    table(rows)
    print("processor time of one core; every figure is a median with its 95 % interval")


if __name__ == "__main__":
    main()
