"""Studies of real genotypes, as many trials as a test wants, without any training."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from report_studies import METRICS

from compress.cost import cost
from compress.netscore import netscore
from compress.report.findings import Findings
from compress.report.page import render
from compress.search.records import Record, Rung, best
from compress.space import Genotype, load_space

SIZE = (96, 128)
BEGAN = datetime(2026, 3, 1, 9, 0, 0)


def genotypes(count: int) -> list[Genotype]:
    """The space's own small references, then random ones."""
    space = load_space("depthnet-nano")
    own = [r.genotype for r in space.references.values() if r.genotype.values]
    return (own + [space.sample(seed) for seed in range(count)])[:count]


def record(number: int, state: str, delta1s: tuple[float, ...], **values: object) -> Record:
    """A record with rungs at epochs 3, 6 and 12."""
    params, macs = int(str(values["params"])), int(str(values["macs"]))
    rungs = tuple(
        Rung(epoch, d1, netscore(100 * d1, params, macs), 9.0 * epoch)
        for epoch, d1 in zip((3, 6, 12), delta1s, strict=False)
    )
    metrics = METRICS | {"delta1": delta1s[-1]} if state == "complete" else {}
    known = {"hash": f"{number:016x}", "macs_all": macs + 1000, "genotype": "{}"}
    return Record(number, state, rungs=rungs, metrics=metrics, **(known | values))  # type: ignore[arg-type]


def many(count: int, name: str = "many", gate: float = 0.7, seed: int = 0) -> Findings:
    """A finished study: half trained to the end, most others stopped, a minute apart."""
    chance = random.Random(seed)
    drawn = genotypes(min(count, 60))
    sizes = [cost(one, SIZE) for one in drawn]
    rows = []
    for number in range(count):
        turn = number % len(drawn)
        size = sizes[turn]
        stretch = 1.0 if number < len(drawn) else chance.uniform(0.4, 1.6)
        state = "failed" if number % 19 == 18 else "stopped" if number % 2 else "complete"
        state = "complete" if number < 2 else state
        reached = min(0.95, max(0.1, 0.35 + 0.05 * chance.gauss(0, 2) + size.macs / 2e8))
        done = {"complete": 3, "stopped": 1, "failed": 0}[state]
        genotype = drawn[turn].to_dict()
        if number >= len(drawn):  # as different as real ones are, in the text that a page holds
            genotype["values"] = {key: chance.randint(1, 4096) for key in drawn[turn].values}
        rows.append(
            record(
                number,
                state,
                (0.8 * reached, 0.9 * reached, reached)[:done],
                params=int(size.params * stretch),
                macs=int(size.macs * stretch),
                hash=drawn[turn].hash if number < len(drawn) else f"{chance.getrandbits(64):016x}",
                genotype=json.dumps(genotype),
                reason="" if state == "complete" else f"{state} for a reason",
                seconds=40.0,
                finished=(BEGAN + timedelta(minutes=number + 1)).isoformat(timespec="seconds"),
            )
        )
    return Findings(
        name,
        tuple(rows),
        {"space": "depthnet-nano", "data": "folder:my pairs", "delta1": gate, "final_epochs": 7},
        {"max_params": 300_000, "max_macs": None, "delta1": gate, "size": list(SIZE)},
        refused={"params": 1203, "duplicate": 3},
        seconds=60.0 * count,
        winner=best(rows, gate),
        provisional=True,
    )


@cache
def ten_thousand() -> str:
    """The page of 10,000 trials, which takes seconds to write."""
    return render(many(10_000), Path("/nowhere"))
