"""``compress report`` as a user types it: studies, comparisons, results of one run, live pages."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from compress.cli import main
from compress.models import build, save
from compress.search.store import owner
from compress.space import load_space

RESULT = {
    "model": "small.safetensors", "target": {"macs": 2e6}, "reached": True,
    "before": {"macs": 4e6, "accuracy": 0.8}, "after": {"macs": 1.9e6, "accuracy": 0.7},
    "iterations": [
        {"number": 1, "layer": "a", "before": 8, "after": 4, "resource": 1.9e6, "accuracy": 0.6}
    ],
}  # fmt: skip
GATED = {"density": 0.5, "macs": {"mean": 1e6, "dense": 2e6},
         "sweep": [{"density": 0.5, "delta1": 0.8}, {"density": 1.0, "delta1": 0.9}]}  # fmt: skip


def make_study(out: Path, name: str, delta1s=(0.6, 0.9)) -> optuna.Study:
    """A study of complete candidates in a folder's database, as the search leaves it."""
    (out / name).mkdir(parents=True)
    study = optuna.create_study(
        study_name=name, direction="maximize", storage=f"sqlite:///{out / name / 'study.db'}"
    )
    study.set_user_attr("gates", {"delta1": 0.5, "max_macs": 1e8})
    for number, delta1 in enumerate(delta1s):
        trial = study.ask()
        add(trial, 1_000_000 * (number + 1), delta1)
        study.tell(trial, 10.0)
    return study


def add(trial: optuna.Trial, macs: int, delta1: float) -> None:
    rung = {"epoch": 3, "delta1": delta1, "netscore": 10.0, "seconds": 1.0}
    stored = {
        "genotype": "{}", "hash": f"{trial.number:08x}", "params": 1000, "macs": macs,
        "macs_all": macs, "rungs": [rung], "metrics": {"delta1": delta1},
    }  # fmt: skip
    for key, value in stored.items():
        trial.set_user_attr(key, value)


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(("report", *words))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_study_gets_a_page_tables_and_figures(capsys, tmp_path):
    make_study(tmp_path, "demo")
    code, out, err = run(capsys, "demo", "--out", str(tmp_path), "--figures", "--json")
    assert code == 0, err
    told = json.loads(out)
    folder = tmp_path / "demo"
    assert told["study"] == "demo" and told["report"] == str(folder / "index.html")
    assert "demo" in (folder / "index.html").read_text("utf-8")
    table = pd.read_parquet(told["parquet"])
    assert table["delta1"].tolist() == [0.6, 0.9] and table["on_front"].all()
    assert pd.read_csv(told["csv"])["delta1"].tolist() == [0.6, 0.9]
    stems = [
        f"front-{cost}.{kind}" for cost in ("macs", "params") for kind in ("svg", "pdf", "png")
    ]
    assert sorted(Path(file).name for file in told["figures"]) == sorted(stems)
    assert all(Path(file).is_file() for file in told["figures"])
    # The text beside the page is the study, without its database too.
    (folder / "study.db").unlink()
    (folder / "index.html").unlink()
    before = (folder / "trials.csv").read_bytes()
    code, _, err = run(capsys, "demo", "--out", str(tmp_path))
    assert code == 0, err
    assert (folder / "index.html").is_file() and (folder / "trials.csv").read_bytes() == before


def test_depth_maps_of_the_front_are_drawn_where_weights_and_data_are_there(
    capsys, tmp_path, tiny_space, tiny_folder
):
    study = make_study(tmp_path, "demo")
    network = build(replace(load_space(str(tiny_space)).smallest, size=(32, 48)), seed=0)
    for number in (0, 1):
        save(network, tmp_path / "demo" / "networks" / f"{number}.safetensors")
    code, _, err = run(capsys, "demo", "--out", str(tmp_path))
    assert code == 0 and "does not say on which data" in err and err.count("\n") == 1
    study.set_user_attr("config", json.dumps({"data": f"folder:{tiny_folder}"}))
    code, _, err = run(capsys, "demo", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    page = (tmp_path / "demo" / "index.html").read_text("utf-8")
    assert 'data-trial="0"' in page and 'data-trial="1"' in page


def test_a_study_is_found_by_its_folder_too(capsys, tmp_path, monkeypatch):
    make_study(tmp_path / "elsewhere", "demo")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "elsewhere/demo/")
    assert code == 0, err
    assert out == "elsewhere/demo/index.html\n"


