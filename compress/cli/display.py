"""What a person sees while something runs: on a terminal a live display, in a pipe plain lines.

All of it goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compress.cost import Cost
from compress.search.config import human
from compress.search.events import Events, Status
from compress.search.records import Record
from compress.search.run import SearchResult
from compress.search.scores import describe
from compress.train.fit import Epoch


def console() -> Console:
    """A console on stderr; colours are off when it is no terminal or NO_COLOR is set."""
    return Console(stderr=True, highlight=False)


class Reading:
    """Progress bars for whatever is read, rendered or trained."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.plain = not progress.console.is_terminal
        self._epochs: TaskID | None = None

    def __call__(self, what: str) -> Callable[[int, int], None]:
        """A callback that shows (done, of) of ``what``."""
        task: TaskID | None = None

        def update(done: int, of: int) -> None:
            nonlocal task
            if self.plain:
                return
            if task is None:
                task = self.progress.add_task(what, total=of)
            self.progress.update(task, completed=done, total=of, visible=done < of)

        return update

    def epoch(self, epoch: Epoch) -> None:
        """Show one epoch of training."""
        if self.plain:
            self.progress.console.print(
                f"epoch {epoch.number}/{epoch.of}  loss {epoch.loss:.4f}  {epoch.seconds:.1f} s  "
                f"{epoch.images_per_s:.0f} images/s",
                markup=False,
            )
            return
        if self._epochs is None:
            self._epochs = self.progress.add_task("epochs", total=epoch.of)
        text = f"epochs, loss {epoch.loss:.4f}, {epoch.images_per_s:.0f} images/s"
        self.progress.update(self._epochs, completed=epoch.number, description=text)


def _bars(target: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=target,
        transient=True,
        disable=not target.is_terminal,
    )


@contextmanager
def reading_progress() -> Iterator[Reading]:
    """Bars for as long as the block runs."""
    with _bars(console()) as progress:
        yield Reading(progress)


class SearchDisplay(Events):
    """A study, live: candidates done, refused by which gate, best so far, time left."""

    def __init__(self) -> None:
        self.console = console()
        self.progress = _bars(self.console)
        self._reading = Reading(self.progress)
        self._tasks: dict[int, TaskID] = {}
        self._head: TaskID | None = None
        self._told = 0.0

    def __enter__(self) -> SearchDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def reading(self, what: str) -> Callable[[int, int], None]:
        """Show a bar for what is read."""
        return self._reading(what)

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def status(self, status: Status) -> None:
        """Show where the study stands; in a pipe, every half minute."""
        best = status.best
        leader = (
            f"best {best.netscore:.2f} (d1 {best.delta1:.3f}, {human(best.params)} params, "
            f"{human(best.macs)} MACs)"
            if best and best.netscore is not None
            else "no network through the gates yet"
        )
        left = "" if status.seconds_left is None else f"  {_clock(status.seconds_left)} left"
        text = f"{status.trials} trained, refused: {status.refused}; {leader}{left}"
        if not self.console.is_terminal:
            if time.monotonic() - self._told > 30:
                self._told = time.monotonic()
                self.note(text)
            return
        if self._head is None:
            self._head = self.progress.add_task(text, total=status.trials_wanted)
        self.progress.update(self._head, description=text, completed=status.trials)

    def began(self, number: int, size: Cost) -> None:
        """Show a bar for a candidate."""
        if self.console.is_terminal:
            text = f"candidate {number}: {human(size.params)} params, {human(size.macs)} MACs"
            self._tasks[number] = self.progress.add_task(text, total=None)

    def epoch(self, number: int, epoch: Epoch) -> None:
        """Move a candidate's bar."""
        if number in self._tasks:
            self.progress.update(self._tasks[number], completed=epoch.number, total=epoch.of)
        elif self._reading.plain and epoch.number % 10 == 0:
            self.note(f"  epoch {epoch.number}/{epoch.of}, loss {epoch.loss:.4f}")

    def finished(self, record: Record, records: Sequence[Record]) -> None:
        """Print a candidate's line and drop its bar."""
        if record.number in self._tasks:
            self.progress.remove_task(self._tasks.pop(record.number))
        d1 = "-" if record.delta1 is None else f"{record.delta1:.3f}"
        score = "-" if record.netscore is None else f"{record.netscore:.2f}"
        end = f"  {record.reason}" if record.reason else ""
        self.note(
            f"#{record.number:<4} {record.state:<8} {human(record.params):>6} params  "
            f"{human(record.macs):>6} MACs  d1 {d1}  NetScore {score}  {record.seconds:.0f} s{end}"
        )

    def final(self, record: Record, epochs: int) -> None:
        """Say that the winner is trained, and show its bar."""
        self.note(f"training candidate {record.number} at full budget: {epochs} epochs")
        if self.console.is_terminal:
            task = self.progress.add_task(f"winner {record.number}", total=epochs)
            self._tasks[record.number] = task

    def conclude(self, result: SearchResult) -> None:
        """Print the result to stdout."""
        print(_conclusion(result))


def _conclusion(result: SearchResult) -> str:
    refused = ", ".join(f"{gate} {count:,}" for gate, count in result.refused_by.items())
    lines = [f"study {result.study}: {result.trials} trained, {result.refused:,} refused before"]
    lines[0] += f" training ({refused})" if refused else " training"
    if result.best is not None:
        best: dict[str, Any] = result.best
        lines.append(
            f"best network: {human(best['params'])} params, {human(best['macs'])} MACs, validation "
            f"d1 {best['delta1']:.4f}, NetScore {best['netscore']:.2f}"
        )
        if "heldout" in best:
            held = best["heldout"]
            lines.append(
                f"held-out: d1 {held['delta1']:.4f}, AbsRel {held['abs_rel']:.4f}, "
                f"RMSE {held['rmse']:.3f} m"
            )
        if not result.complete:
            lines.append("interrupted: not yet trained at full budget; the same command goes on")
        lines.append(f"model:  {best['model']}")
    elif result.nearest is not None:
        near = result.nearest
        lines.append(
            "no network passed the gates; the nearest miss is candidate "
            f"{near['trial']}: d1 {near['delta1']:.4f}, {human(near['params'])} params, "
            f"{human(near['macs'])} MACs. Give it more --minutes or --epochs, a larger --budget, "
            "or a lower --delta1"
        )
    else:
        lines.append("no network passed the gates: none was trained far enough to be scored")
    if result.one_shot:
        lines.append(describe(result.one_shot))
    if result.rank_fidelity:
        lines.append("rungs against the end, by d1, over candidates trained to the end only:")
        lines += [f"  {rung.describe()}" for rung in result.rank_fidelity]
    lines.append(f"report: {result.report}")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
