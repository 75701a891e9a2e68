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
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=40_000)
    parser.add_argument("--max-macs", type=float, default=12e6)
    args = parser.parse_args()
    start = time.perf_counter()
    open_data("scenes")
    drawing = time.perf_counter() - start

    watch = Stopwatch()
    shares: list[float] = []
    run_one = candidate.run_candidate

    def one(*arguments: Any) -> Any:
        before = watch.total("training") + watch.total("evaluating")
        begun = time.perf_counter()
        wanted = run_one(*arguments)
        useful = watch.total("training") + watch.total("evaluating") - before
        if useful:
            shares.append(1 - useful / (time.perf_counter() - begun))
        return wanted

    Trainer.run = watch.around("training", Trainer.run)  # type: ignore[method-assign]
    Scorer.__call__ = watch.around("evaluating", Scorer.__call__)  # type: ignore[method-assign]
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
    training, evaluating = watch.total("training"), watch.total("evaluating")
    rest = whole - training - evaluating
    print(f"{len(shares)} candidates of {args.epochs} epochs, {result.refused} refused by size")
    rows = [["part", "seconds", "share of the search"]]
    for name, seconds in (
        ("training", training), ("evaluating", evaluating), ("everything else", rest),
        ("the whole search", whole),
    ):  # fmt: skip
        rows.append([name, f"{seconds:.2f}", f"{seconds / whole:.1%}"])
    table(rows)
    print(f"\nwithin a candidate, not training or evaluating: {interval(shares):.2%}")
    once = whole - watch.total("candidates")
    print(f"once a study (opening, training the winner, report): {once:.2f} s")
    print(
        f"not in the table: importing {IMPORTING:.2f} s, drawing or mapping scenes {drawing:.2f} s"
    )


if __name__ == "__main__":
    main()
