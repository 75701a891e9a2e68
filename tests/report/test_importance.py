"""Importance of parameters, where it is known by construction."""

from __future__ import annotations

import random

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from compress.report.importance import FEWEST_TRIALS, importance

KINDS = {key: CategoricalDistribution((1, 2, 3, 4)) for key in ("width", "depth", "idle")}


def study_of(count: int, fixed: bool = False) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    chance = random.Random(0)
    for _ in range(count):
        params = {key: 1 if fixed else chance.choice((1, 2, 3, 4)) for key in KINDS}
        value = 10 * params["width"] + 20 * chance.random()
        study.add_trial(create_trial(params=params, distributions=KINDS, value=value))
    return study


def test_what_decides_comes_first():
    verbosity = optuna.logging.get_verbosity()
    found = importance(study_of(200))
    assert found.most == found.shares["width"] > 0.8 and next(iter(found.shares)) == "width"
    assert sum(found.shares.values()) == pytest.approx(1) and found.shares.keys() == KINDS.keys()
    assert found.trials == 200 and found.why == ""
    assert optuna.logging.get_verbosity() == verbosity


def test_too_few_trials_say_so():
    found = importance(study_of(FEWEST_TRIALS - 1))
    assert not found.shares and f"{FEWEST_TRIALS - 1} candidates trained to the end" in found.why


def test_failure_is_a_sentence(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(optuna.importance, "get_param_importances", broken)
    assert importance(study_of(30)).why == "Optuna could not compute it (RuntimeError)."


def test_nothing_varied():
    found = importance(study_of(30, fixed=True))
    assert not found.shares and found.why == "No parameter was varied."
