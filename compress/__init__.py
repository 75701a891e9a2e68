"""Neural-architecture search and compression of depth networks.

>>> import compress
>>> space = compress.load_space("depthnet-nano")
>>> size = compress.cost(space.reference("nyu"), size=(480, 640))
>>> round(size.params / 1e6, 2), round(size.macs / 1e9, 2)
(3.45, 4.35)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are imported when first used: `compress --help` needs neither torch nor Optuna.
_HOME = {
    "CompressError": "compress.errors",
    "Genotype": "compress.space",
    "SearchSpace": "compress.space",
    "build": "compress.models",
    "compare_latency": "compress.cost",
    "cost": "compress.cost",
    "depth_metrics": "compress.metrics",
    "evaluate": "compress.train",
    "export_onnx": "compress.export",
    "load": "compress.models",
    "load_space": "compress.space",
    "measure_latency": "compress.cost",
    "netscore": "compress.netscore",
    "open_data": "compress.data",
    "predict": "compress.train",
    "save": "compress.models",
    "search": "compress.search",
    "train": "compress.train",
}
__all__ = [*sorted(_HOME), "__version__"]

if TYPE_CHECKING:
    from compress.cost import compare_latency as compare_latency
    from compress.cost import measure_latency as measure_latency
    from compress.data import open_data as open_data
    from compress.errors import CompressError as CompressError
    from compress.export import export_onnx as export_onnx
    from compress.metrics import depth_metrics as depth_metrics
    from compress.models import build as build
    from compress.models import load as load
    from compress.models import save as save
    from compress.space import Genotype as Genotype
    from compress.space import SearchSpace as SearchSpace
    from compress.space import load_space as load_space
    from compress.train import evaluate as evaluate
    from compress.train import predict as predict


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    module = importlib.import_module(_HOME[name])
    # cost, netscore, search and train are modules that can be called.
    return module if _HOME[name] == f"compress.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
