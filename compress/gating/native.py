"""The C functions of ``kernels.c``: built with the machine's compiler when first asked for.

Without a compiler, or with ``COMPRESS_NATIVE=0``, everything runs in torch's own operators, slower
and to the same result.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from compress._files import whole
from compress.data.arrays import default_cache_dir

SOURCE = Path(__file__).with_name("kernels.c")
# As fast as may be without giving up what is no number, or the processor's state.
FLAGS = (
    "-O3 -std=gnu11 -shared -fPIC -fassociative-math -fno-signed-zeros -fno-trapping-math "
    "-fno-math-errno -ffp-contract=fast"
).split()
EXTRAS: tuple[list[str], ...] = (
    ["-march=native", "-fopenmp"],
    ["-march=native"],
    [],
)  # the first that builds
NEAR = 1 << 13  # numbers that a core's first cache holds beside others,
CACHED = 1 << 17  # and its second

REALS = {torch.float32: "float", torch.float64: "double"}

Pointer, Count, Whole = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class Shape(ctypes.Structure):
    """``Shape`` of kernels.c."""

    _fields_ = [
        (name, Count)
        for name in (
            "height width out_height out_width taps inputs stride plane pitch first phases count "
            "span"
        ).split()
    ]


class Native(NamedTuple):
    """The library, or why there is none."""

    library: ctypes.CDLL | None
    why_not: str = ""


def native(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The library for numbers of this type; None where it cannot be had, or is not wanted."""
    if os.environ.get("COMPRESS_NATIVE") == "0" or dtype not in REALS:
        return None
    return built(REALS[dtype]).library


@lru_cache(maxsize=2)
def built(real: str = "float") -> Native:
    """Build, or take what was built before for this source, compiler and processor."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if compiler is None:
        return Native(None, "no C compiler on this machine")
    told = ""
    for extra in EXTRAS:
        try:
            return Native(_loaded(compiler, [*FLAGS, f"-DREAL={real}", *extra]))
        except subprocess.CalledProcessError as error:
            told = (error.stderr.strip().splitlines() or ["it does not say why"])[-1]
        except (OSError, AttributeError, subprocess.TimeoutExpired) as error:
            told = str(error)
    return Native(None, f"{compiler} does not build {SOURCE.name}: {told}")


def _loaded(compiler: str, flags: list[str]) -> ctypes.CDLL:
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    known = [SOURCE.read_text("utf-8"), compiler, version, " ".join(flags), _processor()]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:24]
    folder = default_cache_dir() / "native"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = folder.stat()
        if mine.st_uid != os.getuid() or mine.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written to by others")
    except OSError:
        with tempfile.TemporaryDirectory() as private:
            return _opened(_compiled(compiler, flags, Path(private) / "kernels.so"))
    path = folder / f"{name}.so"
    if not path.is_file():
        with whole(path) as temporary:
            _compiled(compiler, flags, temporary)
    return _opened(path)


def _compiled(compiler: str, flags: list[str], to: Path) -> Path:
    command = [compiler, *flags, str(SOURCE), "-o", str(to), "-lm"]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return to


def _processor() -> str:
    """What ``-march=native`` hangs on: a cache may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(sorted(set(told)))


def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name in ("lanes", "span_step", "tall"):
        getattr(library, name).restype = Count
    library.convolve.restype = None
    library.convolve.argtypes = [
        Pointer, Count, Pointer, Pointer, Pointer, Pointer, Count, Pointer, Whole, Whole, Count,
        Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Whole,
    ]  # fmt: skip
    library.predict.restype = Count
    library.predict.argtypes = [
        Pointer, Count, Pointer, Pointer, Whole, Pointer, Count, Count, Count, ctypes.c_double,
        Pointer, Pointer, Pointer,
    ]  # fmt: skip
    library.add.restype = Count
    library.add.argtypes = [
        Pointer, Count, Pointer, Pointer, Count, Pointer, Count, Count, Whole, Pointer, Pointer,
        Pointer,
    ]  # fmt: skip
    return library


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class Layout(NamedTuple):
    """Where the pixels that a convolution reads lie: for one size of input."""

    shape: Shape
    at: Tensor  # of each tap, how far from a pixel of the output its input is
    phase: Tensor  # of each phase of the stride: first row, first column, where it begins


