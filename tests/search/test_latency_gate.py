"""The latency gate: refused by the device table before training, measured at the end."""

from __future__ import annotations

import csv
import json

import pytest

from compress.cli import main
from compress.cost import cost, operators
from compress.cost.backends import device_of
from compress.cost.fit import Observation, fit
from compress.cost.plan import Plan
from compress.cost.table import DeviceTable, Proof, default_table_path
from compress.errors import CompressError
from compress.models import load
from compress.search import SearchConfig, search
from compress.search.config import milliseconds
from compress.search.events import Events
from compress.search.gates import Gates, Refusals
from compress.search.records import ENVIRONMENT, GATES, records
from compress.search.sampler import GatedSampler
from compress.search.store import find_study
from compress.space import load_space

SIZE = (32, 48)


def work_ms(units):
    """Milliseconds of a device that takes a microsecond for a unit and for 1000 output values."""
    return sum(1e-3 + 1e-6 * u.out_channels * u.height * u.width for u in units)


@pytest.fixture(scope="module")
def table(tiny_space):
    found = []
    plan = Plan([load_space(tiny_space)])
    for kind, count in (("passage", 60), ("network", 30)):
        stream = plan.items(kind)
        for _ in range(count):
            item = next(stream)[1]
            total_ms = item.copies * work_ms(item.units)
            found.append(Observation(item.units, total_ms, item.copies, network=kind == "network"))
    return DeviceTable(
        "onnxruntime", 1, device_of("onnxruntime"), "2026-01-01", "time passed", ("tiny",), (SIZE,),
        90, fit(found), Proof.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ["tiny"]),
    )  # fmt: skip


