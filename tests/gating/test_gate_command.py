"""compress gate as a user types it, and evaluate and bench on what it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch

from compress.cli import main
from compress.gating.executor import GatedExecutor
from compress.gating.macs import expected_macs
from compress.gating.run import gate
from compress.models import load
from compress.models.gates import gates_of
from compress.space import load_space
from compress.train.run import train

BRIEF = (
    "--gate-epochs", "0", "--joint-epochs", "0", "--step-epochs", "0", "--epochs", "1",
    "--batch", "8", "--seconds", "0.2",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few_static_networks() -> Iterator[None]:
    """Finding the static network that is as fast takes most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compress.gating.bench.HALVINGS", 2)
        yield


@pytest.fixture(scope="module")
def model(tiny_folder, wide_space, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "net.safetensors"
    genotype = load_space(wide_space).sample(0)
    train(genotype, f"folder:{tiny_folder}", out=path, size=(32, 64), recipe={"batch": 8}, epochs=2)
    return path


@pytest.fixture(scope="module")
def gated(model, tiny_folder, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("gated") / "gated.safetensors"
    words = ["gate", str(model), "--density", "0.5", "--data", f"folder:{tiny_folder}"]
    assert main((*words, *BRIEF, "-o", str(out), "--json", "--live")) == 0
    return out, json.loads(out.with_suffix(".json").read_text())


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_file_holds_gates_and_reloads(gated):
    path, answer = gated
    model = load(path)
    assert {gate.density for gate in gates_of(model).values()} == {0.5}
    assert model.info["gating"]["density"] == 0.5
    assert answer["densities"].keys() == gates_of(model).keys()


def test_the_answer_has_every_figure(gated):
    _, answer = gated
    assert answer["reached"] and answer["target"] is None
    for name in ("before", "after", "static"):
        figures = answer[name]
        assert 0 <= figures["heldout"]["delta1"] <= 1
        assert figures["latency"]["low_ms"] <= figures["latency"]["median_ms"]
    macs = answer["macs"]
    assert 0 < macs["mean"] <= macs["p95"] <= macs["worst"] < macs["dense"]
    slower = answer["after"]["speedup"]["ratio"] <= 1
    assert ("does not pay here" if slower else "static pruning") in answer["better"]
    assert len(answer["plan"]) == sum(1 for layer in answer["plan"] if layer["ms"] or layer["mode"])


def test_every_density_is_in_the_answer_and_on_the_page(gated):
    path, answer = gated
    # Only the last phase has an epoch, and so only its density is scored.
    (one,) = answer["sweep"]
    assert one["density"] == 0.5 and one["delta1"] == answer["epochs"][-1]["delta1"]
    assert one["latency_ms"] == answer["after"]["latency"]["median_ms"]
    assert one["macs"] == expected_macs(load(path), (32, 64)) < answer["macs"]["dense"]
    page = path.with_suffix(".html").read_text("utf-8")
    assert "MACs, at most" in page and "Density sweep" in page
    assert "refresh" not in page  # though it was live


def test_the_executor_gives_what_the_file_gives(gated):
    model = load(gated[0])
    executor = GatedExecutor(model, (32, 64))
    image = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(executor(image), model(image), rtol=1e-4, atol=1e-4)


def test_the_export_has_gates_as_masks(gated):
    path, _ = gated
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 64)).astype(np.float32)
    (depth,) = onnxruntime.InferenceSession(path.with_suffix(".onnx")).run(None, {"image": image})
    with torch.no_grad():
        np.testing.assert_allclose(depth, load(path)(torch.from_numpy(image)), rtol=1e-3)


def test_evaluate_tells_macs(capsys, gated, tiny_folder):
    path, answer = gated
    words = ("evaluate", str(path), "--data", f"folder:{tiny_folder}", "--json")
    code, out, err = run(capsys, *words)
    assert code == 0, err
    found = json.loads(out)
    assert found["macs"]["dense"] == answer["macs"]["dense"]
    assert found["macs"]["mean"] < found["macs"]["dense"]
    assert found["delta1"] == pytest.approx(answer["after"]["heldout"]["delta1"], abs=1e-6)


