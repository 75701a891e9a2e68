"""What runs a network when its latency is measured: one line a backend in ``BACKENDS``.

Importing this imports none of them, so that a child process loads only the one it is to weigh.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from compress.cost.timing import Run
from compress.errors import CompressError, unknown

Array = np.ndarray[Any, Any]
INPUT = "input"


@dataclass(frozen=True)
class Backend:
    """A way to run a network.

    ``load`` takes a module, or the path of an ONNX file where ``onnx`` says so, its inputs and the
    number of threads; it returns what runs the network once and waits until it is done.
    ``package`` is what it needs and ``install`` how to get it.
    """

    load: Callable[[Any, Sequence[Array], int], Run]
    onnx: bool
    package: str
    install: str = "pip install depth-compress"
    gpu: bool = False
    compiles: bool = False  # at its first run, in this process


def _torch(source: Any, inputs: Sequence[Array], threads: int) -> Run:
    import torch

    tensors = [torch.from_numpy(x) for x in inputs]

    def run() -> None:
        with torch.inference_mode():
            source(*tensors)

    run()
    return run


def _torch_compile(source: Any, inputs: Sequence[Array], threads: int) -> Run:
    import torch

    # The number of threads is written into the compiled code, and so into its cache's key.
    compiled = torch.compile(source, dynamic=False, options={"cpp.threads": threads})
    return _torch(compiled, inputs, threads)


def _cuda(source: Any, inputs: Sequence[Array], threads: int) -> Run:
    import torch

    if not torch.cuda.is_available():
        raise CompressError(
            "backend cuda: torch sees no CUDA device here; "
            f"use one of {', '.join(name for name, one in BACKENDS.items() if not one.gpu)}"
        )
    module = source.to("cuda")
    tensors = [torch.from_numpy(x).to("cuda") for x in inputs]

    def run() -> None:
        with torch.inference_mode():
            module(*tensors)
        torch.cuda.synchronize()

    run()
    return run


def _onnxruntime(source: Any, inputs: Sequence[Array], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Threads that spin on after a run would take the processor from the network measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    feed = {one.name: _called(one.name, inputs) for one in session.get_inputs()}
    return lambda: session.run(None, feed)


def _openvino(source: Any, inputs: Sequence[Array], threads: int) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(
        str(source),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": True,
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        },
    )
    request = compiled.create_infer_request()
    for index, one in enumerate(compiled.inputs):
        request.set_input_tensor(index, openvino.Tensor(_called(one.any_name, inputs)))
    return lambda: request.infer()


def _called(name: str, inputs: Sequence[Array]) -> Array:
    """The input that ``prepare`` gave this name: one that nothing depends on is in no graph."""
    return inputs[int(name.removeprefix(INPUT))]


BACKENDS: dict[str, Backend] = {
    "torch": Backend(_torch, False, "torch"),
    "torch-compile": Backend(_torch_compile, False, "torch", compiles=True),
    "cuda": Backend(_cuda, False, "torch", gpu=True),
    "onnxruntime": Backend(_onnxruntime, True, "onnxruntime"),
    "openvino": Backend(_openvino, True, "openvino", "pip install depth-compress[openvino]"),
}


def backend_called(name: str) -> Backend:
    """The backend of that name, or ``CompressError``: unknown, or not installed."""
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    found = BACKENDS[name]
    if find_spec(found.package) is None:
        raise CompressError(f"backend {name} is not installed: {found.install}")
    return found


def prepare(
    name: str, model: Any, inputs: Sequence[Array], threads: int, folder: Path
) -> tuple[Run, Any]:
    """Load a module into a backend.

    Args:
        name: of ``BACKENDS``.
        model: an ``nn.Module``; it stays as it is.
        inputs: float32 arrays, one for each argument of the module.
        threads: how many the backend may use.
        folder: where ONNX files may be written; keep it while the result is used.

    Returns:
        what runs the module once, and what it was loaded from: a copy of it or an ONNX file.
    """
    import torch

    from compress.export.onnx import as_deployed, write_onnx

    backend = backend_called(name)
    source: Any
    if backend.onnx:
        source = folder / f"{len(list(folder.iterdir()))}.onnx"
        named = [f"{INPUT}{i}" for i in range(len(inputs))]
        write_onnx(model, [torch.from_numpy(x) for x in inputs], source, inputs_called=named)
    else:
        source = as_deployed(model)
    try:
        return backend.load(source, inputs, threads), source
    except CompressError:
        raise
    except Exception as error:  # each backend has its own kinds
        said = " ".join(str(error).split())[:300]
        raise CompressError(
            f"{type(model).__name__} does not run on {name}: {type(error).__name__}: {said}"
        ) from error


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_threads(threads: int, name: str = "threads") -> None:
    """Raise ``CompressError`` for a number of threads that this process has no cores for."""
    if not 1 <= threads <= usable_cores():
        raise CompressError(
            f"{name} {threads}: this process may use 1 to {usable_cores()} processor cores"
        )


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads, and as many as before afterwards."""
    checked_threads(threads)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(name: str) -> dict[str, str]:
    """What a figure was measured on: processor, system and versions."""
    cores = usable_cores()
    said = {
        "processor": _processor(),
        "cores": str(cores),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.is_file():
        said["governor"] = governor.read_text().strip()
    backend = BACKENDS[name]
    for package in dict.fromkeys(("torch", backend.package)):
        try:
            said[package] = version(package)
        except PackageNotFoundError:
            said[package] = "unknown"
    said["precision"] = "float32"
    if backend.gpu:
        import torch

        said["gpu"] = torch.cuda.get_device_name()
        said["cuda"] = str(torch.version.cuda)
    return said


def _processor() -> str:
    """The processor's name, as the system gives it."""
    info, board = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if board.is_file():  # Arm boards: "NVIDIA Jetson Xavier NX"
        return board.read_text().strip("\0 \n")
    return platform.processor() or platform.machine()
