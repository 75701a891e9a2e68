"""Calibration on a device whose times are known: plan, resuming, and what the table predicts."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from known_device import KnownDevice, network_ms

from compress.cli import main
from compress.cost import operators
from compress.cost.calibrate import HELD_OUT, calibrate
from compress.cost.measure import clock_of, measurer
from compress.cost.passages import ACTIVATIONS, Passage, inputs_of, measurable, output_of
from compress.cost.plan import KINDS, Item, Plan, units
from compress.cost.table import DeviceTable
from compress.cost.timing import time_callables
from compress.errors import CompressError
from compress.space import load_space, space_names

SPACES = ("fastdepth", "mobiledepth")


def run(path, device, minutes=0.25, spaces=SPACES, **options):
    return calibrate(
        minutes=minutes, spaces=spaces, out=path, measure=device.measure, clock=device.clock,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table of half a minute of the known device, and the device."""
    device = KnownDevice()
    path = tmp_path_factory.mktemp("tables") / "t.json"
    return (*run(path, device, minutes=0.6), device)


class TestPrediction:
    """What comes out is what the device does."""

    def test_networks_it_never_saw(self, made):
        table, _, _ = made
        assert table.proof.networks == HELD_OUT and table.proof.spaces == SPACES
        assert table.proof.mape < 0.03 and table.proof.spearman > 0.98
        for name in SPACES:
            genotype = load_space(name).sample(987_654_321)
            predicted = table.predict(operators(genotype))
            assert predicted == pytest.approx(network_ms(units(genotype)), rel=0.15)

    def test_the_proof_is_of_other_networks_than_the_fit(self, made):
        _, _, device = made
        fitted = {i.genotype.hash for i in device.items if i.kind == "network"}
        held = [i.genotype.hash for i in device.items if i.kind == "heldout"]
        assert len(held) == len(set(held)) == HELD_OUT
        assert fitted and not fitted & set(held)

    def test_the_proof_says_what_was_predicted(self, made):
        table, _, device = made
        held = [i for i in device.items if i.kind == "heldout"]
        predicted = [table.predict(operators(i.genotype)) for i in held]
        assert table.proof.predicted_ms == pytest.approx(predicted)
        assert table.proof.measured_ms == pytest.approx([network_ms(i.units) for i in held])
        off = np.abs(np.array(predicted) / table.proof.measured_ms - 1)
        assert table.proof.mape == pytest.approx(off.mean())
        assert "50 networks of fastdepth, mobiledepth" in table.describe()


