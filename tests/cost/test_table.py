"""The device table: units, predictions, the file; hostile, old and foreign files."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_device import RUN_MS, network_ms, unit_ms

from compress.cost import operators
from compress.cost.backends import device_of
from compress.cost.fit import Observation, fit
from compress.cost.plan import Plan, units
from compress.cost.table import (
    DeviceTable,
    Proof,
    default_table_path,
    find_table,
    spearman,
)
from compress.cost.units import CONVOLUTIONS, SHUFFLE, units_of
from compress.errors import CompressError
from compress.space import Operator, load_space, space_names
from compress.space.draft import Draft

SPACES = [load_space(name) for name in ("depthnet-nano", "fastdepth", "mobiledepth")]


def observed(passages=150, networks=45):
    plan, found = Plan(SPACES), []
    for kind, count in (("passage", passages), ("network", networks)):
        stream = plan.items(kind)
        for _ in range(count):
            item = next(stream)[1]
            total_ms = item.copies * sum(map(unit_ms, item.units)) + RUN_MS
            found.append(Observation(item.units, total_ms, item.copies, network=kind == "network"))
    return found


@pytest.fixture(scope="module")
def table():
    return DeviceTable(
        "onnxruntime", 1, device_of("onnxruntime"), "2026-01-01", "time passed",
        tuple(space.name for space in SPACES), ((96, 128),), 195, fit(observed()),
        Proof.of([1.0, 2.0, 3.3], [1.1, 2.0, 3.0], ["a", "b"]),
    )  # fmt: skip


class TestUnits:
    """Operators are joined as backends run them."""

    def made(self, write):
        draft = Draft((16, 24))
        write(draft)
        return draft.operators, *units_of(draft.operators)

    def test_a_convolution_takes_its_norm_and_activation(self):
        def write(draft):
            x = draft.conv(draft.image, 8, 3, 2)
            draft.act(draft.norm(x), "relu")
            draft.act(draft.norm(x), "relu")  # not after a convolution: on their own

        operators, made, leads = self.made(write)
        assert [unit.kind for unit in made] == ["dense", "norm", "activation"]
        assert made[0].act == "relu" and made[0].area == 16 * 24
        assert leads == [0, 3, 4] and len(operators) == 5
        assert made[1].before == "conv:relu"

    def test_kinds_of_convolutions(self):
        def write(draft):
            x = draft.conv(draft.image, 8)
            x = draft.depthwise(x, 5)
            draft.conv(x, 12, 3, groups=4)

        _, made, _ = self.made(write)
        assert [unit.kind for unit in made] == ["pointwise", "depthwise", "grouped"]
        transposed = Operator("", "conv", 4, 8, 5, 6, 3, 2, detail="transposed")
        assert units_of([transposed])[0][0].area == 30

    def test_squeeze_and_excitation_weighs_the_whole_map(self):
        from compress.space.mobilenets import excite

        def write(draft):
            x = draft.conv(draft.image, 16)
            excite(draft, x, 4, "", "sigmoid")

        _, made, _ = self.made(write)
        assert [unit.kind for unit in made] == "pointwise mean pointwise pointwise gate".split()
        assert made[1].area == made[4].height == 16 * 24 and made[4].out_channels == 16

    def test_split_and_shuffle_is_seen(self):
        values = {"block": ("split-shuffle",), "units": (2,)}
        space = load_space("mobiledepth").restricted(values)
        made = units(space.sample(0))
        assert sum(unit.detail == SHUFFLE for unit in made) == 10
        for block in ("ds", "dense-ds", "inv-res", "nnconv5", "res-ds"):
            other = load_space("mobiledepth").restricted({"block": (block,)})
            for seed in range(4):
                assert not any(unit.detail == SHUFFLE for unit in units(other.sample(seed)))

    @pytest.mark.parametrize("name", space_names())
    def test_every_operator_is_in_one_unit(self, name):
        space = load_space(name)
        for seed in range(5):
            listed = operators(space.sample(seed))
            made, leads = units_of(listed)
            assert len(made) == len(leads) and leads == sorted(leads)
            led = [op for op in listed if op.kind == "conv"]
            assert len(led) == sum(unit.kind in CONVOLUTIONS for unit in made)
            assert all(x > 0 for unit in made for x in unit[1:10]), name


class TestPrediction:
    """Of sums of known times."""

    def test_predicts_networks(self, table):
        genotypes = [space.sample(10**7 + seed) for seed in range(10) for space in SPACES]
        predicted = np.array([table.predict(operators(one)) for one in genotypes])
        known = np.array([network_ms(units(one)) for one in genotypes])
        assert np.mean(np.abs(predicted / known - 1)) < 0.04
        assert spearman(predicted, known) > 0.98

    def test_operators_add_up_to_the_network(self, table):
        for space in SPACES:
            listed = operators(space.sample(3))
            each = table.predict_per_operator(listed)
            assert each.shape == (len(listed),) and (each >= 0).all()
            assert each.sum() + table.predictor.run_ms() == pytest.approx(table.predict(listed))
            joined = [op.kind == "norm" for op in listed]
            if space.name != "mobiledepth":
                assert not each[joined].any()

    def test_the_same_whatever_was_asked_before(self, table):
        listed = [operators(SPACES[0].sample(seed)) for seed in range(5)]
        fresh = [replace(table, _known={}).predict(one) for one in listed]
        assert [table.predict(one) for one in listed] == pytest.approx(fresh, rel=1e-12)

    def test_what_was_never_measured_is_finite_and_positive(self, table):
        strange = [
            Operator("", "linear", 512, 10, 1, 4),
            Operator("", "matmul", 64, 64, 1, 100),
            Operator("", "conv", 2048, 2048, 20, 30, 9),
            Operator("", "conv", 1, 1, 1, 1),
            Operator("", "conv", 8, 8, 9, 9, 3, 2, 8, False, "transposed"),
            Operator("", "norm", 7, 7, 4, 4, detail="own"),
            Operator("", "activation", 7, 7, 4, 4, detail="mish"),
        ]
        for one in strange:
            assert 0 < table.predict([one]) - table.predictor.run_ms() < 1e6
            assert one.kind == "conv" or table.unmeasured([one])
        assert not table.unmeasured(operators(SPACES[1].sample(0)))
        assert table.predict([]) == pytest.approx(table.predictor.run_ms())

    def test_more_of_the_same_takes_longer(self, table):
        one = operators(SPACES[1].sample(0))
        assert table.predict([*one, *one]) > 1.5 * table.predict(one)

    def test_thousands_of_networks_a_minute(self, table):
        """No time is asserted but one that only a mistake of another order would miss."""
        began = time.process_time()
        for seed in range(50):
            table.predict(operators(SPACES[0].sample(seed)))
        assert time.process_time() - began < 5

    @given(st.lists(st.floats(0.1, 100), min_size=3, max_size=30, unique=True))
    def test_ranks(self, values):
        first = np.array(values)
        assert spearman(first, first**3) == 1.0
        assert spearman(first, -first) == -1.0
        assert spearman(first, first * 0) == 0.0


class TestFile:
    """Whole or not at all; only for what it was measured on."""

    def test_round_trip(self, table, tmp_path):
        table.save(tmp_path / "t.json")
        again = DeviceTable.load(tmp_path / "t.json")
        assert again.to_dict() == table.to_dict() and again.proof == table.proof
        listed = operators(SPACES[2].sample(1))
        assert again.predict(listed) == pytest.approx(table.predict(listed), rel=1e-12)
        assert [path.name for path in tmp_path.iterdir()] == ["t.json"]

    def test_is_found_at_its_default_place(self, table, tmp_path, monkeypatch):
        monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
        with pytest.raises(CompressError, match=r"compress calibrate --backend onnxruntime --thr"):
            find_table("onnxruntime")
        table.save(default_table_path("onnxruntime", 1))
        assert find_table("onnxruntime").to_dict() == table.to_dict()
        with pytest.raises(CompressError, match="no device table of onnxruntime with 2 threads"):
            find_table("onnxruntime", 2)
        with pytest.raises(CompressError, match="unknown backend 'onyx'"):
            find_table("onyx")

    def test_of_another_backend_or_threads(self, table, tmp_path):
        table.save(tmp_path / "t.json")
        with pytest.raises(CompressError, match="is of onnxruntime with 1 threads, not of torch"):
            find_table("torch", 1, tmp_path / "t.json")
        with pytest.raises(CompressError, match="not of onnxruntime with 2"):
            find_table("onnxruntime", 2, tmp_path / "t.json")

    @pytest.mark.parametrize("key", ["processor", "onnxruntime", "cores"])
    def test_of_another_device_or_version(self, table, tmp_path, key):
        other = replace(table, device={**table.device, key: "another"})
        other.save(tmp_path / "t.json")
        with pytest.raises(CompressError, match=f"another device: its {key} is 'another'"):
            find_table("onnxruntime", 1, tmp_path / "t.json")

    def test_of_another_kernel_is_the_same_device(self, table, tmp_path):
        replace(table, device={**table.device, "system": "x"}).save(tmp_path / "t.json")
        find_table("onnxruntime", 1, tmp_path / "t.json")

    @pytest.mark.parametrize(
        "content",
        [b"", b"{}", b"[]", b"null", b"\xff\xfe\x00", b"[" * 10**5, b'{"format": 0}',
         b'{"format": 1}', b'{"format": 99, "backend": "onnxruntime"}'],
    )  # fmt: skip
    def test_hostile_files(self, tmp_path, content):
        (tmp_path / "t.json").write_bytes(content)
        with pytest.raises(CompressError, match=r"t\.json: .*device table"):
            DeviceTable.load(tmp_path / "t.json")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("threads", "many"), ("device", []), ("sizes", [1]), ("predictor", {}),
            ("proof", {"mape": 1}), ("proof", 3), ("measured", None),
            ("predictor", {"terms": {}, "frequencies": [[1.0]], "phases": [1.0]}),
        ],
    )  # fmt: skip
    def test_damaged_values(self, table, tmp_path, key, value):
        table.save(tmp_path / "t.json")
        data = json.loads((tmp_path / "t.json").read_text())
        (tmp_path / "t.json").write_text(json.dumps(data | {key: value}))
        with pytest.raises(CompressError, match="damaged"):
            DeviceTable.load(tmp_path / "t.json")

    def test_weights_that_are_no_numbers(self, table, tmp_path):
        table.save(tmp_path / "t.json")
        text = (tmp_path / "t.json").read_text()
        data = json.loads(text)
        data["predictor"]["overhead"][0] = float("nan")
        (tmp_path / "t.json").write_text(json.dumps(data))
        with pytest.raises(CompressError, match="damaged"):
            DeviceTable.load(tmp_path / "t.json")
        with pytest.raises(CompressError, match="cannot read"):
            DeviceTable.load(tmp_path / "none.json")

    def test_says_when_an_input_is_far_from_all_that_were_measured(self, table):
        height, width = table.sizes[0]
        assert table.stretched((height, width)) == ""
        assert table.stretched((height, 4 * width // 3)) == ""
        assert f"--size {8 * height}x{8 * width}" in table.stretched((8 * height, 8 * width))

    def test_a_table_tells_its_error(self, table):
        assert "MAPE 6.4%" in table.describe() and "Spearman 1.000" in table.describe()
        assert "not known" in replace(table, proof=None).describe()