def test_other_studies_are_laid_over(capsys, tmp_path):
    make_study(tmp_path, "demo")
    make_study(tmp_path, "rival-one")
    make_study(tmp_path / "far", "rival-two")
    code, _, err = run(
        capsys, "demo", "--out", str(tmp_path), "--compare", "rival-one", "--compare",
        str(tmp_path / "far" / "rival-two"),
    )  # fmt: skip
    assert code == 0, err
    text = (tmp_path / "demo" / "index.html").read_text("utf-8")
    assert "rival-one" in text and "rival-two" in text


@pytest.mark.parametrize(("result", "figure"), [(RESULT, "course"), (GATED, "density")])
def test_the_result_of_one_run(capsys, tmp_path, result, figure):
    (tmp_path / "small.json").write_text(json.dumps(result))
    code, out, err = run(capsys, str(tmp_path / "small.json"), "--figures", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["report"] == str(tmp_path / "small.html")
    assert "Content-Security-Policy" in Path(told["report"]).read_text("utf-8")
    names = [Path(file).name for file in told["figures"]]
    assert names == [f"small-{figure}.{kind}" for kind in ("svg", "pdf", "png")]
    assert all((tmp_path / "figures" / name).is_file() for name in names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("dem", "did you mean demo?"),
        ("nothing/there", "unknown study 'there'"),
        ("..", "study name"),
        ("demo --compare dema", "did you mean demo?"),
        ("demo --every 5", "--every goes with --live"),
        ("demo --live --every 0", "give seconds from 1"),
        ("demo --live --every nan", "give seconds from 1"),
        ("demo --live --every often", "invalid float value"),
        ("none.json", "none.json: cannot be read"),
        ("broken.json", "is no JSON"),
        ("other.json", "holds no result"),
        ("good.json --live", "--live goes with a study"),
        ("good.json --compare demo", "--compare goes with a study"),
        ("garbled", "cannot be reached"),
        ("demo --storage sqlite:////nowhere/x.db", "cannot be reached"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    make_study(Path("reports"), "demo", ())
    Path("reports/garbled").mkdir()
    Path("reports/garbled/study.db").write_bytes(b"no database" * 500)
    Path("broken.json").write_text("{")
    Path("other.json").write_text('{"space": 1}')
    Path("good.json").write_text(json.dumps(RESULT))
    code, out, err = run(capsys, *words.split())
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.glob("**/index.html"))


def test_a_live_page_follows_the_study_and_ends_with_it(tmp_path):
    study = make_study(tmp_path, "demo")
    running = study.ask()
    add(running, 500_000, 0.77)
    running.set_user_attr("owner", owner())
    command = [
        sys.executable, "-m", "compress", "report", "demo", "--out", str(tmp_path), "--live",
        "--every", "1",
    ]  # fmt: skip
    page, table = tmp_path / "demo" / "index.html", tmp_path / "demo" / "trials.csv"
    live = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _until(lambda: page.is_file() and _refreshes(page))
        assert table.read_text().count("running") == 1
        study.tell(running, 11.0)
        _until(lambda: "running" not in table.read_text())
        study.set_user_attr("final", {f"{running.number:08x}": {"delta1": 0.8, "model": "m"}})
        _, err = live.communicate(timeout=60)
    finally:
        live.kill()
    assert live.returncode == 0, err
    assert err.count("\n") == 2 and "Ctrl-C ends" in err and "no weights" in err
    assert not _refreshes(page) and study.trials[-1].state == TrialState.COMPLETE


def _refreshes(page: Path) -> bool:
    return '<meta http-equiv="refresh" content="1">' in page.read_text("utf-8")


def _until(met, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(0.1)
