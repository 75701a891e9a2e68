"""One training for all candidates: the same after an interruption, and a study from it."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.cost import cost
from compress.errors import CompressError
from compress.models import load
from compress.search import SearchConfig, candidate, oneshot, run, scores, search, supernet
from compress.search.events import Events
from compress.search.gates import Gates
from compress.search.oneshot import score_candidates
from compress.search.records import Record, Rung, records, study_config
from compress.search.scores import FILE as SCORES
from compress.search.scores import (
    Score,
    correlation,
    describe,
    expectation,
    most_promising,
    telling,
)
from compress.search.store import find_study
from compress.search.supernet import FILE, Allowed, open_supernet
from compress.space import load_space
from compress.train.fit import Trainer

BUDGET = 3207  # half of the tiny space


@pytest.fixture(scope="module")
def options(tiny_space, tiny_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oneshot, "CANDIDATES", 12)
        patch.setattr(supernet, "EPOCHS", 5)
        yield {
            "space": str(tiny_space), "data": f"folder:{tiny_folder}", "size": (32, 48),
            "delta1": 0.05, "epochs": 1, "final_epochs": 2, "workers": 1,
            "strategy": "one-shot", "budget": BUDGET, "trials": 5,
        }  # fmt: skip


@pytest.fixture(scope="module")
def done(options, tmp_path_factory):
    """The folder that holds a finished study, and its result."""
    out = tmp_path_factory.mktemp("done")
    return out, search(study="s", out=out, **options)


@pytest.fixture
def copied(done, tmp_path):
    shutil.copytree(done[0] / "s", tmp_path / "s")
    return tmp_path


class Notes(Events):
    """Interrupts where asked."""

    def __init__(self, stop_after: tuple[str, int]) -> None:
        self.stop_after = stop_after

    def reading(self, what):
        def update(done, of):
            if self.stop_after == (what, done):
                raise KeyboardInterrupt

        return update


def test_a_study_trains_one_network_and_scores_many(done, options):
    out, result = done
    assert result.complete
    assert result.trials == 5
    lines = (out / "s" / SCORES).read_text().splitlines()
    scored = [json.loads(line) for line in lines]
    assert len(scored) == 12 == result.one_shot["scored"]
    assert len({score["hash"] for score in scored}) == 12
    space = load_space(options["space"])
    for score in scored:
        genotype = space.genotype(score["values"])
        assert score["values"]["norm"] == "all"
        assert (score["params"], score["macs"]) == cost(genotype, (32, 48))[:2]
        assert score["params"] <= BUDGET
        assert 0 <= score["delta1"] <= 1
    # What was trained was scored before; what was trained alone counts for the correlation.
    rows = records(find_study("s", out))
    assert {row.hash for row in rows} <= {score["hash"] for score in scored}
    assert all(row.state == "complete" for row in rows)
    assert [row.cut for row in rows] == [False, False, False, True, True]
    assert (result.one_shot["trained"], result.one_shot["cut"]) == (3, 2)
    assert -1 <= result.one_shot["spearman"] <= 1
    assert "12 candidates scored" in describe(result.one_shot)
    page = (out / "s" / "index.html").read_text()
    assert "12 candidates scored as slices of one trained network, 3 of them" in page
    assert "2 cut out of it and trained on" in page
    assert f"Spearman {result.one_shot['spearman']:.2f}".replace("-", "−") in page
    assert load(result.best["model"]).genotype.values["norm"] == "all"


def test_an_interrupted_study_ends_as_an_uninterrupted_one(done, options, tmp_path):
    out, whole = done
    for stop in (("supernet", 3), ("candidates as slices", 5)):
        with pytest.raises(KeyboardInterrupt):
            search(study="s", out=tmp_path, events=Notes(stop), **options)
    resumed = search(study="s", out=tmp_path, **options)
    for name in (FILE, SCORES):
        assert (out / "s" / name).read_bytes() == (tmp_path / "s" / name).read_bytes()
    assert whole.best | {"model": ""} == resumed.best | {"model": ""}
    # Asked once more, it returns what it has.
    assert search(study="s", out=tmp_path, **options).best == resumed.best


def test_a_study_bounded_in_time_scores_no_more_once_it_trains(options, tmp_path, monkeypatch):
    monkeypatch.setattr(oneshot, "CANDIDATES", 6)
    monkeypatch.setattr(supernet, "MOST", 5)
    first = search(study="s", out=tmp_path, **options | {"minutes": 30.0, "trials": 3})
    assert first.one_shot["scored"] == 6
    monkeypatch.setattr(oneshot, "CANDIDATES", 12)
    again = search(study="s", out=tmp_path, **options | {"minutes": 30.0, "trials": 4})
    assert (again.trials, again.one_shot["scored"]) == (4, 6)


def test_all_processes_know_the_same_end(copied):
    """One that joins later does not count what the study has run meanwhile twice."""
    config = SearchConfig.from_dict(study_config(find_study("s", copied)), "test")
    config = replace(config, minutes=10.0)
    began = time.monotonic() - 100
    remake = partial(run._session, "s", copied / "s", config, None, began)
    first = remake(Events())
    first.tick()
    assert remake(Events()).end == first.end == began + 600


def test_two_processes_score_as_one_does(done, copied):
    (copied / "s" / SCORES).unlink()
    config = SearchConfig.from_dict(study_config(find_study("s", copied)), "test")
    remake = partial(run._session, "s", copied / "s", config, None, time.monotonic())
    session = remake(Events())
    found = score_candidates(session, open_supernet(session), 2, remake, 4)
    known = [json.loads(line) for line in (done[0] / "s" / SCORES).read_text().splitlines()]
    expected = {row["hash"]: row["delta1"] for row in known}
    assert len(found) == 4
    alike = [score for score in found if score.hash in expected]
    assert alike
    assert all(score.delta1 == expected[score.hash] for score in alike)


def test_others_learn_from_the_largest_and_do_not_drag_it_along(options, tmp_path, monkeypatch):
    """They are never shown the truth, and share its weights: a constant would please them all."""
    seen = []
    original = Trainer._train_step

    def spied(self, batch, *rest):
        loss, terms = original(self, batch, *rest)
        if self._penalty is not None:
            own = sum(float(term) for term in terms.values())
            seen.append((self.epoch, own, float(loss) - own))
        return loss, terms

    monkeypatch.setattr(Trainer, "_train_step", spied)
    monkeypatch.setattr(supernet, "EPOCHS", 15)
    with pytest.raises(KeyboardInterrupt):
        search(study="s", out=tmp_path, events=Notes(("supernet", 15)), **options)
    alone = [extra for epoch, _, extra in seen if epoch < 3]
    together = [extra for epoch, _, extra in seen if epoch >= 3]
    assert max(map(abs, alone)) < 1e-5  # the largest learns alone at first
    assert min(together) > 0.0001
    assert sum(together[-6:]) < 0.9 * sum(together[:6])
    own = [loss for _, loss, _ in seen]
    assert sum(own[-6:]) < 0.9 * sum(own[:6])


def test_candidates_for_the_sandwich_pass_the_gates():
    space = load_space("depthnet-nano").restricted({"norm": "all"})
    gates = Gates(5e4, None, 0.5, (96, 128))
    allowed = Allowed(space, gates, 0)
    chance = random.Random(1)
    drawn = [allowed.draw(chance) for _ in range(20)]
    for genotype in (*allowed.largest, *drawn, allowed.smallest):
        assert cost(genotype, gates.size).params <= 5e4
    assert len(set(allowed.largest)) > 10
    assert min(cost(g, gates.size).params for g in allowed.largest) > 3e4
    everything = Allowed(load_space("depthnet-nano-bench"), Gates(None, None, 0.5, (48, 64)), 0)
    assert [g.values["stem"] for g in everything.largest] == [24]


def slices(*delta1):
    return [Score({}, f"{i}", 10 * i, 100, d1) for i, d1 in enumerate(delta1)]


def test_candidates_trained_alone_are_spread_over_the_scores():
    left, told = slices(0.1, 0.9, 0.5, 0.3, 0.7), []
    while left:
        score = telling(left, told)
        left.remove(score)
        told.append(score.delta1)
    assert told == [0.9, 0.1, 0.5, 0.7, 0.3]


def record(number, name, params, delta1, cut=False, state="complete"):
    rung = Rung(1, delta1, 30.0, 1.0)
    return Record(number, state, name, params, 100, 100, (rung,), cut=cut)


def test_the_most_promising_candidate_is_small_and_likely_to_pass():
    gate, known = 0.7, [(0.7, 0.7), (0.6, 0.6), (0.8, 0.8)]
    small_and_poor, small, large = (
        Score({}, "poor", 10_000, 10**6, 0.6),
        Score({}, "small", 20_000, 10**6, 0.74),
        Score({}, "large", 80_000, 10**6, 0.75),
    )
    left = [small_and_poor, small, large]
    assert most_promising(left, known, gate, "depthnet-nano", None) is small
    # Where all that would pass are no gain, the likeliest to pass.
    leader = Record(0, "complete", "x", 1, 1, 1, (Rung(1, 0.9, 99.0, 1.0),))
    assert most_promising(left, known, gate, "depthnet-nano", leader) is large


def test_only_what_began_from_fresh_weights_counts_for_the_correlation():
    scored = slices(0.1, 0.2, 0.3, 0.4)
    rows = [record(i, f"{i}", 10, 0.5 + i / 10) for i in range(3)]
    rows += [record(3, "3", 10, 0.0, cut=True), record(4, "other", 10, 0.0)]
    found = correlation(scored, rows)
    assert found == {"scored": 4, "trained": 3, "cut": 1, "spearman": 1.0, "kendall": 1.0}
    assert "too few trained alone (2)" in describe(correlation(scored, rows[:2]))


def test_what_a_study_is_given_to_try_first_is_scored_first(options, tmp_path, monkeypatch):
    space = load_space(options["space"]).restricted({"norm": "all"})
    given = space.genotype(dict(space.smallest.values))
    handed = []

    def fill(study, *_):
        if not study.get_trials():
            study.enqueue_trial(dict(given.values))

    inner = candidate._parent

    def spied(session, trial, genotype):
        parent = inner(session, trial, genotype)
        handed.append((genotype.hash, parent))
        return parent

    monkeypatch.setattr(run, "fill_queue", fill)
    monkeypatch.setattr(candidate, "_parent", spied)
    result = search(study="s", out=tmp_path, **options | {"trials": 4})
    first = json.loads((tmp_path / "s" / SCORES).read_text().splitlines()[0])
    assert first["hash"] == given.hash == handed[0][0]
    assert result.one_shot["trained"] == 3
    # Three begin with fresh weights; the fourth with those of the trained supernet.
    assert [parent is None for _, parent in handed] == [True, True, True, False]
    study = find_study("s", tmp_path)
    session = run._session(
        "s", tmp_path / "s", SearchConfig.from_dict(study_config(study), "test"), None,
        time.monotonic(), Events(),
    )  # fmt: skip
    row = next(row for row in records(study) if row.cut)
    cut = open_supernet(session).cut(row.open_genotype())
    for name, weight in cut.named_parameters():
        assert weight.equal(dict(handed[3][1].named_parameters())[name])


def test_what_slices_let_expect():
    assert expectation([])[0](0.6) == 0.6
    assert expectation([(0.5, 0.7)])[0](0.6) == pytest.approx(0.8)
    many = [(x / 100, 0.3 + 0.5 * x / 100) for x in range(20, 80)]
    expect, spread = expectation(many)
    assert expect(0.5) == pytest.approx(0.55, abs=0.01)
    assert expect(0.9) == pytest.approx(0.75, abs=0.02)
    assert spread == scores.SPREAD
    noisy = [(x, y + (0.1 if i % 2 else -0.1)) for i, (x, y) in enumerate(many)]
    assert expectation(noisy)[1] == pytest.approx(0.1, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12), st.floats(0, 1))
def test_expectations_rise_and_are_shares(pairs, delta1):
    expect, spread = expectation(pairs)
    assert spread > 0
    assert 0 <= expect(delta1) <= 1
    assert expect(delta1) <= expect(min(1.0, delta1 + 0.1))


def test_other_families_are_refused_before_any_training(options, tmp_path):
    with pytest.raises(CompressError, match="fastdepth"):
        search(study="s", out=tmp_path, **options | {"space": "fastdepth", "budget": 5e6})
    with pytest.raises(CompressError, match=r"strategy.*one-shot"):
        search(study="s", out=tmp_path, **options | {"strategy": "oneshot"})
    assert not (tmp_path / "s").exists()


def test_a_torn_supernet_is_trained_anew(copied, options):
    path = copied / "s" / FILE
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    search(study="s", out=copied, **options)
    assert path.read_bytes() == good


def test_a_line_cut_off_is_scored_again(copied, options):
    path = copied / "s" / SCORES
    good = path.read_text()
    path.write_text(good[:-30])
    assert len(scores.read_scores(path)) == 11
    assert path.read_text().endswith("}\n")
    search(study="s", out=copied, **options)
    assert path.read_text() == good
