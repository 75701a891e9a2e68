"""Where and in which precision networks run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

# Multiply-adds of an image that make another thread worth having. Below, a network's operators are
# too short: two threads gained 1.2x on an idle machine of two cores, and beside one other process
# they were three times slower than one (benchmarks/threads.py).
MACS_PER_THREAD = 100e6


def default_device() -> torch.device:
    """CUDA where there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is faster than float32 here, rather than emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16") or features.get("arm_bf16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision for a forward pass, as the recipe's ``precision`` asks."""
    if precision == "float32" or (precision == "auto" and not native_bfloat16(device)):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def threads_for(macs: int) -> Iterator[int]:
    """Use as many threads as a network of ``macs`` an image deserves, at most those allowed now.

    A rule rather than a measurement: the number of threads changes rounding, and a resumed run
    must not differ from an uninterrupted one.
    """
    allowed = torch.get_num_threads()
    chosen = max(1, min(allowed, round(macs / MACS_PER_THREAD)))
    torch.set_num_threads(chosen)
    try:
        yield chosen
    finally:
        torch.set_num_threads(allowed)
