"""Making a device table: what to measure, measuring it, fitting, and the proof on new networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from compress.cost.backends import backend_called, checked_threads, device_of
from compress.cost.fit import fit
from compress.cost.logbook import Log
from compress.cost.measure import clock_of, measurer
from compress.cost.plan import Item, Measure, Plan
from compress.cost.steps import measure_step
from compress.cost.table import DeviceTable, Proof, default_table_path
from compress.errors import CompressError
from compress.space import Genotype, load_space

SPACES = ("depthnet-nano", "fastdepth", "mobiledepth")
HELD_OUT = 50
BATCH = {"passage": 8, "network": 6, "heldout": 5}  # measured in turns
# Of each stretch of time that measuring takes, the share that goes to whole networks.
NETWORKS_SHARE = 0.6
LEAST = {"passage": 16, "network": 6}  # whatever the minutes; fewer say nothing

Tell = Callable[[str], None]


def calibrate(
    backend: str = "onnxruntime",
    *,
    threads: int = 1,
    minutes: float = 5.0,
    spaces: Sequence[str] = SPACES,
    size: tuple[int, int] | None = None,
    out: str | Path | None = None,
    measure: Measure | None = None,
    tell: Tell = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[DeviceTable, Path]:
    """Measure a device table, prove it on networks that it never saw, and save it.

    What was measured is kept beside the table as it comes: the same call after Ctrl-C goes on, and
    one with more minutes adds to it.

    Args:
        backend: a name of ``compress.cost.backends.BACKENDS``.
        threads: of the backend.
        minutes: of measuring what is fitted, over all sessions; the proof takes about two more.
        spaces: names or files of the spaces whose shapes are measured.
        size: network input (height, width); default: each space's own.
        out: the file; default: ``default_table_path``.
        measure: what measures; default: the backend, on this machine.
        tell: is given a line of progress now and then.
        clock: seconds.

    Returns:
        the table and its file.
    """
    backend_called(backend)
    checked_threads(threads)
    if not 0 < minutes <= 10_000:
        raise CompressError(f"minutes {minutes:g}: give more than 0 and at most 10000")
    opened = [load_space(name) for name in dict.fromkeys(spaces)]
    if size is not None:
        opened = [replace(space, size=size) for space in opened]
    path = Path(out).expanduser() if out else default_table_path(backend, threads)
    step = None
    if measure is None:
        tell("measuring by how many channels latency rises")
        step = measure_step(backend, threads)
        measure = measurer(backend, threads, opened[len(opened) // 2].sample(0))
    plan = Plan(opened)
    log = Log(path.with_name(path.name + ".measured"), backend, threads, opened)
    _measure_all(plan, log, measure, minutes * 60, tell, clock)
    _measure_held_out(plan, log, measure, tell)

    fitted = [one for kind in ("passage", "network") for one in log.observations(kind)]
    tell(f"fitting {len(fitted)} measurements")
    predictor = fit(fitted)
    table = DeviceTable(
        backend,
        threads,
        device_of(backend),
        datetime.now(UTC).strftime("%Y-%m-%d"),
        clock_of(backend, threads)[0],
        tuple(space.name for space in opened),
        tuple(sorted({space.size for space in opened})),
        len(fitted),
        predictor,
    )
    held = log.observations("heldout")
    predicted = [float(predictor.units_ms(one.units).sum()) + predictor.run_ms() for one in held]
    proof = Proof.of(predicted, [one.latency_ms for one in held], table.spaces) if held else None
    table = replace(table, proof=proof, step=step)
    table.save(path)
    return table, path


def _measure_all(
    plan: Plan, log: Log, measure: Measure, seconds: float, tell: Tell, clock: Callable[[], float]
) -> None:
    """Measure passages and networks until the time is over, so that both get their share of it."""
    streams = {kind: plan.items(kind, _next(log, kind)) for kind in LEAST}
    while True:
        spent = {kind: sum(line["seconds"] for line in log.of(kind)) for kind in LEAST}
        short = [kind for kind, least in LEAST.items() if len(log.of(kind)) < least]
        if sum(spent.values()) >= seconds and not short:
            return
        late = spent["network"] < NETWORKS_SHARE * sum(spent.values())
        kind = short[0] if short else "network" if late else "passage"
        _measure_batch(kind, [next(streams[kind]) for _ in range(BATCH[kind])], log, measure, clock)
        done = {kind: len(log.of(kind)) for kind in LEAST}
        tell(
            f"{min(log.seconds, seconds):.0f} of {seconds:.0f} s: {done['passage']} passages, "
            f"{done['network']} networks measured"
        )


def _measure_held_out(plan: Plan, log: Log, measure: Measure, tell: Tell) -> None:
    """Measure the networks of the proof."""
    fitted = {Genotype.from_dict(line["genotype"]) for line in log.of("network")}
    stream = plan.items("heldout", _next(log, "heldout"))
    tried = 0
    while (left := HELD_OUT - len(log.observations("heldout"))) > 0:
        chosen: list[tuple[int, Item]] = []
        while len(chosen) < min(left, BATCH["heldout"]) and tried < 20 * HELD_OUT:
            tried += 1
            number, item = next(stream, (0, None))
            if item is None:
                break
            seen = {Genotype.from_dict(line["genotype"]) for line in log.of("heldout")}
            if item.genotype not in fitted | seen | {one.genotype for _, one in chosen}:
                chosen.append((number, item))
        if not chosen:
            return  # a small space has not so many networks
        _measure_batch("heldout", chosen, log, measure, time.monotonic)
        tell(f"{HELD_OUT - left + len(chosen)} of {HELD_OUT} held-out networks measured")


def _next(log: Log, kind: str) -> int:
    return max((line["number"] + 1 for line in log.of(kind)), default=0)


def _measure_batch(
    kind: str,
    batch: Sequence[tuple[int, Item]],
    log: Log,
    measure: Measure,
    clock: Callable[[], float],
) -> None:
    began = clock()
    found = measure([item for _, item in batch])
    each = (clock() - began) / len(batch)
    log.add(
        [
            {
                "kind": kind,
                "number": number,
                "units": [] if item.genotype else [list(unit) for unit in item.units],
                "genotype": item.genotype.to_dict() if item.genotype else None,
                "copies": item.copies,
                "measured": list(one) if one else None,
                "seconds": each,
            }
            for (number, item), one in zip(batch, found, strict=True)
        ]
    )
