"""A saved network in the form of a study of one trial, to be laid over a study's front."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compress.cost import cost
from compress.errors import CompressError
from compress.report.findings import Findings
from compress.report.words import number
from compress.search.records import Record, Rung
from compress.space import Genotype

PARTS = ("validation", "heldout")


def model_findings(path: str | Path, size: tuple[int, int] | None = None) -> Findings:
    """Read what a model file says of itself, without opening its weights.

    Args:
        path: a model that ``compress`` saved.
        size: input (height, width) at which its MACs are counted, that of the study it is compared
            with; default: its own.

    Returns:
        One trial, complete, with the d1 of the validation part, or of the held-out part where the
        file knows no other.

    Raises:
        CompressError: it is no such file, or holds no d1.
    """
    from safetensors import safe_open

    path = Path(path)
    opened: Callable[..., Any] = safe_open
    try:
        with opened(path, framework="np") as file:
            header = file.metadata() or {}
        genotype = Genotype.from_json(header["genotype"], str(path))
        info = json.loads(header.get("info", "{}"))
        counted = cost(genotype, size)
    except CompressError:
        raise
    except Exception as error:  # whatever a file of others holds
        raise CompressError(
            f"{path}: cannot be compared, it is no model of compress ({type(error).__name__}: "
            f"{error}); give a .safetensors that compress search, train or prune saved"
        ) from None
    metrics = _metrics(info)
    delta1 = number(metrics.get("delta1"))
    if delta1 is None:
        raise CompressError(
            f"{path}: cannot be compared, its header holds no d1; score it and save it again: "
            "compress train or compress search"
        )
    row = Record(
        0, "complete", genotype.hash, counted.params, counted.macs, counted.macs_all,
        (Rung(1, delta1, 0.0, 0.0),), metrics, genotype=genotype.to_json(),
    )  # fmt: skip
    return Findings(path.name, (row,), winner=row)


def _metrics(info: Any) -> dict[str, float]:
    """The metrics of the first part that has a d1; {} where none has."""
    for part in PARTS:
        values = info.get(part) if isinstance(info, Mapping) else None
        if isinstance(values, Mapping):
            values = values.get("metrics", values)
        if isinstance(values, Mapping) and number(values.get("delta1")) is not None:
            found = {str(key): number(value) for key, value in values.items()}
            return {key: value for key, value in found.items() if value is not None}
    return {}
