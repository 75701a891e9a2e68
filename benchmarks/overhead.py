"""Share of a search's wall-clock that is neither training nor evaluating.

A small real search on rendered scenes, one worker. What happens once, whatever the number of
candidates, is shown apart: importing, drawing the scenes, opening the study, the final report.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _timing import interval, table

_START = time.perf_counter()

from compress.data import open_data  # noqa: E402
from compress.search import candidate, search, workers  # noqa: E402
from compress.search.sampler import GatedSampler  # noqa: E402
from compress.train.evaluate import Scorer  # noqa: E402
from compress.train.fit import Trainer  # noqa: E402

IMPORTING = time.perf_counter() - _START


class Stopwatch:
    """Sums the seconds spent within functions."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        times = self.spent.setdefault(name, [])

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                times.append(time.perf_counter() - start)

        return timed

    def total(self, name: str) -> float:
        return sum(self.spent.get(name, []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6, help="of a candidate, as in the demo")
    parser.add_argument("--budget", type=float, default=40_000)
    parser.add_argument("--max-macs", type=float, default=12e6)
    args = parser.parse_args()
    start = time.perf_counter()
    open_data("scenes")
    drawing = time.perf_counter() - start

    watch = Stopwatch()
    shares: list[float] = []
    useful_in_candidates: list[float] = []
    run_one, train = candidate.run_candidate, Trainer.run

    def useful() -> float:
        return watch.total("training") + watch.total("evaluating") - watch.total("checkpoints")

    def one(*arguments: Any) -> Any:
        before, begun = useful(), time.perf_counter()
        wanted = run_one(*arguments)
        if useful() > before:
            useful_in_candidates.append(useful() - before)
            shares.append(1 - useful_in_candidates[-1] / (time.perf_counter() - begun))
        return wanted

    def run(
        self: Trainer, until: Any = None, on_epoch: Any = None, should_stop: Any = None
    ) -> None:
        # Called within training, but not training: checkpoints and the study's records.
        train(self, until, on_epoch and watch.around("checkpoints", on_epoch), should_stop)

    Trainer.run = watch.around("training", run)  # type: ignore[method-assign]
    Scorer.__call__ = watch.around("evaluating", Scorer.__call__)  # type: ignore[method-assign]
    GatedSampler.sample_relative = watch.around(  # type: ignore[method-assign]
        "proposing", GatedSampler.sample_relative
    )
    workers.run_candidate = one
    workers.work = watch.around("candidates", workers.work)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = search(
            study="overhead",
            out=Path(folder),
            workers=1,
            trials=args.trials,
            epochs=args.epochs,
            final_epochs=args.epochs,
            budget=args.budget,
            max_macs=args.max_macs,
            delta1=0.05,
            seed=0,
        )
        whole = time.perf_counter() - start
    candidates = watch.total("candidates")
    between = candidates - sum(useful_in_candidates)
    print(f"{len(shares)} candidates of {args.epochs} epochs, {result.refused} refused by size")
    rows = [["part", "seconds", "share of the search"]]
    for name, seconds in (
        ("training and evaluating", useful()),
        ("proposing", watch.total("proposing")),
        ("checkpoints and records", watch.total("checkpoints")),
        ("all that is not training or evaluating", whole - useful()),
        ("the whole search", whole),
    ):
        rows.append([name, f"{seconds:.2f}", f"{seconds / whole:.1%}"])
    table(rows)
    print(f"\nnot training or evaluating, share of a candidate's time: {interval(shares):.1%}")
    print(f"the same over all candidates: {between / candidates:.1%}")
    print(f"once a study (opening, saving the winner, report): {whole - useful() - between:.2f} s")
    print(f"not counted: importing {IMPORTING:.2f} s, drawing or mapping scenes {drawing:.2f} s")


if __name__ == "__main__":
    main()
