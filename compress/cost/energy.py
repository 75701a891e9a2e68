"""Energy, where the machine has a sensor: RAPL, NVML or a Jetson's INA3221.

Every meter reads all that its sensor sees, idling and other programs included: measure on a machine
that does nothing else, as the published images/s/watt do.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NONE = "no power sensor"
SAMPLE_S = 0.02  # a rail's power is read so often
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")  # a module's whole input: the others are part of it


class PowerMeter:
    """Tells the joules that a run takes; this one has no sensor, and ``name`` says why."""

    present = False

    def __init__(self, name: str = NONE) -> None:
        self.name = name

    def joules(self, run: Callable[[], object]) -> float | None:
        """Call ``run`` and return the joules spent meanwhile; without a sensor None, uncalled."""
        return None


@dataclass(frozen=True)
class _Domain:
    """One RAPL counter in microjoules, which starts again at 0 after ``wrap``."""

    path: Path
    wrap: int

    def read(self) -> int:
        return int(self.path.read_text())


class RaplMeter(PowerMeter):
    """Intel's and AMD's running average power limit: the energy counters of processor packages.

    Source: Linux kernel, Documentation/power/powercap/powercap.rst.
    """

    present = True

    def __init__(self, domains: list[_Domain]) -> None:
        super().__init__(f"RAPL, {len(domains)} processor package{'s' * (len(domains) > 1)}")
        self.domains = domains

    def joules(self, run: Callable[[], object]) -> float | None:
        """Call ``run``; a counter may start again once meanwhile (minutes to hours of work)."""
        before = [one.read() for one in self.domains]
        run()
        spent = [one.read() - start for one, start in zip(self.domains, before, strict=True)]
        return sum(
            uj if uj >= 0 else uj + one.wrap for uj, one in zip(spent, self.domains, strict=True)
        ) / 1e6  # fmt: skip


class NvmlMeter(PowerMeter):
    """NVIDIA's management library: the energy counter of one GPU, in millijoules."""

    present = True

    def __init__(self, nvml: Any, index: int = 0) -> None:
        nvml.nvmlInit()
        self.nvml, self.handle = nvml, nvml.nvmlDeviceGetHandleByIndex(index)
        super().__init__(f"NVML, GPU {index}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)  # raises where it has no counter

    def joules(self, run: Callable[[], object]) -> float | None:
        """Call ``run``; it must wait for the GPU itself."""
        read = self.nvml.nvmlDeviceGetTotalEnergyConsumption
        before = read(self.handle)
        run()
        return float(read(self.handle) - before) / 1e3


@dataclass(frozen=True)
class _Rail:
    """One supply rail of an INA3221: millivolts and milliamperes."""

    label: str
    volts: Path
    amperes: Path

    def watts(self) -> float:
        return int(self.volts.read_text()) * int(self.amperes.read_text()) / 1e6


class RailMeter(PowerMeter):
    """A Jetson's INA3221: power of its supply rails, read by a thread and summed over time.

    Source: Linux kernel, Documentation/hwmon/ina3221.rst.
    """

    present = True

    def __init__(
        self,
        rails: list[_Rail],
        every_s: float = SAMPLE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(f"INA3221, {' + '.join(one.label for one in rails)}")
        self.rails, self.every_s = rails, every_s
        self.clock = clock or time.perf_counter

    def watts(self) -> float:
        """Power now."""
        return sum(rail.watts() for rail in self.rails)

    def joules(self, run: Callable[[], object]) -> float | None:
        """Call ``run``; its energy is the mean of the power read meanwhile, times its time."""
        seen, done = [self.watts()], threading.Event()

        def watch() -> None:
            while not done.wait(self.every_s):
                seen.append(self.watts())

        watcher = threading.Thread(target=watch, daemon=True)
        began = self.clock()
        watcher.start()
        try:
            run()
        finally:
            took = self.clock() - began
            done.set()
            watcher.join()
        return statistics.fmean([*seen, self.watts()]) * took


def find_meter(root: str | Path = "/sys", *, gpu: bool = False) -> PowerMeter:
    """The machine's power meter; where it has none, one that says so and measures nothing.

    Args:
        root: where sysfs is.
        gpu: the network runs on an NVIDIA GPU, whose own meter is asked first.
    """
    root = Path(root)
    refused = []
    if gpu:
        meter, why = _nvml()
        if meter is not None:
            return meter
        refused.append(why)
    else:
        packages = _rapl_packages(root)
        try:
            domains = [
                _Domain(one / "energy_uj", int((one / "max_energy_range_uj").read_text()))
                for one in packages
            ]
            for domain in domains:
                domain.read()
            if domains:
                return RaplMeter(domains)
        except PermissionError:
            refused.append("RAPL is there, but only root may read it")
        except (OSError, ValueError) as error:
            refused.append(f"RAPL is there, but cannot be read: {error}")
    rails = _rails(root)
    if rails:
        return RailMeter(rails)
    return PowerMeter(f"{NONE} ({'; '.join(refused)})" if refused else NONE)


def _rapl_packages(root: Path) -> list[Path]:
    """Zones of whole processor packages: their parts, and the platform around them, count twice."""
    found = []
    for zone in sorted((root / "class/powercap").glob("intel-rapl:*")):
        name = zone / "name"
        whole = zone.name.count(":") == 1 and name.is_file()
        if whole and name.read_text().strip().startswith("package"):
            found.append(zone)
    return found


def _nvml() -> tuple[PowerMeter | None, str]:
    try:
        import pynvml
    except ImportError:
        return None, "for an NVIDIA GPU's: pip install nvidia-ml-py"
    try:
        return NvmlMeter(pynvml), ""
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"


def _rails(root: Path) -> list[_Rail]:
    """Rails of all INA3221s that can be read: the total's alone where there is one."""
    found = []
    for chip in sorted((root / "bus/i2c/drivers").glob("ina3221*/*/hwmon/hwmon*")):
        for channel in (1, 2, 3):  # further ones are shunt voltages and sums
            label = chip / f"in{channel}_label"
            rail = _Rail(
                label.read_text().strip() if label.is_file() else f"rail {channel}",
                chip / f"in{channel}_input",
                chip / f"curr{channel}_input",
            )
            try:
                rail.watts()
            except (OSError, ValueError):
                continue  # a channel that is switched off
            found.append(rail)
    return [rail for rail in found if rail.label in TOTAL_RAILS] or found
