"""Densities by stage: candidates within the multiply-adds, the best kept, a search taken up."""

from __future__ import annotations

import itertools
import json

import pytest

from compress.cli import main
from compress.data import open_data
from compress.errors import CompressError
from compress.gating.macs import expected_macs
from compress.gating.sites import find_sites, sites
from compress.gating.stages import by_gate, search_stages, stages_of
from compress.models import load, save
from compress.models.gates import attach, gates_of
from compress.pruning.task import DepthTask
from compress.space import load_space
from compress.train import train

SIZE = (32, 48)


@pytest.fixture(scope="module")
def task(tiny_folder) -> DepthTask:
    return DepthTask(open_data(f"folder:{tiny_folder}"), SIZE, {"batch": 8})


@pytest.fixture(scope="module")
def dense(tiny_folder, wide_space, tmp_path_factory):
    path = tmp_path_factory.mktemp("stages") / "net.safetensors"
    genotype = load_space(wide_space).sample(0)
    train(genotype, f"folder:{tiny_folder}", out=path, size=SIZE, recipe={"batch": 8}, epochs=2)
    return path


@pytest.fixture(scope="module")
def gated(dense):
    model = load(dense)
    attach(model, sites(find_sites(model, SIZE)), density=0.5)
    return model


def test_stages_are_neighbours_of_one_size(gated):
    stages = stages_of(gated, SIZE)
    assert sorted(path for paths in stages.values() for path in paths) == sorted(gates_of(gated))
    names = [name.split()[1] for name in stages]
    assert all(first != second for first, second in itertools.pairwise(names))
    assert names[0] == "16x24" and [int(name.split()[0]) for name in stages] == list(
        range(1, len(names) + 1)
    )


def test_no_candidate_costs_more_and_none_was_better(gated, task):
    before = {path: gate.density for path, gate in gates_of(gated).items()}
    seen = []
    best, stages = search_stages(gated, task, 0.5, trials=6, on_trial=seen.append)
    budget = expected_macs(gated, SIZE)
    assert len(seen) == 6
    assert seen[0].densities == pytest.approx(dict.fromkeys(stages, 0.5), abs=1e-4)
    for tried in seen:
        densities = by_gate(stages, tried.densities)
        assert expected_macs(gated, SIZE, densities) == tried.macs <= budget
        assert tried.macs > 0.8 * budget
        assert all(0.1 <= density <= 1 for density in densities.values())
    assert best.delta1 == max(tried.delta1 for tried in seen)
    assert {path: gate.density for path, gate in gates_of(gated).items()} == before


def test_a_search_goes_on_where_it_was_left(gated, task, tmp_path):
    journal, first, second = tmp_path / "a" / "densities.journal", [], []

    def stop(tried):
        first.append(tried)
        if len(first) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_stages(gated, task, 0.5, trials=4, journal=journal, on_trial=stop)
    best, _ = search_stages(gated, task, 0.5, trials=4, journal=journal, on_trial=second.append)
    # The one that was not finished is tried again.
    assert len(second) == 3
    assert best.delta1 == max(tried.delta1 for tried in [first[0], *second])


def test_what_is_wrong_is_said(gated, task, dense, capsys, tmp_path):
    with pytest.raises(CompressError, match="from 1"):
        search_stages(gated, task, 0.5, trials=0)
    words = ["gate", str(dense), "--target-latency", "1ms", "--per-stage", "3", "-o"]
    assert main([*words, str(tmp_path / "x.safetensors")]) == 2
    assert "at that of --density" in capsys.readouterr().err


def test_the_command_trains_what_was_found(dense, tiny_folder, tmp_path, capsys):
    out = tmp_path / "gated.safetensors"
    assert main([
        "gate", str(dense), "--density", "0.5", "--per-stage", "3", "--gate-epochs", "0",
        "--joint-epochs", "0", "--step-epochs", "0", "--epochs", "1", "--batch", "8", "--no-static",
        "--seconds", "0.2", "--data", f"folder:{tiny_folder}", "-o", str(out), "--json",
    ]) == 0  # fmt: skip
    answer = json.loads(capsys.readouterr().out)
    model = load(out)
    stages = stages_of(model, SIZE)
    assert answer["stages"].keys() == stages.keys()
    for name, paths in stages.items():
        for path in paths:
            assert gates_of(model)[path].density == pytest.approx(answer["stages"][name])
    again = save(model, tmp_path / "again.safetensors")
    assert expected_macs(load(again), SIZE) <= expected_macs(
        model, SIZE, dict.fromkeys(gates_of(model), 0.5)
    )
