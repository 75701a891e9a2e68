"""The Parquet table holds what the CSV holds, with types."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState
from pyarrow import parquet
from report_studies import add, four, make_study

from compress.report.export import REAL, TRUTH, WHOLE, trials_parquet, write_parquet
from compress.report.findings import read
from compress.report.tables import COLUMNS, trials_csv


def opened(study) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(trials_parquet(read(study))))


def test_every_value_is_that_of_the_csv():
    study = four()
    add(study, (0.1 + 0.2, 1 / 3), latency_ms=12.5, genotype='{"a": "1,2\\n3"}')
    found = read(study)
    table = opened(study)
    rows = list(csv.DictReader(io.StringIO(trials_csv(found), newline="")))
    assert list(table) == list(COLUMNS) and len(table) == len(rows) == 7
    for key in COLUMNS:
        for got, text in zip(table[key], [row[key] for row in rows], strict=True):
            if key in TRUTH:
                assert got == (text == "true")
            elif key in WHOLE or key in REAL:
                assert math.isnan(got) if text == "" else got == float(text)
            else:
                assert got == text


def test_types_and_meanings():
    schema = parquet.read_schema(io.BytesIO(trials_parquet(read(make_study()))))  # an empty one
    assert schema.names == list(COLUMNS)
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds["params"] == "int64" and kinds["delta1"] == "double"
    assert kinds["on_front"] == "bool" and kinds["reason"] == "string"
    for name, meaning in COLUMNS.items():
        assert schema.field(name).metadata[b"description"].decode() == meaning


def test_what_is_missing_is_null_and_no_number_is_invented():
    study = make_study()
    add(study, state=TrialState.FAIL, reason="diverged")
    add(study, (0.5,), raw={"params": 10**300, "macs": 2**63 - 1})
    rungs = [{"epoch": 3, "delta1": 0.0, "netscore": -math.inf, "seconds": 1.0}]
    add(study, (), rungs=rungs)
    table = opened(study)
    assert table["delta1"].isna().tolist() == [True, False, False]
    assert table["params"].isna().tolist() == [False, True, False]  # more than 64 bits hold
    exact = parquet.read_table(io.BytesIO(trials_parquet(read(study))))["macs"].to_pylist()
    assert exact[1] == 2**63 - 1  # to the last digit, which no float has
    assert table["netscore"].isna()[2]  # minus infinity, as in the CSV


@pytest.mark.parametrize("text", ["<script>\"'&\r\n;", "\x00", "\ud800 alone", "ö漢", "=1+1"])
def test_any_text_survives(text, tmp_path):
    study = make_study()
    add(study, state=TrialState.FAIL, reason=text)
    path = write_parquet(read(study), tmp_path)
    assert path.name == "trials.parquet" and len(list(tmp_path.iterdir())) == 1
    wanted = text.encode("utf-8", "replace").decode()
    assert pd.read_parquet(path)["reason"][0] == wanted


def test_every_column_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text("utf-8")
    for name, meaning in COLUMNS.items():
        (line,) = [row for row in text.splitlines() if row.startswith(f"| `{name}` |")]
        assert line.replace("\\|", "|").endswith(f"| {meaning} |")
