"""Power meters on made-up sysfs trees: counters, wrap-around, rails, and none at all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.cost import energy
from compress.cost.energy import NONE, NvmlMeter, RailMeter, find_meter


def put(root: Path, **files: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (root / name).write_text(f"{value}\n")
    return root


def rapl(root: Path, zone: str, name: str, uj: int, wrap: int = 1_000_000_000) -> Path:
    where = root / "class/powercap" / zone
    return put(where, name=name, energy_uj=uj, max_energy_range_uj=wrap) / "energy_uj"


class TestRapl:
    """Processor packages' counters in microjoules."""

    def test_packages_are_added_and_their_parts_are_not(self, tmp_path):
        first = rapl(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
        second = rapl(tmp_path, "intel-rapl:1", "package-1", 7_000_000)
        core = rapl(tmp_path, "intel-rapl:0:0", "core", 1)
        platform = rapl(tmp_path, "intel-rapl:2", "psys", 1)
        mmio = rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 1)

        def run() -> None:
            first.write_text("7500000\n")
            second.write_text("8000000\n")
            for other in (core, platform, mmio):
                other.write_text("99000000\n")

        meter = find_meter(tmp_path)
        assert meter.present and meter.name == "RAPL, 2 processor packages"
        assert meter.joules(run) == pytest.approx(2.5 + 1.0)

    def test_a_counter_starts_again(self, tmp_path):
        counter = rapl(tmp_path, "intel-rapl:0", "package-0", 9_000_000, wrap=10_000_000)
        meter = find_meter(tmp_path)
        assert meter.joules(lambda: counter.write_text("2000000")) == pytest.approx(3.0)

    def test_one_that_only_root_may_read(self, tmp_path, monkeypatch):
        rapl(tmp_path, "intel-rapl:0", "package-0", 1)

        def refuse(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(energy._Domain, "read", refuse)
        meter = find_meter(tmp_path)
        assert not meter.present
        assert meter.name == "no power sensor (RAPL is there, but only root may read it)"

    def test_one_that_is_broken(self, tmp_path):
        rapl(tmp_path, "intel-rapl:0", "package-0", 1).write_text("no number")
        assert "cannot be read" in find_meter(tmp_path).name


def rail(chip: Path, channel: int, label: str, millivolts: int, milliamperes: int) -> None:
    put(
        chip,
        **{
            f"in{channel}_label": label,
            f"in{channel}_input": millivolts,
            f"curr{channel}_input": milliamperes,
        },
    )


class TestRails:
    """A Jetson's supply rails in millivolts and milliamperes."""

    def chip(self, root: Path, address: str = "1-0040") -> Path:
        return root / f"bus/i2c/drivers/ina3221/{address}/hwmon/hwmon3"

    def test_power_times_time(self, tmp_path):
        chip = self.chip(tmp_path)
        rail(chip, 1, "GPU", 19_000, 1_000)
        rail(chip, 2, "CPU", 19_000, 500)
        rail(self.chip(tmp_path, "1-0041"), 1, "SYS5V", 5_000, 300)
        found = find_meter(tmp_path)
        assert isinstance(found, RailMeter)
        assert found.name == "INA3221, GPU + CPU + SYS5V"
        assert found.watts() == pytest.approx(19 + 9.5 + 1.5)
        times = iter((10.0, 14.0))
        # Read once before and once after, and never between: 30 W and then 20 W for 4 s.
        meter = RailMeter(found.rails, every_s=60, clock=lambda: next(times))
        rails = meter.joules(lambda: rail(chip, 1, "GPU", 9_000, 1_000))
        assert rails == pytest.approx((30 + 20) / 2 * 4)

    def test_is_read_meanwhile(self, tmp_path):
        rail(self.chip(tmp_path), 1, "VDD_IN", 5_000, 2_000)
        meter = RailMeter(find_meter(tmp_path).rails, every_s=0.001)
        seen = []
        meter.watts = lambda: seen.append(1) or 10.0

        def run() -> None:
            while len(seen) < 5:
                pass

        assert meter.joules(run) > 0 and len(seen) >= 6

    def test_the_whole_input_counts_alone(self, tmp_path):
        chip = self.chip(tmp_path)
        rail(chip, 1, "VDD_IN", 5_000, 2_000)
        rail(chip, 2, "VDD_CPU_GPU_CV", 5_000, 700)
        assert find_meter(tmp_path).name == "INA3221, VDD_IN"

    def test_switched_off_channels_are_left_out(self, tmp_path):
        chip = self.chip(tmp_path)
        rail(chip, 1, "GPU", 19_000, 1_000)
        put(chip, in2_label="CPU", in2_input="")
        rail(chip, 4, "shunt", 19_000, 1_000)
        assert find_meter(tmp_path).name == "INA3221, GPU"

    def test_a_run_that_fails_ends_the_reading(self, tmp_path):
        rail(self.chip(tmp_path), 1, "GPU", 19_000, 1_000)
        with pytest.raises(ZeroDivisionError):
            find_meter(tmp_path).joules(lambda: 1 // 0)


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, counter: bool = True) -> None:
        self.millijoules, self.counter = 1000, counter

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        return SimpleNamespace(index=index)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        if not self.counter:
            raise self.NVMLError("Not Supported")
        return self.millijoules


class TestNvml:
    """A GPU's counter in millijoules."""

    def test_counts(self, monkeypatch, tmp_path):
        nvml = FakeNvml()
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        rapl(tmp_path, "intel-rapl:0", "package-0", 1)
        meter = find_meter(tmp_path, gpu=True)
        assert isinstance(meter, NvmlMeter) and meter.name == "NVML, GPU 0"
        assert meter.joules(lambda: setattr(nvml, "millijoules", 3500)) == pytest.approx(2.5)
        assert find_meter(tmp_path).name.startswith("RAPL")

    def test_without_a_counter_or_a_library(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(counter=False))
        assert find_meter(tmp_path, gpu=True).name == f"{NONE} (NVML: Not Supported)"
        monkeypatch.setitem(sys.modules, "pynvml", None)
        assert "pip install nvidia-ml-py" in find_meter(tmp_path, gpu=True).name


def test_no_power_sensor(tmp_path):
    meter = find_meter(tmp_path)
    assert (meter.present, meter.name) == (False, "no power sensor")
    assert meter.joules(lambda: pytest.fail("nothing to measure, nothing to run")) is None
