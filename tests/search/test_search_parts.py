"""The parts of a search: gates, sampler, early stopping, front, storage, configuration."""

from __future__ import annotations

import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.cost import cost
from compress.errors import CompressError
from compress.netscore import netscore
from compress.search import SearchConfig
from compress.search.config import count, human, read_recipe, recipe_names
from compress.search.early import stop_reason
from compress.search.gates import Gates, Refusals
from compress.search.records import Record, Rung, best, front, nearest_miss
from compress.search.rungs import rung_epochs
from compress.search.sampler import SAMPLERS, GatedSampler, distributions, hush_optuna
from compress.search.store import (
    check_name,
    find_study,
    open_storage,
    owner,
    owner_is_gone,
    prepare_folder,
)
from compress.space import load_space

hush_optuna()


def row(number=0, delta1=0.8, macs=100, params=1000, state="complete", rungs=None):
    score = netscore(100 * delta1, params, macs)
    rungs = rungs or [(4, delta1)]
    made = tuple(Rung(e, d, netscore(100 * d, params, macs), 1.0) for e, d in rungs)
    assert made[-1].netscore == score
    return Record(number, state, f"h{number}", params, macs, macs, made)


class TestConfig:
    """What a user may ask for."""

    @pytest.mark.parametrize("text", ["5X", "-1", "0", "", "M", "1e6", "nan", "5 M M", "inf"])
    def test_a_wrong_count_is_answered(self, text):
        with pytest.raises(CompressError, match="as in 5M"):
            count(text)

    @given(st.floats(0.001, 9e5), st.sampled_from(["", "K", "M", "G", "k", "m", "g"]))
    def test_counts_are_read(self, value, suffix):
        factor = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[suffix.upper()]
        assert count(f"{value:.6f}{suffix}") == pytest.approx(float(f"{value:.6f}") * factor)

    @given(st.integers(1, 10**12))
    def test_human_counts_read_back(self, value):
        assert count(human(value)) == pytest.approx(value, rel=6e-3)

    def test_gates_of_the_paper_are_the_default(self):
        assert SearchConfig(data="kitti:/data").gate_delta1 == 0.89
        assert SearchConfig().gate_delta1 == 0.81
        assert SearchConfig(delta1=0.5).gate_delta1 == 0.5

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"buget": 1}, "did you mean budget"),
            ({"budget": "5X"}, "5X"),
            ({"delta1": 1.5}, "below 1"),
            ({"delta1": "high"}, "delta1 = 'high'"),
            ({"trials": 0}, "trials = 0"),
            ({"trials": 2.5}, "trials = 2.5"),
            ({"minutes": 0}, "minutes = 0"),
            ({"size": "10by10"}, "HEIGHTxWIDTH"),
            ({"flip_average": 1}, "flip_average = 1"),
            ({"epochs": True}, "epochs = True"),
        ],
    )
    def test_a_wrong_recipe_names_key_and_value(self, values, said):
        with pytest.raises(CompressError, match=said):
            SearchConfig.from_dict(values, "my.toml")

    def test_round_trip(self):
        config = SearchConfig(budget=5e6, size=(96, 128), training={"lr": 0.001})
        assert SearchConfig.from_dict(config.to_dict(), "x") == config

    def test_shipped_recipes_are_valid(self):
        assert "demo" in recipe_names()
        for name in recipe_names():
            SearchConfig.from_dict(read_recipe(name), name)
        with pytest.raises(CompressError, match="did you mean demo"):
            read_recipe("demos")

    @pytest.mark.parametrize(
        "config", [SearchConfig(), SearchConfig(data="folder:/a b/ü!", budget=5e6, delta1=0.8)]
    )
    def test_default_names_are_folder_names(self, config):
        check_name(config.default_name)

    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a" * 200, "x\n", "-rf"])
    def test_names_that_are_no_folder_names_are_refused(self, name):
        with pytest.raises(CompressError, match="study name"):
            check_name(name)

    def test_rungs_end_with_the_last_epoch(self):
        for epochs in range(1, 60):
            rungs = rung_epochs(epochs)
            assert rungs[-1] == epochs
            assert rungs == sorted(set(rungs))
            assert rungs[0] >= 1