def layout(
    library: ctypes.CDLL, kernel: tuple[int, int], inputs: int, size: tuple[int, int],
    out: tuple[int, int], stride: int, padding: tuple[int, int], dilation: tuple[int, int],
    depthwise: bool = False,
) -> Layout:  # fmt: skip
    """Lay out planes of ``size`` for a kernel, with zeros around them."""
    lanes = library.lanes()
    (height, width), (down, right) = size, out
    # Of each tap: the phase that it reads, and how many rows and columns of it away.
    rows = [divmod(tap * dilation[0] - padding[0], stride) for tap in range(kernel[0])]
    columns = [divmod(tap * dilation[1] - padding[1], stride) for tap in range(kernel[1])]
    phases = sorted({(row[1], column[1]) for row in rows for column in columns})
    held = max(-(-(height - y) // stride) for y, _ in phases)
    across = max(-(-(width - x) // stride) for _, x in phases)
    above = max(0, -min(row[0] for row in rows))
    below = max(0, down + max(row[0] for row in rows) - held)
    left = max(0, -min(column[0] for column in columns))
    # The zeros on the right of a row are those on the left of the next.
    side = max(left, right + max(0, *(column[0] for column in columns)) - across)
    pitch = across + side
    count = (down - 1) * pitch + right
    first = side + above * pitch
    one = _up(first + (held + below) * pitch + side, lanes)
    at = [
        phases.index((row[1], column[1])) * one + first + row[0] * pitch + column[0]
        for row in rows
        for column in columns
    ]
    plane = max(one * len(phases), _up(max(at) + _up(count, lanes), lanes))
    if kernel == (1, 1) and padding == (0, 0) and not depthwise:  # read as they lie
        plane, first, at, pitch, count = 0, 0, [0], right, down * right
    places = [value for n, (y, x) in enumerate(phases) for value in (y, x, n * one)]
    shape = Shape(
        height, width, down, right, len(at), inputs, stride, plane, pitch, first, len(phases),
        count, 0,
    )  # fmt: skip
    return Layout(
        shape, torch.tensor(at, dtype=torch.int32), torch.tensor(places, dtype=torch.int32)
    )


class NativeConvolution:
    """One convolution: weights as they are, any channels in, any out."""

    def __init__(
        self, library: ctypes.CDLL, weight: Tensor, bias: Tensor, place: Layout, *,
        relu: bool, depthwise: bool, threads: int,
    ) -> None:  # fmt: skip
        self.library, self.weight, self.bias = library, weight.contiguous(), bias.contiguous()
        self.shape, self.at, self.phase = place
        self.relu, self.depthwise, self.threads = relu, depthwise, threads
        self.step, self.tall = library.span_step(), library.tall()

    def __call__(
        self, x: Tensor, index: Tensor | None, chosen: Tensor | None, scales: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            x: (1, K, H, W), contiguous, of the weights' type.
            index: (K,) channels of the weights that they are; None: all.
            chosen: (N,) channels that are wanted; None: all, or of a depthwise one those of x.
            scales: (N,) to multiply with, 0 or more.

        Returns:
            (1, N, h, w) and the mean magnitude of each, (N,).
        """
        shape, channels = self.shape, x.shape[1]
        if self.depthwise:
            wanted = channels
        else:
            wanted = self.weight.shape[0] if chosen is None else len(chosen)
        part = min(channels, max(16, NEAR // (self.tall * shape.taps)))
        high = _up(wanted, self.tall)
        span = max(1, CACHED // max(high, part) // self.step) * self.step
        shape.span = min(span, _up(shape.count, self.step))
        out = x.new_empty(1, wanted, shape.out_height, shape.out_width)
        means = x.new_empty(wanted)
        scratch = x.new_empty(channels * shape.plane + (part + high) * shape.span)
        self.library.convolve(
            x.data_ptr(), channels, _at(index), self.weight.data_ptr(), self.bias.data_ptr(),
            _at(chosen), wanted, _at(scales), self.relu, self.depthwise, part,
            ctypes.addressof(shape), self.at.data_ptr(), self.phase.data_ptr(), out.data_ptr(),
            means.data_ptr(), scratch.data_ptr(), self.threads,
        )  # fmt: skip
        return out, means


class NativeGate:
    """A gate's prediction and choice in one call."""

    def __init__(
        self, library: ctypes.CDLL, weight: Tensor, bias: Tensor, active: int, block: int,
        tie: float,
    ) -> None:  # fmt: skip
        self.library, self.weight, self.bias = library, weight.contiguous(), bias.contiguous()
        halves = self.weight.to(torch.bfloat16)
        self.half = weight.dtype is torch.float32 and torch.equal(halves.float(), self.weight)
        if self.half:
            self.weight = halves
        self.active, self.block, self.tie = active, block, tie
        self.scratch = torch.empty(3 * len(bias), dtype=torch.float64)

    def __call__(self, means: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
        """From means (K,) of the channels ``index``: scales (N,) and which channels, in order."""
        outputs = len(self.bias)
        scales, chosen = means.new_empty(outputs), torch.empty(outputs, dtype=torch.long)
        count = self.library.predict(
            means.data_ptr(), len(means), _at(index), self.weight.data_ptr(), self.half,
            self.bias.data_ptr(), outputs, self.active, self.block, self.tie, chosen.data_ptr(),
            scales.data_ptr(), self.scratch.data_ptr(),
        )  # fmt: skip
        return scales[:count], chosen[:count]


def native_sum(
    library: ctypes.CDLL, a: Tensor, a_index: Tensor | None, b: Tensor, b_index: Tensor | None,
    channels: int, relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Sum of two maps (1, K, H, W), contiguous: data, channels and mean magnitudes of the union.

    Both indices are in order; None stands for all ``channels``.
    """
    _, held, height, width = a.shape
    most = min(channels, held + b.shape[1])
    out, means = a.new_empty(1, most, height, width), a.new_empty(most)
    index = torch.empty(most, dtype=torch.long)
    count = library.add(
        a.data_ptr(), held, _at(a_index), b.data_ptr(), b.shape[1], _at(b_index), channels,
        height * width, relu, out.data_ptr(), index.data_ptr(), means.data_ptr(),
    )  # fmt: skip
    return out[:, :count], index[:count], means[:count]
