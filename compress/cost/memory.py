"""Memory that a network adds to a process, measured in a process of its own."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from compress.cost.backends import BACKENDS, Array

CODE = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from compress.cost.memory import child; child()"
)
RUNS = 3
LONGEST_S = 300


def peak_memory_mb(
    backend: str, source: Any, inputs: Sequence[Array], threads: int
) -> tuple[float | None, str]:
    """Megabytes (10^6 bytes) that loading and running a network adds to a process at its peak.

    The process is a fresh one that has loaded the backend's library and nothing else; the answer
    is its peak resident set over three runs, less what it was before the network was loaded:
    weights, working memory and what the library sets up on first use. In this process memory freed
    earlier would be used again and not be seen.

    Args:
        backend: of ``BACKENDS``.
        source: an ONNX file or a module, as ``prepare`` returns it.
        inputs: its inputs.
        threads: as when it is timed.

    Returns:
        the megabytes and "", or None and why they were not measured.
    """
    chosen = BACKENDS[backend]
    if not Path("/proc/self/status").is_file():
        return None, "peak memory is read from /proc, which this system has not"
    if chosen.compiles:
        return None, "peak memory is not measured where the compiler would outweigh the network"
    modules = []
    if not chosen.onnx:
        modules = sorted({type(one).__module__ for one in source.modules()})
        if "__main__" in modules:
            return None, "peak memory needs a network whose class can be imported, not a script's"
    try:
        given = b"".join(
            pickle.dumps(one)
            for one in (sys.path, (backend, threads, modules, list(inputs)), source)
        )
    except Exception as error:  # whatever a module holds decides what this raises
        return None, f"peak memory: the network cannot be handed on ({error})"
    try:
        ran = subprocess.run(
            [sys.executable, "-c", CODE], input=given, capture_output=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return None, f"peak memory: three runs took more than {LONGEST_S} s"
    if ran.returncode:
        last = (ran.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        return None, f"peak memory: its process ended with {ran.returncode} ({last[:200]})"
    return json.loads(ran.stdout.splitlines()[-1]) / 1e6, ""


def child() -> None:
    """What the fresh process does: load the library, then weigh the network that it is given."""
    name, threads, modules, inputs = pickle.load(sys.stdin.buffer)
    backend = BACKENDS[name]
    importlib.import_module(backend.package)
    for module in modules:
        importlib.import_module(module)
    if not backend.onnx:
        importlib.import_module("torch").set_num_threads(threads)
    # The peak of importing is forgotten; where that is not allowed it is some megabytes above what
    # is resident.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident_bytes("VmRSS")
    run = backend.load(pickle.load(sys.stdin.buffer), inputs, threads)
    for _ in range(RUNS):
        run()
    print(json.dumps(max(0, _resident_bytes("VmHWM") - before)))


def _resident_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def cuda_peak_mb(run: Any) -> float:
    """Megabytes of a CUDA device that torch holds at most while ``run`` runs, weights included.

    Those of every network loaded by this process count.
    """
    import torch

    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 1e6
