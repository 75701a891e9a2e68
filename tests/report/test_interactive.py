"""The data of the page, against studies worked by hand."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from many_trials import many, record
from report_studies import add, finish, four, make_study

from compress.cost import cost
from compress.report import interactive
from compress.report.findings import read
from compress.report.interactive import page_data, page_details
from compress.report.references import published, tried
from compress.report.script import packed
from compress.space import Genotype

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def unpacked(text: str):
    return json.loads(gzip.decompress(base64.b64decode(text, validate=True)))


@settings(max_examples=40)
@given(JSON)
def test_packed_data_comes_back_and_holds_no_markup(value):
    text = packed(value)
    assert unpacked(text) == value
    assert not set("<>&\"'") & set(text) and packed(value) == text


def test_fronts_gates_and_columns_by_hand(tmp_path):
    study = four()
    finish(study, 2, 0.87, heldout=0.83)
    data = page_data(read(study), tmp_path)
    assert data["fronts"] == {"macs": [0, 1, 2], "params": [3, 1, 2]}
    assert data["costs"] == ["macs", "params"] and data["best"] == data["shown"] == 2
    assert data["limits"] == {"macs": None, "params": 5e5, "latency_ms": None}
    columns = data["columns"]
    assert {len(values) for values in columns.values()} == {6}
    assert columns["state"] == ["complete"] * 4 + ["stopped", "failed"]
    assert columns["passes"] == [0, 0, 1, 0, 0, 0]
    assert columns["delta1"] == [0.60, 0.75, 0.85, 0.70, 0.50, None]
    assert columns["rungs"][2][0][:2] == [3, 0.70] and len(columns["rungs"][2]) == 3
    assert columns["abs_rel"] == [0.12] * 4 + [None] * 2
    assert data["full"] == {"delta1": 0.87, "epochs": 40}
    assert unpacked(packed(data))["columns"]["number"] == [0, 1, 2, 3, 4, 5]


def test_figures_that_are_none_become_null(tmp_path):
    study = make_study()
    add(study, (0.5, 0.0), metrics={"abs_rel": float("inf"), "delta1": 0.0})
    rung = {"epoch": 3, "delta1": float("nan"), "netscore": float("nan"), "seconds": 1.0}
    add(study, (0.5,), raw={"rungs": [rung], "latency_ms": float("nan")})
    data = unpacked(packed(page_data(read(study), tmp_path)))
    assert data["columns"]["abs_rel"] == [None, 0.12]
    assert data["columns"]["delta1"] == [0.0, None]
    assert data["columns"]["netscore"][0] is None  # minus infinity
    assert data["costs"] == ["macs", "params"]


def test_wall_clock_counts_from_the_first_beginning(tmp_path):
    found = many(3)
    rows = (
        replace(found.rows[0], finished="2026-03-01T10:00:00", seconds=1800.0),
        replace(found.rows[1], finished="2026-03-01T11:30:00", seconds=60.0),
        replace(found.rows[2], finished="no time at all"),
    )
    hours = page_data(replace(found, rows=rows), tmp_path)["columns"]["hours"]
    assert hours == [0.5, 2.0, None]


def test_layers_are_those_of_the_genotypes(tmp_path):
    found = many(6)
    details = page_details(found, None)
    assert details["genotypes"] == [row.genotype for row in found.rows]
    for at, row in enumerate(found.rows):
        columns = details["layers"][str(at)]
        size = cost(Genotype.from_json(row.genotype), (96, 128))
        assert (sum(columns["params"]), sum(columns["macs"])) == (size.params, size.macs)
        assert "latency_ms" not in columns


def test_a_large_study_keeps_the_layers_of_the_fronts_and_the_best(monkeypatch):
    monkeypatch.setattr(interactive, "MOST_LAYERED", 20)
    found = many(60)
    listed = page_details(found, None)["layers"]
    fronts = {row.number for name in ("macs", "params") for row in found.front(name)}
    assert {str(number) for number in fronts | {found.winner.number}} <= listed.keys()
    assert len(listed) == max(20, len(fronts | {found.winner.number}))


def test_genotypes_of_others_are_no_layers():
    broken = replace(many(2), rows=(record(0, "complete", (0.5,), params=9, macs=9),))
    assert page_details(broken, None)["layers"] == {}


def test_other_studies_bring_their_fronts(tmp_path):
    other = read(four())
    data = page_data(many(10), tmp_path, [replace(other, name="<b>other")])
    (overlay,) = data["compare"]
    assert overlay["name"] == "<b>other"
    assert [row[0] for row in overlay["fronts"]["params"]] == [3, 1, 2]
    assert overlay["fronts"]["macs"][0] == [0, 5e6, 0.6, 80_000]


def test_networks_that_were_kept_can_be_exported(tmp_path):
    folder = tmp_path / "my study"
    (folder / "networks").mkdir(parents=True)
    for name in ("2.safetensors", "999.safetensors", "notes.txt"):
        (folder / "networks" / name).write_bytes(b"")
    found = replace(many(6), winner=None)
    files = page_data(found, folder)["files"]
    assert list(files) == ["2"]
    words = shlex.split(files["2"]["export"])
    assert words[:2] == ["python", "-c"] and words[3:] == [
        str(folder / "networks" / "2.safetensors"), "trial-2.onnx",
    ]  # fmt: skip
    compile(words[2], "export", "exec")


def test_references_of_the_space_are_found_by_their_architecture():
    found = many(5)
    assert [(name, number) for name, _, number in tried(found)] == [("small", 0), ("tiny", 1)]
    assert tried(replace(found, config={"space": "nowhere"})) == []
    figures = {entry["name"]: entry for entry in published(found)}
    nano = figures["depthnet-nano@nyu"]
    assert (nano["params"], nano["macs"], nano["delta1"]) == (3.46e6, 4.4e9, 0.816)
    assert nano["data"] == "nyu" and not nano["same"]
    nyu = {e["name"]: e["same"] for e in published(replace(found, config={"data": "nyu:/x"}))}
    assert nyu["depthnet-nano@nyu"] and not nyu["depthnet-nano@kitti"]


@pytest.mark.parametrize("name", ["space.py:SPACE", "space.py"])
def test_a_study_cannot_make_its_report_run_code(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("space.py").write_text("open('ran', 'w').close()")
    assert tried(replace(many(2), config={"space": name})) == []
    assert not Path("ran").exists()
