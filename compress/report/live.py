"""Pages that are written while what they show goes on: by others, or in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from compress.errors import CompressError
from compress.report.findings import read
from compress.report.page import PAGE, write_report
from compress.report.pruned import write_pruning_report
from compress.search.store import find_study, owner_is_gone

EVERY_S = 10.0

# A study without a winner, at which nobody has done anything for so long, has been left.
QUIET_S = 900.0
# Writing a page takes at most this share of the time of the run that it shows.
SHARE = 0.05
SOON_S = 0.2  # between two looks for the first thing to show

Note = Callable[[str], object]


def checked_every(seconds: float | None, live: bool) -> float | None:
    """Seconds between two pages, by default ten; None where the page is not to be live."""
    if seconds is None:
        return EVERY_S if live else None
    if not live:
        raise CompressError("--every goes with --live, which writes the page again and again")
    if not 1 <= seconds <= 86_400:
        raise CompressError(f"--every {seconds:g}: give seconds from 1 to 86400")
    return float(seconds)


def follow(
    study: Study,
    folder: Path,
    write: Callable[[int | None], object],
    every_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write a report again and again until its study ends.

    A study has ended when nobody trains a candidate and one has had its full budget, twice in a
    row, since between two candidates nobody does; or when nothing happened for a quarter of an
    hour.

    Args:
        study: opened from its storage.
        folder: of the study; its checkpoints tell that the winner is being trained.
        write: writes the report; is given the seconds after which the page should load itself
            again, None for the last time.
        every_s: seconds between two reports.
        sleep: waits; for tests.
        clock: seconds; for tests.

    Raises:
        KeyboardInterrupt: after a last report.
    """
    seen, changed, before = "", clock(), False
    try:
        while True:
            stamp = _stamp(study, folder)
            if stamp != seen:
                seen, changed = stamp, clock()
            quiet = clock() - changed
            ended = not _busy(study) and (bool(read(study).full) or quiet >= QUIET_S)
            if ended and before:
                break
            before = ended
            write(max(1, round(every_s)))
            sleep(every_s)
    except KeyboardInterrupt:
        write(None)
        raise
    write(None)  # a page that nobody writes any more need not be loaded again


def _busy(study: Study) -> bool:
    """Whether a process that lives, or is on another machine, trains a candidate."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    owners = [trial.user_attrs.get("owner") for trial in running]
    return any(isinstance(name, str) and not owner_is_gone(name) for name in owners)


def _stamp(study: Study, folder: Path) -> str:
    """Text that changes with anything that is done."""
    trials = [(t.number, t.state.name, t.user_attrs) for t in study.get_trials(deepcopy=False)]
    held = folder / "checkpoints"
    files = sorted((p.name, p.stat().st_mtime) for p in held.glob("*")) if held.is_dir() else []
    return json.dumps([trials, study.user_attrs, files], default=str)


@contextmanager
def live_study(
    name: str, out: Path, storage: str | None, every_s: float | None, note: Note
) -> Iterator[None]:
    """Write a study's page again and again while the block works on it.

    The block ends before the study's last page is written; when it raises, that page is written
    here.

    Args:
        name: of the study, which exists.
        out: the folder of studies.
        storage: its Optuna storage; None for the database in its folder.
        every_s: seconds between two pages, at least; None writes none.
        note: is told where the page is, and once when it cannot be written.
    """
    if every_s is None:
        yield
        return
    folder = out / name
    opened: list[Study] = []

    def study() -> Study:
        if not opened:  # a connection of the writing thread's own
            opened.append(find_study(name, out, storage))
        return opened[0]

    def write(refresh: int | None) -> Path:
        return write_report(study(), folder, refresh=refresh)

    note(_promise(folder / PAGE, every_s))
    with Beside(write, lambda: _stamp(study(), folder), every_s, note):
        yield


@contextmanager
def live_outcome(
    target: Path, begun: Mapping[str, Any], every_s: float | None, note: Note
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write the page of a pruning or a gating again and again while the block does it.

    Args:
        target: the page's file.
        begun: what its JSON will hold that is known at the beginning; there is no page before more
            is.
        every_s: seconds between two pages, at least; None writes none.
        note: is told where the page is, and once when it cannot be written.

    Yields:
        a function that takes in more of that JSON; objects in it are merged.
    """
    if every_s is None:
        yield lambda values: None
        return
    known: list[dict[str, Any]] = [{}]

    def add(values: Mapping[str, Any]) -> None:
        before = known[0]
        merged = {
            key: {**before[key], **value}
            if isinstance(value, Mapping) and isinstance(before.get(key), Mapping)
            else value
            for key, value in values.items()
        }
        known[0] = {**before, **merged}  # replaced, never changed: another thread reads it

    def write(refresh: int | None) -> Path:
        return write_pruning_report({**begun, **known[0], "running": True}, target, refresh)

    note(_promise(target, every_s))
    with Beside(write, lambda: known[0] or None, every_s, note):
        yield add


def _promise(page: Path, every_s: float) -> str:
    return f"{page}: written again every {every_s:g} s while something changes"


class Beside:
    """Writes a page from a thread of its own while a block runs, which it never breaks.

    A page is written as soon as there is something, and then every so many seconds where something
    changed, but less often where writing takes long. A block that ends as it should leaves the last
    page to whoever began it; one that raises has it written here, without a reload.

    Args:
        write: writes the page; is given the seconds after which it should load itself again, None
            for the last time.
        stamp: gives something that is equal as long as nothing changed; None for nothing yet.
        every_s: seconds between two pages, at least.
        note: is told, once, when a page cannot be written.
    """

    def __init__(
        self,
        write: Callable[[int | None], object],
        stamp: Callable[[], object],
        every_s: float,
        note: Note,
    ) -> None:
        self._write, self._stamp, self._note = write, stamp, note
        self.every_s = every_s
        self._ended = threading.Event()
        self._failed = self._wrote = False
        self._thread = threading.Thread(target=self._work, name="live page", daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is not None and self._wrote:
            self._written(None)

    def _work(self) -> None:
        seen: object = None
        wait = 0.0
        while not self._ended.wait(wait):
            began = time.monotonic()
            try:
                stamp = self._stamp()
            except Exception as error:
                self._told(error)
                stamp = seen
            if stamp != seen and self._written(max(1, round(self.every_s))):
                seen = stamp
            least = SOON_S if seen is None else self.every_s
            wait = max(least, (time.monotonic() - began) / SHARE)

    def _written(self, refresh: int | None) -> bool:
        try:
            self._write(refresh)
            self._wrote = True
        except Exception as error:  # whatever it is, the run goes on
            self._told(error)
            return False
        return True

    def _told(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            line = " ".join(str(error).split()) or type(error).__name__
            self._note(f"warning: the live page cannot be written ({line}); the run goes on")
