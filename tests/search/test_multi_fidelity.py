"""Rungs at less than full data, pruners that halve, and what rungs are worth."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data import cut_validation, open_data
from compress.errors import CompressError
from compress.netscore import netscore
from compress.search import SearchConfig, search
from compress.search.early import PRUNERS, Aim, Reached, bracket, brackets, halving
from compress.search.events import Events
from compress.search.fidelity import FEWEST, rank_fidelity
from compress.search.records import Record, Rung, records
from compress.search.rungs import FIDELITIES, parts, rung_epochs
from compress.search.store import find_study
from compress.search.winner import _epoch_seconds

AIM = Aim(0.5, "depthnet-nano")


def row(number, delta1s, macs=100, params=1000, state="complete", hash_=None, **spared):
    """A candidate with rungs at epochs 3, 6 and 12, as far as it came."""
    rungs = tuple(
        Rung(epoch, d, netscore(100 * d, params, macs), 10.0 * epoch, **spared)
        for epoch, d in zip((3, 6, 12), delta1s, strict=False)
    )
    return Record(number, state, hash_ or f"h{number}", params, macs, macs, rungs)


def reached(delta1, macs=100, params=1000, epoch=3, hash_="x"):
    score = netscore(100 * delta1, params, macs)
    return Reached(hash_, params, macs, epoch, delta1, score, (3, 6).index(epoch), 2)


class TestParts:
    """What each part of a candidate's training sees."""

    @given(st.integers(1, 200), st.sampled_from(FIDELITIES), st.integers(32, 99))
    def test_the_last_part_is_of_everything(self, epochs, fidelity, side):
        size = (side, 2 * side)
        found = parts(epochs, fidelity, size)
        assert [part.until for part in found] == rung_epochs(epochs)
        assert found[-1].until == epochs
        assert found[-1].size == size and found[-1].share == 1 and not found[-1].spared(size)
        for part in found[:-1]:
            wanted = {
                "epochs": {},
                "resolution": {"size": [side // 2, side]},
                "data": {"share": part.share},
            }[fidelity]
            assert part.spared(size) == wanted
            if fidelity == "data":
                assert part.share == pytest.approx(part.until / epochs, abs=1 / epochs)

    def test_a_size_whose_half_no_network_takes_is_answered(self):
        with pytest.raises(CompressError, match=r"half of 30x64 first.*32x32 or more"):
            parts(12, "resolution", (30, 64))
        assert parts(12, "data", (30, 64))

    def test_the_winner_s_pace_is_that_of_full_epochs(self):
        # Ten seconds an epoch in the last part, from epoch 6 on.
        spared = row(0, (0.4, 0.5), share=0.5)
        last = Rung(12, 0.6, 1.0, 120.0)
        done = Record(0, "complete", "h", 1, 1, 1, (*spared.rungs, last), seconds=130.0)
        assert _epoch_seconds(done, 12) == pytest.approx(10.0)
        plain = Record(0, "complete", "h", 1, 1, 1, row(0, (0.4, 0.5, 0.6)).rungs, seconds=130.0)
        assert _epoch_seconds(plain, 12) == pytest.approx(130 / 12)


drawn = st.lists(
    st.tuples(st.integers(1, 99), st.integers(1, 6), st.sampled_from(["complete", "stopped"])),
    max_size=14,
)
own = st.tuples(st.integers(1, 99), st.integers(1, 6))


class TestHalving:
    """One of two goes on, and whoever is on the front."""

    # By NetScore at epoch 3, all for 100 MACs: .80 .70 .60; with a fourth, two go on.
    rows = (row(0, (0.80,)), row(1, (0.70,)), row(2, (0.60,)))

    def test_the_better_half_goes_on(self):
        assert halving(self.rows, reached(0.75), AIM) == ""
        assert "place 3 of 4, of which 2 go on" in halving(self.rows, reached(0.65), AIM)
        assert halving(self.rows, reached(0.70), AIM) == ""  # equal to one that goes on
        assert "place 2 of 2, of which 1 goes on" in halving(self.rows[:1], reached(0.6), AIM)

    def test_what_is_on_the_front_goes_on(self):
        # .62 with fewer MACs than all, though so many parameters that its NetScore is the last.
        assert halving(self.rows, reached(0.62, macs=99, params=10**6), AIM) == ""
        assert halving(self.rows, reached(0.85, macs=10**9, params=10**6), AIM) == ""
        assert halving(self.rows, reached(0.62, macs=100, params=10**6), AIM) != ""

    def test_fewer_than_two_stop_nothing(self):
        assert halving([], reached(0.1), AIM) == ""
        assert halving(self.rows, reached(0.1, epoch=6), AIM) == ""  # nobody came so far

    def test_what_cannot_reach_the_gate_is_stopped_first(self):
        rows = [row(i, (0.6, 0.65, 0.7)) for i in range(3)]
        # At most .35 + .1 + .01 = .46 < .5, though it is the cheapest of all.
        assert "gate 0.5" in halving(rows, reached(0.35, macs=1), AIM)
        assert halving(rows, reached(0.40, macs=1), AIM) == ""

    @given(drawn, own, st.sampled_from([3, 6]))
    def test_whoever_is_stopped_is_in_the_worse_half_and_off_the_front(self, others, mine, epoch):
        # Each got as far as the epoch, or, where its d1 is odd, only to the one before.
        rows = [
            row(i, (d / 100,) * (1 if d % 2 and epoch == 6 else 2), macs=m, state=s)
            for i, (d, m, s) in enumerate(others)
        ]
        aim = Aim(1e-9, "depthnet-nano")  # no gate to miss
        at = reached(mine[0] / 100, macs=mine[1], epoch=epoch)
        here = [r for r in rows if any(g.epoch == epoch for g in r.rungs)]
        better = sum(r.rungs[-1].netscore > at.netscore for r in here)
        beaten = any(r.rungs[-1].delta1 >= at.delta1 and r.macs <= at.macs for r in here)
        stopped = len(here) >= 1 and better >= (len(here) + 1) // 2 and beaten
        assert bool(halving(rows, at, aim)) == stopped


class TestBrackets:
    """Hyperband's division of candidates."""

    def test_brackets_are_as_large_as_hyperband_makes_them(self):
        # Two early rungs: ceil(3/3 * 4), ceil(3/2 * 2), ceil(3/1) of ten.
        found = Counter(bracket(f"{i:016x}", 2) for i in range(20_000))
        assert [round(found[place] / 2000, 1) for place in range(3)] == pytest.approx(
            [4, 3, 3], abs=0.2
        )
        assert {bracket(f"{i}", 0) for i in range(50)} == {0}

    def of(self, place: int, count: int) -> list[str]:
        names = (f"{i:04x}" for i in range(10**4))
        return [name for name in names if bracket(name, 2) == place][:count]

    def test_a_later_bracket_stops_nothing_before_its_rung(self):
        for place in range(3):
            first, mine = self.of(place, 2)
            rows = [row(0, (0.8, 0.8), hash_=first)]
            for epoch, at in ((3, 0), (6, 1)):
                said = brackets(rows, reached(0.6, epoch=epoch, hash_=mine), AIM)
                assert bool(said) == (at >= place)

    def test_candidates_of_other_brackets_do_not_compete_but_beat(self):
        (mine,) = self.of(0, 1)
        others = [row(i, (0.8,), hash_=h) for i, h in enumerate(self.of(1, 5))]
        assert brackets(others, reached(0.6, hash_=mine), AIM) == ""
        rival = row(9, (0.7,), macs=10**6, hash_=self.of(0, 2)[1])  # better, but dearer
        score = rival.rungs[0].netscore
        assert score < reached(0.6).netscore
        rival = row(9, (0.7,), macs=101, hash_=self.of(0, 2)[1])
        at = reached(0.6, macs=100, hash_=mine)
        assert brackets([rival], at, AIM) == ""  # on the front of the two
        assert "place 2 of 2" in brackets([*others, rival], at, AIM)


def test_no_pruner_no_stop():
    rows = [row(i, (0.6, 0.65, 0.7)) for i in range(5)]
    assert PRUNERS["none"](rows, reached(0.01), AIM) == ""
    assert SearchConfig(pruner="asha").stopping == "asha"
    assert SearchConfig(pruner="asha", early_stop=False).stopping == "none"
    assert SearchConfig().stopping == "expected"


class TestRankFidelity:
    """Rungs against the end."""

    def test_hand_worked(self):
        rows = [
            row(0, (0.1, 0.5, 0.5)), row(1, (0.2, 0.4, 0.6)), row(2, (0.3, 0.3, 0.7)),
            row(3, (0.5, 0.2, 0.8)), row(4, (0.4, 0.1, 0.9)), row(5, (0.9, 0.9), state="stopped"),
        ]  # fmt: skip
        first, second = rank_fidelity(rows)
        assert (first.epoch, first.n, second.epoch, second.n) == (3, 5, 6, 5)
        assert (first.spearman, first.kendall) == pytest.approx((0.9, 0.8))
        assert (second.spearman, second.kendall) == pytest.approx((-1, -1))
        assert first.describe() == "epoch 3: Spearman 0.90, Kendall 0.80 (n 5)"
        assert "size" not in first.to_dict() and "share" not in first.to_dict()

    def test_few_say_so(self):
        (few, _) = rank_fidelity([row(i, (i / 9, 0.5, 0.6)) for i in range(FEWEST - 1)])
        assert few.spearman is None and few.describe() == "epoch 3: too few (n 3)"
        (_, equal) = rank_fidelity([row(i, (i / 9, 0.5, i / 10)) for i in range(FEWEST)])
        assert equal.kendall is None and equal.describe() == "epoch 6: all equal (n 4)"
        assert rank_fidelity([]) == [] == rank_fidelity([row(0, (0.5,))])

    def test_what_a_rung_was_spared_is_told(self):
        (at, _) = rank_fidelity([row(i, (i / 9, 0.5, 0.6), size=(16, 24)) for i in range(3)])
        assert at.describe() == "epoch 3 (16x24): too few (n 3)"
        assert json.loads(json.dumps(at.to_dict()))["size"] == [16, 24]
        (at, _) = rank_fidelity([row(i, (i / 9, 0.5, 0.6), share=0.25) for i in range(3)])
        assert "25% of the images" in at.describe() and at.to_dict()["share"] == 0.25


# Whole studies -------------------------------------------------------------------------------


@pytest.fixture
def options(tiny_space, tiny_folder, tmp_path):
    return {
        "space": str(tiny_space), "data": f"folder:{tiny_folder}", "out": tmp_path,
        "size": (32, 48), "delta1": 0.2, "epochs": 4, "final_epochs": 4, "workers": 1,
        "training": {"batch": 7}, "study": "s", "trials": 4,
    }  # fmt: skip


class Cut(Events):
    """Interrupts the study in the epochs it is told, counted over all candidates."""

    def __init__(self, at) -> None:
        self.left = at

    def epoch(self, number, epoch):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def facts(out):
    return [
        (r.hash, r.state, [(g.epoch, g.delta1, g.size, g.share) for g in r.rungs])
        for r in records(find_study("s", out))
    ]


@pytest.mark.parametrize(
    ("fidelity", "pruner", "spared"),
    [
        ("resolution", "asha", [((16, 24), 1), ((16, 24), 1), (None, 1)]),
        ("data", "hyperband", [(None, 0.25), (None, 0.5), (None, 1)]),
    ],
)
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(
    options, tmp_path, fidelity, pruner, spared
):
    options |= {"fidelity": fidelity, "pruner": pruner}
    whole = search(**options | {"out": tmp_path / "whole"})
    for at in (2, 3, 5):  # at a rung, within the last part, in a later candidate
        with pytest.raises(KeyboardInterrupt):
            search(events=Cut(at), **options)
    result = search(**options)
    found = facts(tmp_path)
    assert found == facts(tmp_path / "whole") and len(found) == 4
    for _, state, rungs in found:
        assert [(size, share) for _, _, size, share in rungs] == spared[: len(rungs)]
        assert (len(rungs) == 3) == (state == "complete")
    for key in ("params", "macs", "delta1", "netscore", "heldout"):
        assert result.best[key] == whole.best[key]
    # The figures are those of the network's own size, whatever a rung was scored at.
    for one in records(find_study("s", tmp_path)):
        for rung in one.rungs:
            assert rung.netscore == pytest.approx(netscore(100 * rung.delta1, one.params, one.macs))
    told = result.to_dict()["rank_fidelity"]
    assert [each["epoch"] for each in told] == [1, 2]
    assert all(each["n"] == sum(s == "complete" for _, s, _ in found) for each in told)
    assert not any(isinstance(v, float) and math.isnan(v) for each in told for v in each.values())


def test_a_share_that_is_less_than_a_batch_is_told_as_what_it_was(options, tmp_path):
    frames, _ = cut_validation(open_data(options["data"]).train, seed=0)
    more = {"fidelity": "data", "training": {"batch": 10}, "trials": 1, "delta1": 0.01}
    search(**options | more)
    (one,) = records(find_study("s", tmp_path))
    assert 0.25 < 10 / len(frames) < 0.5
    assert [rung.share for rung in one.rungs] == [10 / len(frames), 0.5, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pruner": "ahsa"}, "did you mean asha"),
        ({"fidelity": "resolutions"}, "did you mean resolution"),
        ({"fidelity": "resolution", "size": (16, 24)}, "half of 16x24"),
    ],
)
def test_mistakes_are_answered(options, tmp_path, change, said):
    with pytest.raises(CompressError, match=said):
        search(**options | change)
    assert not (tmp_path / "s").exists()
