"""Where studies live: a folder of results, and an Optuna storage."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from sqlalchemy.event import listen

from compress.errors import CompressError, unknown

DATABASE = "study.db"
# A study's folder needs room for its database, checkpoints and report.
ROOM_BYTES = 64 << 20


def check_name(name: str) -> str:
    """Return a study name that is safe as a folder's name, or raise ``CompressError``."""
    if not re.fullmatch(r"[\w][\w.@+-]{0,127}", name):
        raise CompressError(
            f"study name {name!r}: use up to 128 letters, digits and . _ @ + -, first a letter or "
            "digit"
        )
    return name


def study_names(out: Path) -> list[str]:
    """Studies that have a folder with a database under ``out``."""
    if not out.is_dir():
        return []
    return sorted(path.parent.name for path in out.glob(f"*/{DATABASE}"))


def prepare_folder(folder: Path) -> None:
    """Make a study's folder and prove that it can hold results, before hours go into them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            probe.write(b"0" * 65536)
            probe.flush()
            os.fsync(probe.fileno())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise CompressError(
            f"{folder}: the study's folder cannot be written ({error.strerror or error}); "
            "give another with --out"
        ) from None
    if free < ROOM_BYTES:
        raise CompressError(
            f"{folder}: only {free >> 20} MiB free on this disk, a study needs {ROOM_BYTES >> 20}; "
            "make room or give another folder with --out"
        )


def discard_if_new(folder: Path) -> None:
    """Remove the folder of a study that never began."""
    with contextlib.suppress(OSError):
        url = f"sqlite:///{folder / DATABASE}"
        if (folder / DATABASE).is_file() and not optuna.get_all_study_names(url):
            (folder / DATABASE).unlink()
        folder.rmdir()  # only ever an empty one


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Open the Optuna storage of ``url``, or the SQLite file of a study's folder.

    Raises ``CompressError`` when it cannot be reached; passwords in the URL are not shown.
    """
    target = url or f"sqlite:///{folder / DATABASE}"
    try:
        if target.startswith("sqlite:"):
            # Writers of one study wait for each other rather than fail.
            storage = RDBStorage(target, engine_kwargs={"connect_args": {"timeout": 60}})
            listen(storage.engine, "connect", _quick_commits)
            storage.engine.dispose()  # the connections opened before that
            return storage
        return optuna.storages.get_storage(target)
    except Exception as error:
        shown = re.sub(r"//[^@/]*@", "//***@", target)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        first = re.sub(r"//[^@/]*@", "//***@", first)
        raise CompressError(
            f"storage {shown} cannot be reached ({first}); give an Optuna URL such as "
            "sqlite:///study.db or postgresql://host/db, with its driver installed"
        ) from None


def _quick_commits(connection: Any, _: object) -> None:
    """Let SQLite commit without waiting for the disk each time.

    Optuna commits every parameter of a trial on its own, 13 ms each on a slow disk. A write-ahead
    log still loses nothing when the process is killed; a power cut may lose the last commits.
    """
    with contextlib.suppress(sqlite3.OperationalError):  # a file system without shared memory
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def find_study(name: str, out: Path, url: str | None = None) -> Study:
    """Open an existing study; an unknown name offers the nearest."""
    check_name(name)
    folder = out / name
    if url is None and not (folder / DATABASE).is_file():
        raise unknown("study", name, study_names(out), f"looked in {out}/")
    storage = open_storage(url, folder)
    known = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    if name not in known:
        raise unknown("study", name, known, "looked in the storage")
    return optuna.load_study(study_name=name, storage=storage)


def owner() -> str:
    """Name this process, so that a later one can tell whether it still lives."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def owner_is_gone(name: str) -> bool:
    """Whether the process that ``owner`` named has ended; False for one on another machine."""
    host, _, rest = name.rpartition(":")[0].rpartition(":")
    started = name.rpartition(":")[2]
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(rest)) != started  # the number was given to another process


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
