"""Where and in which precision networks run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


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