def test_bench_on_real_images(capsys, gated, model, tiny_folder):
    data = ("--data", f"folder:{tiny_folder}", "--seconds", "0.2")
    code, out, err = run(capsys, "bench", str(gated[0]), *data)
    assert code == 0, err
    assert "static" in out and "gated" in out and "MACs" in out
    code, _, err = run(capsys, "bench", str(model), *data)
    assert code == 2 and "has no gates" in err and err.count("\n") == 1


def test_a_killed_run_goes_on(model, tiny_folder, tmp_path, monkeypatch):
    """What the second of two steps needs is on disk when the first is over."""
    from compress.data import open_data
    from compress.gating import run as module
    from compress.gating.train import Phases
    from compress.pruning.task import DepthTask

    def task(size):
        return DepthTask(open_data(f"folder:{tiny_folder}"), size, {"batch": 8})

    # What is measured afterwards is not the point here.
    monkeypatch.setattr(
        module,
        "_measured",
        lambda _, net, *rest: SimpleNamespace(model=net, epochs=rest[-2]["epochs"]),
    )
    how = {"density": 0.8, "phases": Phases(1, 0, 1, 1), "static": False, "seconds": 0.1}
    whole = gate(model, task, **how, folder=tmp_path / "a", asked={"a": 1})
    real, steps = module.Keeper.store, []

    def store(self, net, state):
        real(self, net, state)
        steps.append(len(state["history"]))
        if steps[-1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Keeper, "store", store)
    with pytest.raises(KeyboardInterrupt):
        gate(model, task, **how, folder=tmp_path / "b", asked={"a": 1})
    monkeypatch.setattr(module.Keeper, "store", real)
    rest = gate(model, task, **how, folder=tmp_path / "b", asked={"a": 1})
    assert len(rest.epochs) == len(whole.epochs)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name


def test_a_latency_is_met_or_refused(model, tiny_folder, monkeypatch):
    monkeypatch.setattr("compress.gating.run.HALVINGS", 1)
    from compress.data import open_data
    from compress.errors import CompressError
    from compress.gating.train import Phases
    from compress.pruning.task import DepthTask

    def task(size):
        return DepthTask(open_data(f"folder:{tiny_folder}"), size, {"batch": 8})

    how = {"phases": Phases(0, 0, 0, 1), "static": False, "seconds": 0.1}
    with pytest.raises(CompressError, match="the dense network takes"):
        gate(model, task, target_ms=1e4, **how)
    with pytest.raises(CompressError, match="cannot be reached by gates"):
        gate(model, task, target_ms=1e-3, **how)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of --density and --target-latency"),
        (["--density", "0.5", "--target-latency", "1ms"], "give one of"),
        (["--density", "0"], "above 0 and at most 1"),
        (["--density", "1.5"], "above 0 and at most 1"),
        (["--density", "nan"], "above 0 and at most 1"),
        (["--density", "0.5", "--where", "head"], "encoder"),
        (["--density", "0.5", "--variant", "fps"], "fbs"),
        (["--density", "0.5", "--threads", "0"], "--threads 0"),
        (["--density", "0.5", "--step-epochs", "-1"], "from 0"),
    ],
)
def test_mistakes_are_one_line(capsys, model, tiny_folder, tmp_path, words, said):
    data = ("--data", f"folder:{tiny_folder}", "-o", str(tmp_path / "x.safetensors"))
    code, out, err = run(capsys, "gate", str(model), *data, *words)
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1


def test_a_gated_network_is_not_gated_again(capsys, gated, tmp_path):
    code, _, err = run(capsys, "gate", str(gated[0]), "--density", "0.5", "-o", str(tmp_path / "x"))
    assert code == 2 and "has gates already" in err and err.count("\n") == 1
