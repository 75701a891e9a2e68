"""Warm starts: what an earlier study found is tried first, where it fits."""

from __future__ import annotations

import shutil

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.cost import cost
from compress.errors import CompressError
from compress.report import write_report
from compress.report.kept import is_kept, open_kept
from compress.search import search
from compress.search.earlier import MOST, fill_queue, warm_start
from compress.search.events import Events
from compress.search.gates import Gates
from compress.search.records import GATES, Record, front, records
from compress.search.sampler import hush_optuna
from compress.search.store import find_study, open_storage, prepare_folder
from compress.space import load_space

hush_optuna()
SIZE = (32, 48)
OPEN = Gates(None, None, 0.2, SIZE)


def kept(folder):
    return open_kept(folder) if is_kept(folder) else None


def write_earlier(out, space, delta1s, name="first", state=optuna.trial.TrialState.COMPLETE):
    """A study whose candidates were drawn from ``space``, one for each d1."""
    prepare_folder(out / name)
    study = optuna.create_study(
        study_name=name, storage=open_storage(None, out / name), direction="maximize"
    )
    study.set_user_attr(GATES, {"delta1": 0.5})
    for seed, delta1 in enumerate(delta1s):
        genotype = space.sample(seed)
        size = cost(genotype, SIZE)
        trial = study.ask()
        rung = {"epoch": 4, "delta1": delta1, "netscore": 100 * delta1, "seconds": 1.0}
        for key, value in (
            ("genotype", genotype.to_json()), ("hash", genotype.hash), ("params", size.params),
            ("macs", size.macs), ("macs_all", size.macs_all), ("rungs", [rung]),
        ):  # fmt: skip
            trial.set_user_attr(key, value)
        if state == optuna.trial.TrialState.COMPLETE:
            study.tell(trial, 100 * delta1)
        else:
            study.tell(trial, state=state)
    return study


@pytest.fixture
def space(tiny_space):
    return load_space(tiny_space)


def start(word, out, space, gates=OPEN, storage=None):
    return warm_start(str(word), out, storage, space, gates, kept)


def hashes(found):
    return [genotype.hash for genotype in found.taken]


def test_the_fronts_and_the_best_come_cheapest_first(space, tmp_path):
    study = write_earlier(tmp_path, space, [0.1, 0.3, 0.6, 0.4, 0.55, 0.2, 0.58, 0.9])
    rows = records(study)
    wanted = {r.hash for key in ("macs", "params") for r in front(rows, key)} | {rows[7].hash}
    found = start("first", tmp_path, space)
    assert set(hashes(found)) == wanted and len(wanted) > 1
    macs = [cost(genotype, SIZE).macs for genotype in found.taken]
    assert macs == sorted(macs)
    assert found.describe() == f"warm start from first: {len(wanted)} candidates taken"


