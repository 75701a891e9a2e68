"""Several candidates at once: one process each, on its share of the processor's cores.

Candidates are small and many; two of them on a core each finish sooner than one after the other on
two cores, because most of a small network's operators are too short to be worth dividing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Lock as ProcessLock
from typing import Any

import torch

from compress.cost import Cost
from compress.search.candidate import run_candidate
from compress.search.events import Events, Status
from compress.search.records import Record, records
from compress.search.session import Session
from compress.train.fit import Epoch

# Share of a study's minutes kept for training the winner at full budget.
FINAL_SHARE = 0.35
MOST_WORKERS = 8
PATIENCE_S = 60  # how long a stopping worker may take to write its checkpoint

Message = tuple[str, tuple[Any, ...]]


def default_workers() -> int:
    """One worker a core on a processor; one on a GPU, which a single process keeps busy."""
    if torch.cuda.is_available():
        return 1
    return max(1, min(torch.get_num_threads(), MOST_WORKERS))


def run_candidates(
    session: Session,
    workers: int,
    remake: Callable[[Events], Session],
) -> None:
    """Train candidates until their number, the time for them or the space is used up.

    Args:
        session: the study in this process.
        workers: processes to train in; 1 trains here.
        remake: makes the same session in another process; a picklable function of its events.
    """
    if workers <= 1:
        work(session, contextlib.nullcontext())
        return
    context = multiprocessing.get_context("spawn")
    # A plain byte, not an Event: setting an Event hangs for ever once a process that waited on it
    # has died.
    stop = context.Value("b", 0, lock=False)
    lock, messages = context.Lock(), context.Queue()
    threads = max(1, torch.get_num_threads() // workers)
    processes = [
        context.Process(
            target=_worker,
            args=(remake, stop, lock, messages, threads, os.getpid()),
            daemon=True,
        )
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes) or not messages.empty():
            if session.stop.is_set():
                stop.value = 1
            try:
                name, args = messages.get(timeout=0.2)
            except queue.Empty:
                continue
            if name == "failed":
                raise RuntimeError(f"a worker of the search failed:\n{args[0]}")
            if name == "finished":
                session.status(args[1])
            getattr(session.events, name)(*args)
            session.tick()
    finally:
        stop.value = 1
        for process in processes:
            process.join(PATIENCE_S)
            if process.is_alive():
                process.terminate()


def work(session: Session, lock: Any) -> None:
    """Train one candidate after another; ``lock`` makes counting and proposing one step."""
    config = session.config
    while not session.stop.is_set():
        if config.minutes is not None:
            session.deadline = session.end - FINAL_SHARE * config.minutes * 60
        rows = records(session.study)
        session.status(rows)
        done = [row for row in rows if row.state in ("complete", "stopped", "failed")]
        left = session.deadline - time.monotonic()
        # Nothing that could not be finished is begun; but a study tries at least one candidate.
        if done and left < 0.5 * sum(row.seconds for row in done) / len(done):
            return
        if not done:
            session.deadline = max(session.deadline, session.end)
        if not run_candidate(session, lock):
            return


class _Relay(Events):
    """Sends every event to the main process."""

    def __init__(self, messages: Any) -> None:
        self.send = messages.put

    def note(self, text: str) -> None:
        self.send(("note", (text,)))

    def began(self, number: int, size: Cost) -> None:
        self.send(("began", (number, size)))

    def epoch(self, number: int, epoch: Epoch) -> None:
        self.send(("epoch", (number, epoch)))

    def finished(self, record: Record, records: Sequence[Record]) -> None:
        self.send(("finished", (record, list(records))))

    def status(self, status: Status) -> None:
        """The main process makes its own."""


def _worker(
    remake: Callable[[Events], Session],
    stop: Any,
    lock: ProcessLock,
    messages: Any,
    threads: int,
    parent: int,
) -> None:
    """Work on the study in this process until told to stop, or until the parent is gone."""
    # Ctrl-C reaches the whole process group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        session = remake(_Relay(messages))

        def watch() -> None:
            while not stop.value and os.getppid() == parent:
                time.sleep(0.3)
            session.stop.set()

        threading.Thread(target=watch, daemon=True).start()
        work(session, lock)
    except BaseException:
        import traceback

        messages.put(("failed", (traceback.format_exc(),)))
