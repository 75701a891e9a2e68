"""Whole studies, small: gates before training, resumption, kill -9, Ctrl-C, figures that hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from compress.cost import cost
from compress.errors import CompressError
from compress.models import load
from compress.netscore import netscore
from compress.search import search
from compress.search.events import Events
from compress.search.records import GATES, PROTOCOL, front, records
from compress.search.store import find_study
from compress.train import Trainer, evaluate


@pytest.fixture
def options(tiny_space, tiny_folder, tmp_path):
    return {
        "space": str(tiny_space),
        "data": f"folder:{tiny_folder}",
        "out": tmp_path,
        "size": (32, 48),
        "delta1": 0.2,
        "epochs": 4,
        "final_epochs": 6,
        "workers": 1,
    }


class Watch(Events):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.began_ = []
        self.finals = []
        self.statuses = []

    def began(self, number, size):
        self.began_.append(number)

    def final(self, record, epochs):
        self.finals.append((record.number, epochs))

    def status(self, status):
        self.statuses.append(status)


def test_a_study_from_images_to_a_saved_network(options, tmp_path, tiny_folder):
    watch = Watch()
    budget = 3207  # half of the tiny space
    result = search(study="s", trials=4, budget=budget, events=watch, **options)
    assert result.complete
    assert result.trials == 4
    assert result.refused == sum(result.refused_by.values())
    best = result.best
    assert set("model params macs delta1 netscore".split()) <= set(best)
    # What the result says is what the file is.
    model = load(best["model"])
    assert cost(model)[:2] == (best["params"], best["macs"])
    assert best["params"] <= budget
    assert best["netscore"] == pytest.approx(
        netscore(100 * best["delta1"], best["params"], best["macs"])
    )
    data = f"folder:{tiny_folder}"
    validation = evaluate(model, data, part="validation")
    assert validation["delta1"] == pytest.approx(best["delta1"], abs=1e-9)
    assert best["delta1"] >= 0.2
    heldout = evaluate(model, data)
    assert heldout.metrics == pytest.approx(best["heldout"], abs=1e-9)
    assert model.info["heldout"]["protocol"]["split_hash"] == heldout.protocol.split_hash
    # The report is there, and the study is an ordinary Optuna study.
    assert Path(result.report).is_file()
    assert (tmp_path / "s" / "trials.csv").is_file()
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/s/study.db")
    rows = records(study)
    assert len(rows) == 4
    assert len({r.hash for r in rows}) == 4
    assert all(r.params <= budget for r in rows)
    assert study.user_attrs[GATES]["delta1"] == 0.2
    assert study.user_attrs[PROTOCOL]["split"] == "validation"
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.COMPLETE:
            gap = 0.2 - trial.user_attrs["metrics"]["delta1"]
            assert trial.constraints["delta1"] == pytest.approx(gap)
    assert watch.statuses[-1].trials == 4
    # Nothing is left over, and only networks that matter are kept.
    assert not list((tmp_path / "s" / "checkpoints").glob("*.pt"))
    kept = {int(p.stem) for p in (tmp_path / "s" / "networks").glob("*.safetensors")}
    assert kept <= {r.number for r in rows if r.state == "complete"}
    assert best["trial"] in kept
    # All networks on the front have depth maps, the winner's as those of the study.
    drawn = {int(p.stem.split("-")[1]) for p in (tmp_path / "s").glob("samples-*.png")}
    on_front = {row.number for key in ("macs", "params") for row in front(rows, key)}
    assert drawn == on_front - {best["trial"]} and (tmp_path / "s" / "samples.png").is_file()


def test_the_report_is_written_while_the_study_runs(options, tmp_path):
    page, seen = tmp_path / "s" / "index.html", []

    class Slow(Watch):
        def finished(self, record, records):
            end = time.monotonic() + 20  # a page of before this candidate, at least
            while not page.is_file() and time.monotonic() < end:
                time.sleep(0.05)
            seen.append(page.read_text("utf-8"))

    result = search(study="s", trials=2, live=1.0, events=Slow(), **options)
    assert result.complete and all('data-refresh="1"' in text for text in seen) and seen
    assert "data-refresh=" not in page.read_text("utf-8")


def test_the_same_call_again_trains_nothing_and_more_trials_go_on(options):
    first = search(study="s", trials=2, **options)
    watch = Watch()
    again = search(study="s", trials=2, events=watch, **options)
    assert watch.began_ == []
    assert watch.finals == []
    assert again.best == first.best
    more = search(study="s", trials=3, events=watch, **options)
    assert len(watch.began_) == 1
    assert more.trials == 3


def test_resuming_needs_only_the_name_but_refuses_other_gates(options, tmp_path):
    search(study="s", trials=1, **options)
    assert search(study="s", out=tmp_path, workers=1).trials == 1
    with pytest.raises(CompressError, match=r"made with delta1 = 0.2, now 0.9"):
        search(study="s", **options | {"delta1": 0.9})


def test_a_mistyped_name_alone_begins_nothing(options, tmp_path):
    search(study="kitchen", trials=1, **options)
    with pytest.raises(CompressError, match="did you mean kitchen"):
        search(study="kitchn", trials=1, out=tmp_path)
    assert not (tmp_path / "kitchn").exists()


def test_refused_candidates_are_neither_trained_nor_trials(options, tiny_space):
    watch = Watch()
    result = search(study="s", trials=3, budget=2801, events=watch, **options)
    assert result.refused_by.get("params", 0) > 0
    assert len(watch.began_) == 3
    study = find_study("s", options["out"])
    assert len(study.trials) == 3


def test_no_network_through_the_gates_names_the_nearest_miss(options):
    result = search(study="s", trials=2, **options | {"delta1": 0.9999})
    assert result.best is None
    rows = records(find_study("s", options["out"]))
    assert result.nearest["delta1"] == max(r.delta1 for r in rows)
    assert not (Path(options["out"]) / "s" / "best.safetensors").exists()


def test_a_diverging_candidate_fails_alone(options, monkeypatch):
    real = Trainer.run
    calls = []

    def run(self, until=None, on_epoch=None, should_stop=None):
        if not calls:
            calls.append(1)
            import torch

            with torch.no_grad():
                self.model.head.bias.fill_(float("nan"))
        return real(self, until, on_epoch, should_stop)

    monkeypatch.setattr(Trainer, "run", run)
    result = search(study="s", trials=3, **options)
    rows = records(find_study("s", options["out"]))
    assert [r.state for r in rows].count("failed") == 1
    assert "diverged" in rows[0].reason
    assert result.best is not None


def test_workers_share_a_study_without_repeating_a_candidate(options):
    result = search(study="s", trials=5, **options | {"workers": 2})
    rows = records(find_study("s", options["out"]))
    assert result.trials == len(rows) == 5
    assert len({r.hash for r in rows}) == 5
    assert result.best is not None


def test_minutes_bound_a_study(options):
    start = time.monotonic()
    result = search(study="s", minutes=0.15, **options)
    assert result.trials >= 1
    assert time.monotonic() - start < 60
    again = search(study="s", minutes=0.15, **options)
    assert again.trials == result.trials


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 10}, "below the smallest network of space tiny"),
        ({"space": "tinny"}, "unknown space"),
        ({"sampler": "tpo"}, "did you mean tpe"),
        ({"exponents": "standart"}, "did you mean standard"),
        ({"data": "foldr:x"}, "did you mean folder"),
        ({"storage": "postgresql://127.0.0.1:1/x"}, "cannot be reached"),
        ({"out": "/proc/none"}, "--out"),
        ({"study": "../up"}, "study name"),
    ],
)
def test_mistakes_are_answered_before_any_training(options, change, said, monkeypatch):
    monkeypatch.setattr(Trainer, "__init__", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(CompressError, match=said):
        search(**{"study": "s", "trials": 1} | options | change)
    assert not (Path(options["out"]) / "s").exists()


# Killed and interrupted -----------------------------------------------------------------------


def command(options, *extra):
    words = [sys.executable, "-m", "compress", "search", "--json", "--study", "s"]
    for key in ("space", "data", "out", "delta1", "epochs", "final_epochs", "workers"):
        words += [f"--{key.replace('_', '-')}", str(options[key])]
    return [*words, "--size", "32x48", *extra]


def started(options, *extra):
    return subprocess.Popen(
        command(options, *extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(folder: Path, pattern: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + 90
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {pattern}"
        time.sleep(0.01)


def facts(out: Path):
    return [
        (r.hash, r.state, [(g.epoch, g.delta1) for g in r.rungs])
        for r in records(find_study("s", out))
    ]


def test_killed_and_resumed_gives_the_study_of_an_uninterrupted_one(options, tmp_path):
    options["epochs"] = 12
    whole = dict(options, out=tmp_path / "whole")
    expected = search(study="s", trials=3, **whole)
    for _ in range(2):
        process = started(options, "--trials", "3")
        wait_for(tmp_path / "s" / "checkpoints", "*.pt", process)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = started(options, "--trials", "3")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert facts(tmp_path) == facts(tmp_path / "whole")
    assert result["trials"] == 3
    for key in ("params", "macs", "delta1", "netscore", "heldout"):
        assert result["best"][key] == expected.best[key]


def test_ctrl_c_ends_cleanly_with_a_report_and_the_same_command_goes_on(options, tmp_path):
    process = started(options, "--trials", "50")
    wait_for(tmp_path / "s" / "networks", "*.safetensors", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    result = json.loads(out)
    assert not result["complete"]
    assert process.returncode == (0 if result["best"] else 1)
    assert Path(result["report"]).is_file()
    if result["best"]:
        load(result["best"]["model"])
    done = result["trials"]
    process = started(options, "--trials", str(done + 1))
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    after = json.loads(out)
    assert after["complete"]
    assert after["trials"] >= done + 1


def test_a_worker_ends_when_its_parent_is_killed(options, tmp_path):
    process = started(dict(options, workers=2, epochs=200), "--trials", "4")
    wait_for(tmp_path / "s" / "checkpoints", "*.pt", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    pids = [int(p) for p in children.read_text().split()]
    assert pids
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + 30
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.2)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
