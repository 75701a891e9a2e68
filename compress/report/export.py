"""All candidates of a study as a table for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.report.files import write_whole
from compress.report.findings import Findings
from compress.report.tables import COLUMNS, trials_csv
from compress.report.words import number

PARQUET = "trials.parquet"
# What is neither is text.
WHOLE = ("number", "params", "macs", "macs_all", "epochs")
TRUTH = ("passes_gates", "on_front", "on_front_params")
REAL = (
    "latency_ms", "delta1", "netscore", "delta2", "delta3", "abs_rel", "sq_rel", "rmse",
    "rmse_log", "log10", "seconds",
)  # fmt: skip
LARGEST = 2**63 - 1


def trials_parquet(found: Findings) -> bytes:
    """The table of ``trials_csv`` as a Parquet file, with types and missing values.

    Columns are those of ``COLUMNS``: whole numbers (int64), real ones (float64), true or false,
    and text. What is missing is null; text is never null but may be empty. The schema holds each
    column's meaning under ``description``.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = list(csv.DictReader(io.StringIO(trials_csv(found), newline="")))
    kinds: dict[str, tuple[Any, Callable[[str], Any]]] = (
        {key: (pa.int64(), _whole) for key in WHOLE}
        | {key: (pa.bool_(), lambda text: text == "true") for key in TRUTH}
        | {key: (pa.float64(), _real) for key in REAL}
    )
    fields, columns = [], []
    for key, meaning in COLUMNS.items():
        kind, read = kinds.get(key, (pa.string(), _text))
        fields.append(pa.field(key, kind, metadata={"description": meaning}))
        columns.append(pa.array([read(row[key]) for row in rows], kind))
    target = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=pa.schema(fields)), target)
    return target.getvalue()


def write_parquet(found: Findings, folder: Path) -> Path:
    """Write ``trials.parquet`` into ``folder``, whole or not at all."""
    return write_whole(Path(folder) / PARQUET, trials_parquet(found))


def _whole(text: str) -> int | None:
    known = _real(text)
    if known is None:
        return None
    value = int(text) if text.lstrip("-").isdecimal() else int(known)
    return value if abs(value) <= LARGEST else None


def _real(text: str) -> float | None:
    return number(float(text)) if text else None


def _text(text: str) -> str:
    # Lone surrogates, which JSON may hold and UTF-8 may not, become question marks.
    return text.encode("utf-8", "replace").decode("utf-8")