class TestGates:
    """Refusals before training."""

    def test_the_first_gate_that_fails_is_named(self, tiny_space):
        size = cost(load_space(tiny_space).sample(0))
        at = (32, 48)
        assert Gates(size.params, size.macs, 0.8, at).refusal(size) is None
        assert Gates(size.params - 1, None, 0.8, at).refusal(size) == "params"
        assert Gates(None, size.macs - 1, 0.8, at).refusal(size) == "macs"
        assert Gates(None, None, 0.8, at).refusal(size) is None

    def test_an_impossible_budget_names_the_smallest_network(self, tiny_space):
        space = load_space(tiny_space)
        least = cost(space.smallest).params
        Gates(least, None, 0.8, (32, 48)).check_feasible(space)
        with pytest.raises(CompressError, match=rf"smallest.*{least:,} params.*{least} or more"):
            Gates(least - 1, None, 0.8, (32, 48)).check_feasible(space)
        with pytest.raises(CompressError, match="--max-macs"):
            Gates(None, 10, 0.8, (32, 48)).check_feasible(space)


class TestSampler:
    """Proposals are feasible, new, and the same for the same history."""

    def study(self, space, gates, name="random", seed=0):
        pytest.importorskip({"gp": "scipy", "cmaes": "cmaes"}.get(name, "optuna"))
        refusals = Refusals()
        sampler = GatedSampler(space, gates, name, seed, refusals)
        return optuna.create_study(sampler=sampler, direction="maximize"), sampler, refusals

    def draw(self, study, space, gates):
        trial = study.ask()
        values = {
            k: trial.suggest_categorical(k, d.choices) for k, d in distributions(space).items()
        }
        genotype = space.genotype(values)
        trial.set_user_attr("hash", genotype.hash)
        study.tell(trial, -float(cost(genotype, gates.size).params))
        return genotype

    @pytest.mark.parametrize("name", sorted(SAMPLERS))
    def test_only_feasible_and_new_candidates_reach_the_study(self, name):
        space = load_space("depthnet-nano")
        gates = Gates(60_000, 30e6, 0.8, (96, 128))
        study, sampler, refusals = self.study(space, gates, name)
        seen = [self.draw(study, space, gates) for _ in range(25)]
        assert len({g.hash for g in seen}) == 25
        assert all(gates.refusal(cost(g, gates.size)) is None for g in seen)
        assert len(study.trials) == 25
        assert refusals.total > 0
        assert not sampler.exhausted

    def test_a_budget_just_above_the_smallest_network_still_finds_candidates(self):
        space = load_space("depthnet-nano")
        least = cost(space.smallest).params
        gates = Gates(least * 1.2, None, 0.8, (96, 128))
        study, _, _ = self.study(space, gates)
        seen = [self.draw(study, space, gates) for _ in range(5)]
        assert all(cost(g, gates.size).params <= least * 1.2 for g in seen)

    @pytest.mark.parametrize("name", sorted(SAMPLERS))
    def test_the_same_history_gives_the_same_next_candidate(self, name):
        space = load_space("depthnet-nano")
        gates = Gates(200_000, None, 0.8, (96, 128))
        runs = []
        for _ in range(2):
            study, _, _ = self.study(space, gates, name)
            runs.append([self.draw(study, space, gates).hash for _ in range(14)])
        assert runs[0] == runs[1]

    @pytest.mark.parametrize("name", ["random", "gensynth"])
    def test_a_small_space_is_exhausted_without_repeating(self, tiny_space, name):
        space = load_space(tiny_space).restricted({"stem": 4, "neck": 8, "norm": "all", "up4.b": 6})
        every = {
            space.genotype(dict(zip(space.choices, combination, strict=True))).hash
            for combination in itertools.product(*space.choices.values())
        }
        gates = Gates(None, None, 0.8, (32, 48))
        study, sampler, refusals = self.study(space, gates, name)
        seen = []
        while not sampler.exhausted:
            seen.append(self.draw(study, space, gates).hash)
        seen.pop()  # what is drawn at exhaustion is not meant to be used
        assert len(seen) == len(set(seen))
        assert set(seen) == every
        assert refusals.by_gate["duplicate"] > 0

    def test_an_unknown_sampler_offers_the_nearest(self, tiny_space):
        with pytest.raises(CompressError, match="did you mean random"):
            GatedSampler(load_space(tiny_space), None, "randm", 0, Refusals())


