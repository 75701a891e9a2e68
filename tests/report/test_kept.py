"""A study kept as two text files, and opened from them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from report_studies import add, finish, four, make_study

from compress.errors import CompressError
from compress.report.findings import read
from compress.report.kept import KEPT, is_kept, open_kept, write_kept
from compress.report.page import write_report
from compress.report.tables import TABLE, trials_csv

EVIL = "\x7f\x00 \"'\\ ]\n[x] é 😀"


def test_what_is_opened_is_what_was_kept(tmp_path):
    study = four(max_macs=5e7, max_latency_ms=20.0)
    add(study, (0.5,), state=TrialState.RUNNING, raw={"latency_ms": 4.5})
    finish(study, 2, 0.87, heldout=0.83)
    write_report(study, tmp_path)
    again = open_kept(tmp_path)
    assert read(again) == read(study)
    first = {name: (tmp_path / name).read_bytes() for name in (KEPT, TABLE, "trials.parquet")}
    write_report(again, tmp_path)
    assert first == {name: (tmp_path / name).read_bytes() for name in first}


def test_numbers_that_no_candidate_has_stay_free_and_parameters_are_there(tmp_path):
    study = make_study()
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))  # given back to the queue
    for stem in (4, 8):
        genotype = json.dumps({"values": {"stem": stem, "norm": "all", "odd": [1]}})
        add(study, (0.5, 0.6, 0.7), raw={"genotype": genotype})
    write_report(study, tmp_path)
    trials = open_kept(tmp_path).trials
    assert [trial.number for trial in trials] == [0, 1, 2] and trials[0].params == {}
    assert [trial.params for trial in trials[1:]] == [{"stem": n, "norm": "all"} for n in (4, 8)]
    assert trials[1].distributions["stem"].choices == (4, 8)


def test_text_of_others_stays_text(tmp_path):
    study = make_study(config={EVIL: EVIL, "fix": {EVIL: [1, {"a": EVIL, "b": None}]}})
    study.set_user_attr("environment", {EVIL: EVIL, "nan": float("nan"), "none": None})
    write_kept(read(study), tmp_path)
    values = tomllib.loads((tmp_path / KEPT).read_text("utf-8"))
    assert values["config"][EVIL] == EVIL and values["environment"] == {EVIL: EVIL}
    assert values["config"]["fix"] == {EVIL: [1, {"a": EVIL}]}


def test_tables_of_before_rungs_were_kept(tmp_path):
    write_report(four(), tmp_path)
    lines = (tmp_path / TABLE).read_text("utf-8").replace("rungs", "others")
    (tmp_path / TABLE).write_text(lines)
    row = read(open_kept(tmp_path)).rows[0]
    assert [(rung.epoch, rung.delta1, rung.seconds) for rung in row.rungs] == [(12, 0.6, 100.0)]


@pytest.mark.parametrize(
    ("name", "trials", "best", "heldout"),
    [("scenes-reference", 10, 0, 0.8724), ("mobiledepth-ablation", 30, 19, None)],
)
def test_the_reference_studies_open(name, trials, best, heldout):
    folder = Path(__file__).parents[2] / "reports" / name
    found = read(open_kept(folder))
    assert (found.name, len(found.rows), found.winner.number) == (name, trials, best)
    assert found.full.get("heldout", {}).get("delta1") == pytest.approx(heldout, abs=1e-4)
    assert trials_csv(found) == (folder / TABLE).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (KEPT, "name = ", "cannot be read"),
        (KEPT, "\xff", "cannot be read"),
        (KEPT, 'name = "../x"', "study name"),
        (TABLE, "number\n1\n", "line 2: is no candidate"),
        (TABLE, None, "line 2: is no candidate"),
    ],
)
def test_what_cannot_be_opened_is_one_line(tmp_path, name, text, said):
    write_report(four(), tmp_path)
    assert is_kept(tmp_path)
    if text is None:  # a candidate without its parameters
        text = (tmp_path / TABLE).read_text("utf-8").replace(",80000,", ",many,")
    (tmp_path / name).write_text(text, "latin-1")
    with pytest.raises(CompressError, match=said) as error:
        open_kept(tmp_path)
    assert "\n" not in str(error.value)