@given(st.integers(MOST + 1, 40))
def test_ten_at_most_and_the_best_among_them(count):
    from compress.search.earlier import _few

    rows = [Record(i, "complete", f"h{i}", 1, 10 * i, 1) for i in range(count)]
    pairs = [(row, None) for row in reversed(rows)]
    for leader in (rows[0], rows[count // 2], rows[-1]):
        chosen = [row for row, _ in _few(pairs, leader)]
        assert len({row.number for row in chosen}) == MOST
        assert {rows[0].number, rows[-1].number, leader.number} <= {row.number for row in chosen}


def test_what_does_not_fit_is_left_out_and_said(space, tmp_path):
    write_earlier(tmp_path, space, [0.1, 0.3, 0.6, 0.4, 0.55, 0.2, 0.58, 0.9])
    every = start("first", tmp_path, space)
    sizes = sorted(cost(genotype, SIZE).params for genotype in every.taken)
    found = start("first", tmp_path, space, Gates(sizes[0], None, 0.2, SIZE))
    assert len(found.taken) == sum(size == sizes[0] for size in sizes)
    left = len(sizes) - len(found.taken)
    assert f"{left} left out ({left} above the params gate)" in found.describe()
    stems = {genotype.values["stem"] for genotype in every.taken}
    for stem in stems:
        narrow = space.restricted({"stem": stem})
        found = start("first", tmp_path, narrow)
        assert {genotype.values["stem"] for genotype in found.taken} == {stem}
        assert len(stems) == 1 or "outside the choices of this space" in found.describe()


def test_a_study_is_found_by_name_folder_database_storage_and_as_text(space, tmp_path):
    study = write_earlier(tmp_path, space, [0.3, 0.6])
    wanted = hashes(start("first", tmp_path, space))
    folder, other = tmp_path / "first", tmp_path / "other"
    other.mkdir()
    for word in (folder, folder / "study.db"):
        assert hashes(start(word, other, space)) == wanted
    url = f"sqlite:///{folder}/study.db"
    assert hashes(start("first", other, space, storage=url)) == wanted
    for file in folder.glob("study.db*"):  # its write-ahead log too
        shutil.copy(file, other / file.name.replace("study", "moved"))
    assert hashes(start(other / "moved.db", tmp_path, space)) == wanted
    write_report(study, tmp_path / "text")
    assert not (tmp_path / "text" / "study.db").exists()
    assert hashes(start(tmp_path / "text", other, space)) == wanted
    assert hashes(start("text", tmp_path, space)) == wanted


def test_what_no_study_can_begin_with_is_answered(space, tmp_path):
    write_earlier(tmp_path, space, [0.3, 0.6])
    write_earlier(tmp_path, space, [0.3], "stopped", optuna.trial.TrialState.PRUNED)
    write_earlier(tmp_path, load_space("mobiledepth"), [0.3], "alien")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.db").write_text("not a database")
    tiny = Gates(1, None, 0.2, SIZE)
    for word, gates, said in (
        ("frist", OPEN, "did you mean first"),
        (tmp_path / "x" / "y", OPEN, "there is no study"),
        ("empty", OPEN, "empty"),
        (tmp_path / "no.db", OPEN, "cannot be reached"),
        ("stopped", OPEN, "no candidate of this study was trained to the end"),
        ("alien", OPEN, "none of its 1 best candidates fits.*1 of family mobiledepth"),
        ("first", tiny, "above the params gate"),
    ):
        with pytest.raises(CompressError, match=said) as error:
            start(word, tmp_path, space, gates)
        assert "\n" not in str(error.value)


def test_reference_points_are_queued_once(tmp_path):
    space = load_space("mobiledepth")
    size = space.size
    gates = Gates(None, None, 0.2, size)
    genotype = next(r.genotype for r in space.references.values() if r.genotype.values)
    study = write_earlier(tmp_path, space, [0.6])
    trial = study.trials[0]
    study.add_trial(
        optuna.create_trial(
            value=90.0,
            user_attrs=trial.user_attrs
            | {"genotype": genotype.to_json(), "hash": genotype.hash, "macs": 1, "params": 1},
        )
    )
    said: list[str] = []
    fresh = optuna.create_study()
    fill_queue(fresh, space, gates, start("first", tmp_path, space, gates), said.append)
    queued = [trial.system_attrs["fixed_params"] for trial in fresh.trials]
    found = [space.genotype(values).hash for values in queued]
    assert len(found) == len(set(found)) and genotype.hash in found
    assert space.sample(0).hash == found[-1]
    assert "1 candidate taken" in said[0] and "1 among the space's reference points" in said[0]
    fill_queue(fresh, space, gates, None, said.append)  # a study that has begun stays as it is
    assert len(fresh.trials) == len(found)


def test_a_study_begins_with_what_another_found(space, tiny_space, tiny_folder, tmp_path):
    write_earlier(tmp_path, space, [0.3, 0.6])
    wanted = hashes(start("first", tmp_path, space))
    told: list[str] = []

    class Told(Events):
        def note(self, text):
            told.append(text)

    more = {
        "space": str(tiny_space), "data": f"folder:{tiny_folder}", "out": tmp_path, "size": SIZE,
        "delta1": 0.01, "epochs": 1, "final_epochs": 1, "workers": 1, "training": {"batch": 8},
        "events": Told(), "warm_start": "first",
    }  # fmt: skip
    with pytest.raises(CompressError, match="did you mean first"):
        search(study="s", trials=1, **more | {"warm_start": "frist"})
    assert not (tmp_path / "s").exists()
    with pytest.raises(CompressError, match=r"'s'.*first"):
        search(study="s", trials=1, **more | {"warm_start": "s"})
    assert not (tmp_path / "s").exists()
    result = search(study="s", trials=len(wanted), **more)
    assert [row.hash for row in records(find_study("s", tmp_path))] == wanted
    assert result.trials == len(wanted)
    assert sum("warm start from first" in line for line in told) == 1
    shutil.rmtree(tmp_path / "first")  # is not asked for again
    again = search(study="s", trials=len(wanted), **more)
    assert again.trials == len(wanted)
    assert "--warm-start first" in (tmp_path / "s" / "index.html").read_text("utf-8")