class TestEarly:
    """Hand-worked rungs: gate .8, gains of .10, .05 and .08 from epoch 3 to 12."""

    rows = (
        row(0, 0.90, macs=100, rungs=[(3, 0.80), (12, 0.90)]),
        row(1, 0.85, macs=200, rungs=[(3, 0.80), (12, 0.85)]),
        row(2, 0.88, macs=300, rungs=[(3, 0.80), (12, 0.88)]),
    )

    def reason(self, delta1, params=1000, macs=1000, rows=None, epoch=3):
        rows = self.rows if rows is None else rows
        return stop_reason(rows, params, macs, epoch, delta1, 0.8, "depthnet-nano")

    def test_what_cannot_reach_the_gate_is_stopped(self):
        # .68 + .10 (largest gain) + .01 (margin) = .79 < .8
        assert "gate 0.8" in self.reason(0.68, params=10, macs=10)
        assert self.reason(0.70, params=10, macs=10) == ""

    def test_what_cannot_beat_the_best_and_is_dominated_is_stopped(self):
        # At best .81 for more MACs than all others, which had .80 at this rung.
        assert "best" in self.reason(0.75, params=10_000, macs=1000)

    def test_what_is_on_the_rungs_front_goes_on(self):
        assert self.reason(0.81, params=10_000, macs=10**6) == ""  # more accurate than any so far
        assert self.reason(0.75, params=10_000, macs=50) == ""  # cheaper than any so far

    def test_what_may_still_beat_the_best_goes_on(self):
        assert self.reason(0.75, params=500, macs=100) == ""

    def test_no_stop_without_evidence(self):
        assert self.reason(0.1, rows=self.rows[:2]) == ""
        assert self.reason(0.1, epoch=6) == ""


points = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 8), st.sampled_from(["complete", "stopped"])),
    max_size=12,
)


class TestRecords:
    """Front, best and nearest miss."""

    @given(points)
    def test_the_front_is_what_nothing_dominates(self, drawn):
        rows = [row(i, d / 100, macs=m, state=s) for i, (d, m, s) in enumerate(drawn)]
        done = [r for r in rows if r.state == "complete"]

        def beaten(r):
            return any(
                (o.macs <= r.macs and o.delta1 >= r.delta1)
                and (o.macs < r.macs or o.delta1 > r.delta1)
                for o in done
            )

        wanted = {(r.macs, r.delta1) for r in done if not beaten(r)}
        got = front(rows)
        assert {(r.macs, r.delta1) for r in got} == wanted
        assert [r.macs for r in got] == sorted({r.macs for r in got})

    def test_hand_worked_front(self):
        rows = [
            row(0, 0.5, macs=10), row(1, 0.7, macs=20), row(2, 0.6, macs=30),
            row(3, 0.7, macs=40), row(4, 0.9, macs=50), row(5, 0.4, macs=10),
        ]  # fmt: skip
        assert [r.number for r in front(rows)] == [0, 1, 4]
        assert front([]) == []
        assert front(rows, "latency_ms") == []

    def test_best_is_the_gated_one_of_highest_netscore(self):
        rows = [
            row(0, 0.95, macs=10**6), row(1, 0.85, macs=1000), row(2, 0.79, macs=1),
            row(3, 0.9, macs=10, state="stopped"),
        ]  # fmt: skip
        assert best(rows, 0.8).number == 1
        assert best(rows, 0.99) is None
        assert nearest_miss(rows).number == 0
        assert nearest_miss([]) is None


class TestStore:
    """Folders and storages, good and bad."""

    def test_an_unknown_study_offers_the_nearest(self, tmp_path):
        prepare_folder(tmp_path / "kitchen")
        storage = open_storage(None, tmp_path / "kitchen")
        optuna.create_study(study_name="kitchen", storage=storage)
        assert find_study("kitchen", tmp_path).study_name == "kitchen"
        with pytest.raises(CompressError, match="did you mean kitchen"):
            find_study("kitchn", tmp_path)

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:secret@127.0.0.1:1/none",
            "nosuchdb://user:secret@host/x",
            "sqlite:////nowhere/at/all/study.db",
            "not a url",
        ],
    )
    def test_an_unreachable_storage_is_one_line_without_passwords(self, tmp_path, url):
        with pytest.raises(CompressError, match="cannot be reached") as error:
            open_storage(url, tmp_path)
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)

    def test_an_unwritable_folder_is_said(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CompressError, match="--out"):
            prepare_folder(tmp_path / "file" / "study")

    def test_a_full_disk_is_said(self, tmp_path, monkeypatch):
        usage = type("Usage", (), {"free": 1 << 20})
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
        with pytest.raises(CompressError, match="1 MiB free"):
            prepare_folder(tmp_path / "study")

    def test_this_process_lives_and_a_past_one_does_not(self):
        import socket
        import subprocess
        import sys

        assert not owner_is_gone(owner())
        child = subprocess.run([sys.executable, "-c", ""], check=True)
        assert child.returncode == 0
        done = subprocess.Popen([sys.executable, "-c", ""])
        done.wait()
        assert owner_is_gone(f"{socket.gethostname()}:{done.pid}:1")
        assert not owner_is_gone("another-machine:1:1")
        host, pid, _ = owner().rsplit(":", 2)
        assert owner_is_gone(f"{host}:{pid}:12345")  # the number now names another process