class TestPlan:
    """What is measured, and that it is the same each time."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_items_are_the_same_and_go_on_from_any_number(self, kind):
        plan = Plan([load_space(name) for name in SPACES])
        first = list(itertools.islice(plan.items(kind), 12))
        again = list(itertools.islice(plan.items(kind, first[6][0]), 6))
        assert again == first[6:]
        assert [one.units for _, one in again] == [one.units for _, one in first[6:]]

    def test_every_operator_kind_of_the_spaces_is_met(self):
        spaces = [load_space(name) for name in ("depthnet-nano", *SPACES)]
        passages = itertools.islice(Plan(spaces).items("passage"), 400)
        met = {unit.kind for _, item in passages for unit in item.units}
        wanted = "pointwise depthwise dense upsample pool concat add activation mean gate".split()
        assert set(wanted) <= met

    def test_a_space_of_few_networks_ends(self, tiny_space, tmp_path):
        space = load_space(tiny_space)
        only = space.restricted({key: values[0] for key, values in space.choices.items()})
        kinds = {kind: len(list(itertools.islice(Plan([only]).items(kind), 3))) for kind in KINDS}
        assert kinds["passage"] == kinds["network"] == 3
        assert kinds["heldout"] in (0, 3)
        table, _ = run(tmp_path / "t.json", KnownDevice(), 0.05, [str(tiny_space)])
        assert table.proof is None or table.proof.networks <= HELD_OUT

    def test_size(self, tmp_path, tiny_space):
        device = KnownDevice()
        table, _ = run(tmp_path / "t.json", device, 0.05, [str(tiny_space)], size=(48, 64))
        assert table.sizes == ((48, 64),)
        assert {i.genotype.size for i in device.items if i.genotype} == {(48, 64)}


class TestResuming:
    """Ctrl-C loses a batch at most."""

    def test_goes_on_where_it_stopped(self, tmp_path):
        whole, parts = KnownDevice(), KnownDevice(calls=7)
        run(tmp_path / "whole.json", whole)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts.json", parts)
        assert not (tmp_path / "parts.json").exists()
        parts.left = 10**9
        table, path = run(tmp_path / "parts.json", parts)
        assert parts.items == whole.items
        assert table.to_dict() == DeviceTable.load(tmp_path / "whole.json").to_dict()
        # A third time everything is there; more minutes add.
        third = KnownDevice()
        assert run(path, third)[0].to_dict() == table.to_dict() and not third.items
        more, _ = run(path, KnownDevice(), minutes=0.4)
        assert more.measured > table.measured

    def test_a_line_that_was_cut_short_is_measured_again(self, tmp_path):
        whole = KnownDevice()
        table, path = run(tmp_path / "t.json", whole)
        log = tmp_path / "t.json.measured"
        text = log.read_text()
        log.write_text(text[: len(text) // 2])
        rest = KnownDevice()
        again, _ = run(path, rest)
        assert 0 < len(rest.items) < len(whole.items)
        assert again.measured == pytest.approx(table.measured, abs=10)

    @pytest.mark.parametrize("hostile", [b"", b"{}", b"\xff\xfe", b"[" * 10**5, b'{"log": 1}\nx\n'])
    def test_a_log_of_other_things_is_begun_anew(self, tmp_path, tiny_space, hostile):
        (tmp_path / "t.json.measured").write_bytes(hostile)
        table, _ = run(tmp_path / "t.json", KnownDevice(), 0.05, [str(tiny_space)])
        assert table.measured > 20

    def test_a_hostile_line_ends_what_is_read(self, tmp_path, tiny_space):
        run(tmp_path / "t.json", KnownDevice(), 0.05, [str(tiny_space)])
        log = tmp_path / "t.json.measured"
        first, second, *rest = log.read_text().splitlines()
        line = json.loads(second) | {"measured": [-1.0, 1, 1, 0]}
        log.write_text("\n".join([first, json.dumps(line), *rest]) + "\n")
        device = KnownDevice()
        run(tmp_path / "t.json", device, 0.05, [str(tiny_space)])
        assert len(device.items) >= len(rest)

    def test_what_the_backend_cannot_run_is_left_out(self, tmp_path, tiny_space):
        device = KnownDevice()
        known = device.measure

        def some(items):
            return [None if i % 2 else one for i, one in enumerate(known(items))]

        device.measure = some
        table, _ = run(tmp_path / "t.json", device, 0.05, [str(tiny_space)])
        assert table.measured < sum(i.kind != "heldout" for i in device.items)


class TestPassages:
    """Units as modules compute what they say."""

    @pytest.mark.parametrize("name", space_names())
    def test_shapes(self, name):
        seen = set()
        for seed in range(3):
            for unit in units(load_space(name).sample(seed)):
                key = unit.kind, unit.act, unit.detail, unit.stride
                if key in seen or not measurable(unit):
                    continue
                seen.add(key)
                made = Passage([unit], copies=2).eval()
                with torch.no_grad():
                    outputs = made(*map(torch.from_numpy, made.inputs()))
                assert len(outputs) == made.outputs == 2
                assert len(made.inputs()) == 2 * len(inputs_of(unit))
                channels, height, width = output_of(unit)
                assert outputs[0].shape[:2] == (1, channels), unit
                assert outputs[0].numel() == channels * height * width, unit

    def test_every_unit_of_every_space_can_be_built(self):
        for name in space_names():
            for seed in range(5):
                for unit in units(load_space(name).sample(seed)):
                    assert measurable(unit), unit
        assert "selu" in ACTIVATIONS

    def test_units_that_do_not_meet_have_outputs_of_their_own(self):
        every = units(load_space("mobiledepth").sample(4))
        made = Passage(every[:6]).eval()
        with torch.no_grad():
            outputs = made(*map(torch.from_numpy, made.inputs()))
        assert len(outputs) == made.outputs


class TestMeasuring:
    """The real backend; no time is asserted."""

    @pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
    def test_measures_passages_and_networks(self, backend, tiny_space):
        genotype = load_space(tiny_space).sample(0)
        every = units(genotype)
        measure = measurer(backend, 1, genotype)
        passages = [Item("passage", every[:2], None, 2), Item("passage", every[3:4], None, 3)]
        found = measure(passages) + measure([Item("network", every, genotype)])
        assert all(one is not None and one.latency_ms > 0 for one in found)
        assert found[1].inputs == 3 and found[1].outputs == 3 and found[1].values > 0

    def test_the_clock_of_one_thread_is_that_of_the_processor(self):
        assert "processor" in clock_of("onnxruntime", 1)[0]
        assert clock_of("onnxruntime", 2)[0] == "time passed"
        _, clock = clock_of("onnxruntime", 1)
        samples = time_callables({"x": lambda: sum(range(1000))}, runs=10, clock=clock)
        assert samples["x"].median_ms > 0


class TestCommand:
    """``compress calibrate`` as a user types it."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--backend", "onnx"], "did you mean onnxruntime"),
            (["--minutes", "0"], "more than 0"),
            (["--minutes", "nan"], "more than 0"),
            (["--threads", "0"], "threads 0"),
            (["--space", "depthnetnano"], "did you mean depthnet-nano"),
            (["--size", "3x3"], "HEIGHTxWIDTH"),
        ],
    )
    def test_mistakes(self, capsys, words, said):
        try:
            assert main(["calibrate", *words]) == 2
        except SystemExit as error:
            assert error.code == 2
        assert said in capsys.readouterr().err

    @pytest.mark.parametrize("json_", [True, False])
    def test_prints_the_error(self, monkeypatch, capsys, tmp_path, json_):
        device = KnownDevice()
        monkeypatch.setattr("compress.cost.calibrate.measurer", lambda *_: device.measure)
        monkeypatch.setattr("compress.cost.calibrate.LEAST", {"passage": 16, "network": 12})
        out = tmp_path / "t.json"
        words = ["--minutes", "0.0001", "--space", "fastdepth", "-o", str(out)]
        assert main(["calibrate", *words, *["--json"] * json_]) == 0
        said = capsys.readouterr()
        assert "held-out networks measured" in said.err
        if json_:
            answer = json.loads(said.out)
            assert answer["table"] == str(out) and answer["proof"]["networks"] == HELD_OUT
        else:
            assert "MAPE" in said.out and "Spearman" in said.out


def test_threads_that_are_not_there(tmp_path):
    with pytest.raises(CompressError, match="threads 4096"):
        calibrate(threads=4096, out=tmp_path / "t.json")
