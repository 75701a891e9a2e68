"""A report that follows its study while others work on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from optuna.study import Study
from optuna.trial import TrialState

from compress.report.findings import read
from compress.search.store import owner_is_gone

# A study without a winner, at which nobody has done anything for so long, has been left.
QUIET_S = 900.0


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
