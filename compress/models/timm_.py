"""The one door to timm: imported when an encoder is asked for, because it takes seconds."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from typing import Any

import torch

# Operators that torchvision describes to torch while it is imported, whether it has them or not.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # what is defined lives as long as its library


def timm() -> Any:
    """Import timm, past a torchvision that does not match this torch."""
    if "timm" not in sys.modules:
        complete_torchvision()
    import timm

    return timm


def complete_torchvision() -> bool:
    """Make torchvision importable where its compiled part does not load; say if that was needed.

    timm imports torchvision, and a torchvision built for CUDA next to a torch without it (or the
    other way round) ends that import with "operator torchvision::nms does not exist": its compiled
    part, which defines the operator, cannot be loaded, and its Python part describes the operator
    all the same. Nothing here runs that operator. So, before the first import, the compiled part
    is loaded as torchvision itself would do it (a second load is no load), and only where that
    fails are the operators declared, without anything behind them.
    """
    if "torchvision" in sys.modules or hasattr(torch.ops.torchvision, "nms"):
        return False
    found = importlib.util.find_spec("torchvision")  # finds, does not import
    if found is None or found.submodule_search_locations is None:
        return False
    compiled = PathFinder.find_spec("_C", list(found.submodule_search_locations))
    try:
        if compiled is not None and compiled.origin is not None:
            torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]
    except OSError:
        pass
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _kept.append(library)
    return True