@pytest.fixture
def home(table, tmp_path, monkeypatch):
    """A cache that holds the table."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    table.save(default_table_path("onnxruntime", 1))
    return tmp_path


@pytest.fixture
def options(tiny_space, tiny_folder, home):
    return {
        "space": str(tiny_space), "data": f"folder:{tiny_folder}", "out": home / "reports",
        "size": SIZE, "delta1": 0.2, "epochs": 4, "final_epochs": 6, "workers": 1,
    }  # fmt: skip


def spread(table, space):
    """Predictions over the space, fastest first."""
    return sorted(table.predict(operators(space.sample(seed), SIZE)) for seed in range(80))


class TestAsked:
    """What a user may write."""

    @pytest.mark.parametrize(("text", "value"), [("20ms", 20), ("20", 20), ("0.5 ms", 0.5)])
    def test_milliseconds(self, text, value):
        assert milliseconds(text) == value
        assert SearchConfig.from_dict({"max_latency": text}, "x").max_latency == value

    @pytest.mark.parametrize("text", ["", "ms", "0ms", "-1ms", "20s", "1e3", "nan", "inf"])
    def test_what_is_no_latency(self, text):
        with pytest.raises(CompressError, match="as in 20ms"):
            milliseconds(text)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"max_latency": 0}, "max_latency = 0"),
            ({"max_latency": float("nan")}, "max_latency = nan"),
            ({"threads": 0}, "threads = 0"),
            ({"backend": 3}, "backend = 3"),
        ],
    )
    def test_a_wrong_recipe(self, values, said):
        with pytest.raises(CompressError, match=said):
            SearchConfig.from_dict(values, "my.toml")

    def test_the_name_of_the_study_has_it(self):
        assert "20ms" in SearchConfig(max_latency=20.0).default_name

    def test_without_a_table_says_how_to_make_one(self, options, home, capsys, monkeypatch):
        monkeypatch.setenv("COMPRESS_CACHE", str(home / "empty"))
        way = "compress calibrate --backend onnxruntime --threads 1"
        with pytest.raises(CompressError, match=way):
            search(study="s", max_latency=20, trials=1, **options)
        assert not (options["out"] / "s").exists()
        words = ["--space", options["space"], "--data", options["data"], "--out", str(home)]
        assert main(["search", "--max-latency", "20ms", *words]) == 2
        said = capsys.readouterr().err
        assert way in said and said.count("\n") == 1

    def test_the_backend_must_be_one(self, options):
        with pytest.raises(CompressError, match="did you mean onnxruntime"):
            search(study="s", max_latency=20, backend="onnxrunt", trials=1, **options)


class TestGates:
    """Refusals by the table."""

    def test_what_is_too_slow_is_refused_last(self, table, tiny_space):
        space = load_space(tiny_space)
        one = space.sample(0)
        size, predicted_ms = cost(one, SIZE), table.predict(operators(one, SIZE))
        fits = Gates(None, None, 0.8, SIZE, predicted_ms, table)
        assert fits.refusal(size, one) is None
        assert fits.latency_ms(one) == predicted_ms
        tight = Gates(None, None, 0.8, SIZE, 0.99 * predicted_ms, table)
        assert tight.refusal(size, one) == "latency"
        assert tight.refusal(size) is None
        assert Gates(1, None, 0.8, SIZE, 1e-9, table).refusal(size, one) == "params"
        assert Gates(None, None, 0.8, SIZE).latency_ms(one) is None
        json.dumps(tight.to_dict())
        assert "max_latency_ms" not in Gates(None, None, 0.8, SIZE).to_dict()

    def test_an_impossible_latency_names_the_fastest(self, table, tiny_space):
        space = load_space(tiny_space)
        fastest = spread(table, space)[0]
        Gates(None, None, 0.8, SIZE, 1.001 * fastest, table).check_feasible(space)
        with pytest.raises(CompressError, match=r"--max-latency .* fastest network found"):
            Gates(None, None, 0.8, SIZE, 0.5 * fastest, table).check_feasible(space)

    def test_every_proposal_passes(self, table, tiny_space):
        import optuna

        space = load_space(tiny_space)
        limit_ms = spread(table, space)[8]  # a tenth of the space
        gates, refusals = Gates(None, None, 0.8, SIZE, limit_ms, table), Refusals()
        sampler = GatedSampler(space, gates, "random", 0, refusals)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        for _ in range(4):
            trial = study.ask()
            values = {k: trial.suggest_categorical(k, v) for k, v in space.choices.items()}
            genotype = space.genotype(values)
            trial.set_user_attr("hash", genotype.hash)
            assert not sampler.exhausted
            assert table.predict(operators(genotype, SIZE)) <= limit_ms
            study.tell(trial, 0.0)
        assert refusals.by_gate["latency"] > 0


class Watch(Events):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_study_with_a_latency(options, table, tiny_space):
    space, watch = load_space(tiny_space), Watch()
    limit_ms = spread(table, space)[30]
    result = search(study="s", trials=3, max_latency=limit_ms, events=watch, **options)
    assert result.refused_by.get("latency", 0) > 0
    study = find_study("s", options["out"], None)
    rows = records(study)
    assert len(rows) == 3
    for row in rows:
        predicted = table.predict(operators(row.open_genotype(), SIZE))
        assert row.latency_ms == pytest.approx(predicted) and row.latency_ms <= limit_ms
    assert study.user_attrs[GATES]["max_latency_ms"] == limit_ms
    assert "MAPE" in study.user_attrs[ENVIRONMENT]["device_table"]
    # The winner was measured.
    best = result.best
    latency = best["latency"]
    assert best["latency_ms"] == latency["predicted_ms"] <= limit_ms
    assert 0 < latency["low_ms"] <= latency["measured_ms"] <= latency["high_ms"]
    assert (latency["backend"], latency["threads"], latency["size"]) == ("onnxruntime", 1, [32, 48])
    assert load(best["model"]).info["latency"] == latency
    json.dumps(result.to_dict())
    # The report names the table's error, the CSV the predictions.
    page = (options["out"] / "s" / "index.html").read_text()
    assert "MAPE" in page and "latency" in page
    with (options["out"] / "s" / "trials.csv").open() as file:
        assert all(float(line["latency_ms"]) <= limit_ms for line in csv.DictReader(file))
    # The same again is done; another limit is another study.
    assert search(study="s", trials=3, **options).best == best
    with pytest.raises(CompressError, match="max_latency"):
        search(study="s", trials=3, max_latency=2 * limit_ms, **options)


def test_without_a_latency_no_table_is_needed(options, home, monkeypatch):
    monkeypatch.setenv("COMPRESS_CACHE", str(home / "empty"))
    result = search(study="s", trials=1, **options)
    assert result.trials == 1 and "latency" not in (result.best or {})
    study = find_study("s", options["out"], None)
    assert records(study)[0].latency_ms is None


def test_two_workers(options, table, tiny_space):
    options["workers"] = 2
    limit_ms = spread(table, load_space(tiny_space))[40]
    result = search(study="s", trials=3, max_latency=limit_ms, **options)
    rows = records(find_study("s", options["out"], None))
    assert result.trials == 3 and all(row.latency_ms <= limit_ms for row in rows)


def test_what_was_never_measured_is_said(options, table, home):
    watch = Watch()
    options["space"] = "fastdepth"
    fast = {**options, "fix": {"kernel": 5}}
    with pytest.raises(CompressError, match="fastest network found"):
        search(study="s", trials=1, max_latency=1e-4, events=watch, **fast)
    assert table.unmeasured(operators(load_space("fastdepth").sample(0)))
