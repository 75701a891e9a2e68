"""Every backend on a tiny module: what is measured, what is said; no time is asserted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.cost import backends, compare_latency, latency, measure_latency
from compress.cost.backends import BACKENDS
from compress.cost.memory import peak_memory_mb
from compress.cost.timing import Samples, time_callables
from compress.errors import CompressError


class Tiny(nn.Module):
    """Importable, with an input size of its own."""

    size = (16, 24)

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).exp()


def need(name: str) -> None:
    """Skip where the backend is not installed or there is nothing to compile with."""
    pytest.importorskip(BACKENDS[name].package)
    if BACKENDS[name].compiles and not shutil.which("g++"):
        pytest.skip("no C++ compiler")


QUICK = {"runs": 10, "memory": False, "energy": False}


class TestBackends:
    """Every backend that is installed here runs a tiny module."""

    @pytest.mark.parametrize("name", BACKENDS)
    def test_measures(self, name):
        need(name)
        if BACKENDS[name].gpu and not torch.cuda.is_available():
            with pytest.raises(CompressError, match=r"no CUDA device here; use one of torch,"):
                measure_latency(Tiny(), name, **QUICK)
            return
        model, threads = Tiny().train(), torch.get_num_threads()
        found = measure_latency(model, name, **QUICK)
        assert model.training and torch.get_num_threads() == threads
        assert next(model.parameters()).requires_grad
        assert (found.backend, found.threads, found.size) == (name, 1, (16, 24))
        assert 0 < found.p5_ms <= found.median_ms <= found.p95_ms
        assert (
            found.p5_ms <= found.low_ms <= found.median_ms <= found.high_ms <= found.p95_ms * 1.01
        )
        assert found.fps == pytest.approx(1000 / found.median_ms)
        assert found.runs == found.rounds == 10 and found.warm_up_runs > 0
        assert found.noisy == (found.verdict != "quiet")
        assert {"processor", "cores", "system", "python", "torch", "precision"} <= set(found.device)
        assert BACKENDS[name].package in found.device

    @pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
    def test_computes_what_the_module_computes(self, tmp_path, name):
        need(name)
        model = Tiny().eval()
        x = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
        run, source = backends.prepare(name, model, [x], 1, tmp_path)
        with torch.no_grad():
            wanted = model(torch.from_numpy(x)).numpy()
        outputs = run()  # a list or a mapping, which the timing ignores
        got = outputs[0]
        np.testing.assert_allclose(got, wanted, 1e-4)
        assert source.suffix == ".onnx"

    @pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
    def test_peak_memory_grows_with_the_weights(self, tmp_path, name):
        need(name)
        peaks = []
        for width in (4, 4_000):
            x = np.zeros((1, 3, 16, 24), np.float32)
            model = nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, 1000, 1))
            _, source = backends.prepare(name, model, [x], 1, tmp_path)
            peak_mb, why = peak_memory_mb(name, source, [x], 1)
            if not Path("/proc/self/status").exists():
                assert peak_mb is None and "/proc" in why
                return
            assert why == ""
            peaks.append(peak_mb)
        assert peaks[1] - peaks[0] > 4_000 * 1000 * 4 / 1e6

    def test_memory_of_a_class_that_no_other_process_knows(self, tmp_path):
        class Local(Tiny):
            pass

        x = np.zeros((1, 3, 16, 24), np.float32)
        found = measure_latency(Local(), "torch", runs=10, energy=False)
        assert found.peak_memory_mb is None and "cannot be handed on" in found.notes[0]
        assert peak_memory_mb("torch-compile", Local(), [x], 1)[0] is None

    @pytest.mark.parametrize("name", ["torch", "onnxruntime", "openvino"])
    def test_operators_of_several_inputs(self, tmp_path, name):
        need(name)

        class Add(nn.Module):
            def forward(self, a: Tensor, b: Tensor) -> Tensor:
                return a + b

        inputs = [np.ones((1, 4, 8, 8), np.float32)] * 2
        run, _ = backends.prepare(name, Add(), inputs, 1, tmp_path)
        assert time_callables({"add": run}, runs=10, warm_up_s=0.01)["add"].median_ms > 0


class TestMeasure:
    """Words in, figures out."""

    def test_presets(self, monkeypatch):
        asked = {}

        def stub(callables, **options):
            asked.update(options)
            return {name: Samples(((1.0,),) * 10, cpu_share=1.0) for name in callables}

        monkeypatch.setattr(latency, "time_callables", stub)
        options = {"memory": False, "energy": False}
        found = measure_latency(Tiny(), "torch", preset="mobiledepth", **options)
        assert (asked["runs"], asked["seconds"]) == (300, float("inf"))
        assert (found.image, found.preset) == ("zeros", "mobiledepth")
        assert (found.median_ms, found.low_ms, found.high_ms, found.fps) == (1, 1, 1, 1000)
        assert measure_latency(Tiny(), "torch", **options).image == "random"
        assert (asked["runs"], asked["seconds"]) == (1000, 10.0)
        measure_latency(Tiny(), "torch", runs=70, **options)
        assert (asked["runs"], asked["seconds"]) == (70, float("inf"))
        measure_latency(Tiny(), "torch", runs=70, seconds=2, **options)
        assert (asked["runs"], asked["seconds"]) == (70, 2)

    def test_energy(self, monkeypatch):
        class Meter:
            name = "made up"

            def joules(self, run):
                run()
                return 12.0

        ran = []
        samples = Samples(((100.0,),) * 10, cpu_share=1.0)
        monkeypatch.setattr(latency, "find_meter", lambda gpu: Meter())
        monkeypatch.setattr(latency, "time_callables", lambda c, **_: dict.fromkeys(c, samples))
        monkeypatch.setattr(latency, "prepare", lambda *_: (lambda: ran.append(1), None))
        found = measure_latency(Tiny(), "torch", memory=False)
        # 3 s of 100 ms each: 30 images, 12 J.
        assert len(ran) == 30 and found.power_sensor == "made up"
        assert found.joules_per_image == pytest.approx(0.4)
        assert found.images_per_s_per_watt == pytest.approx(2.5)

    def test_no_sensor(self):
        found = measure_latency(Tiny(), "torch", **QUICK)
        assert found.joules_per_image is found.images_per_s_per_watt is None

    def test_compares(self):
        models = {"one": Tiny(), "two": Tiny(300)}
        found = compare_latency(models, "torch", size="32x48", **QUICK)
        assert list(found.latencies) == ["one", "two"] and list(found.speedups) == ["two"]
        assert {one.size for one in found.latencies.values()} == {(32, 48)}
        assert found.speedups["two"].ratio < 1  # 75 times the work

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"backend": "onnx"}, "unknown backend 'onnx'; did you mean"),
            ({"preset": "mobile"}, "unknown preset 'mobile'; did you mean mobiledepth"),
            ({"threads": 0}, "threads 0: this process may use 1 to"),
            ({"threads": 10_000}, "threads 10000: this process may use 1 to"),
            ({"runs": 9}, "runs 9: an interval needs 10 or more"),
            ({"seconds": 0.0}, "seconds 0.0: give more than 0"),
            ({"seconds": float("nan")}, "seconds nan: give more than 0"),
            ({"seed": -1}, "seed -1"),
            ({"size": (4, 4)}, "no input size"),
        ],
    )
    def test_mistakes(self, options, said):
        with pytest.raises(CompressError, match=said):
            measure_latency(Tiny(), **options)

    def test_a_backend_that_is_not_installed_says_how(self, monkeypatch):
        monkeypatch.setattr(backends, "find_spec", lambda name: None)
        with pytest.raises(CompressError, match=r"pip install depth-compress\[openvino\]"):
            measure_latency(Tiny(), "openvino")

    def test_a_module_that_does_not_run(self):
        with pytest.raises(CompressError, match="does not run on torch: RuntimeError"):
            measure_latency(nn.Conv2d(5, 1, 1), "torch", size=(16, 16))
        with pytest.raises(CompressError, match="no network"):
            compare_latency({})


def test_importing_it_loads_no_backend():
    code = (
        "import sys, compress.cost.memory, compress.cost.latency; print(sorted(set(sys.modules) & "
    )
    code += "{'torch', 'onnxruntime', 'openvino', 'onnx'}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
