"""compress prune as a user types it: targets met, refused or already met; killed and taken up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compress.cli import main
from compress.cost import cost
from compress.models import load
from compress.pruning import load_pruned
from compress.report import live as module
from compress.space import load_space
from compress.train import train

USER = """
import torch
from torch import nn

def make_net():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 1, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(32, 1, 1))

def score(model):
    return -float(sum(p.numel() for p in model.parameters()))

def broken(model):
    raise RuntimeError("no data here")
"""


@pytest.fixture(scope="module")
def model(tiny_folder, wide_space, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("wide") / "net.safetensors"
    genotype = load_space(wide_space).sample(0)
    train(genotype, f"folder:{tiny_folder}", out=path, size=(32, 48), recipe={"batch": 8}, epochs=6)
    return path


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(("prune", *words))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def flags(tiny_folder: Path, *more: str) -> list[str]:
    return [
        "--data", f"folder:{tiny_folder}", "--batch", "8", "--short-steps", "2", "--seconds", "0.5",
        "--step", "0.1", *more,
    ]  # fmt: skip


def test_a_target_of_macs_is_met_and_the_files_hold(
    capsys, model, tiny_folder, tmp_path, monkeypatch
):
    live, write = [], module.write_pruning_report
    monkeypatch.setattr(
        module,
        "write_pruning_report",
        lambda told, at, refresh: (live.append((told, refresh)), write(told, at, refresh)),
    )
    before = cost(load(model))
    out = tmp_path / "small.safetensors"
    code, text, err = run(
        capsys, str(model), "--target-macs", str(int(0.85 * before.macs)), "--epochs", "1",
        "-o", str(out), "--json", "--live", "--every", "1", *flags(tiny_folder),
    )  # fmt: skip
    assert code == 0, err
    answer = json.loads(text)
    assert answer["reached"] and answer["after"]["macs"] <= 0.85 * before.macs
    pruned = load(out)
    assert cost(pruned).macs == answer["after"]["macs"]
    assert answer["after"]["heldout"]["delta1"] > 0.3
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 48)).astype(np.float32)
    session = onnxruntime.InferenceSession(out.with_suffix(".onnx"))
    (depth,) = session.run(None, {"image": image})
    with torch.no_grad():
        wanted = pruned(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(depth, wanted, rtol=1e-3)
    assert not (tmp_path / ".small.prune").exists()
    assert err.count(" -> ") == len(answer["iterations"])
    page = out.with_suffix(".html").read_text("utf-8")
    assert "is met" in page and "refresh" not in page
    # There were pages on the way, of what was known by then.
    assert live and {refresh for _, refresh in live} == {1}
    assert all(told["before"]["macs"] == before.macs and told["running"] for told, _ in live)
    assert "small.html: written again every 1 s" in err


def test_a_latency_is_met_by_measurement(capsys, model, tiny_folder, tmp_path):
    code, text, err = run(
        capsys, str(model), "--target-latency", "1000ms", "--json", *flags(tiny_folder)
    )
    assert code == 0, err
    answer = json.loads(text)
    assert answer["nothing_to_do"] and answer["model"] is None
    have = answer["before"]["latency"]["median_ms"]
    code, text, err = run(
        capsys, str(model), "--target-latency", f"{0.9 * have:.4f}ms", "--epochs", "0", "--json",
        "-o", str(tmp_path / "fast.safetensors"), *flags(tiny_folder),
    )  # fmt: skip
    answer = json.loads(text)
    # Tests share the machine with others: a refusal is as good an answer, if it is an honest one.
    assert answer["reached"] == (answer["after"]["latency"]["high_ms"] <= 0.9 * have)
    assert code == (0 if answer["reached"] else 2)
    assert answer["predictions"]


def test_a_target_that_cannot_be_reached_keeps_the_best(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_least_nets.py").write_text(USER)
    code, _, err = run(
        capsys, "my_least_nets:make_net", "--size", "24x24", "--evaluate", "my_least_nets:score",
        "--target-params", "100", "--step", "0.3", "-o", "least.safetensors",
    )  # fmt: skip
    assert code == 2 and "was not reached" in err and "least.safetensors" in err
    least = load_pruned("least.safetensors", "my_least_nets:make_net")
    assert [part.out_channels for part in least if hasattr(part, "out_channels")] == [8, 8, 1]


def test_at_once(capsys, model, tiny_folder, tmp_path):
    before = cost(load(model))
    code, text, err = run(
        capsys, str(model), "--target-params", str(before.params // 2), "--method", "depgraph",
        "--epochs", "1", "-o", str(tmp_path / "d.safetensors"), "--json", *flags(tiny_folder),
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(text)["after"]["params"] <= before.params // 2


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "bn-scale"])
def test_a_share_of_all_channels_at_once(capsys, model, tiny_folder, tmp_path, importance):
    before, out = cost(load(model)), tmp_path / "r.safetensors"
    code, text, err = run(
        capsys, str(model), "--ratio", "0.25", "--method", "depgraph", "--importance", importance,
        "--epochs", "0", "-o", str(out), "--json", *flags(tiny_folder),
    )  # fmt: skip
    assert code == 0, err
    answer = json.loads(text)
    assert answer["target"] == {"ratio": 0.25} and answer["reached"]
    after = cost(load(out))
    assert after.params == answer["after"]["params"] < 0.9 * before.params
    widths, kept = answer["before"]["widths"], answer["after"]["widths"]
    # Every layer of 16 channels or more loses a quarter of them, none falls below 8.
    assert any(kept[path] == widths[path] * 3 // 4 for path in widths if widths[path] >= 16)
    assert all(kept[path] >= min(8, widths[path]) for path in widths)


def test_a_network_of_the_users_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_nets_for_pruning.py").write_text(USER)
    words = ["my_nets_for_pruning:make_net", "--size", "24x24", "--target-macs", "2M"]
    code, _, err = run(capsys, *words)
    assert code == 2 and "needs --evaluate" in err
    code, _, err = run(capsys, *words, "--evaluate", "my_nets_for_pruning:broken")
    assert code == 2 and "no data here" in err and err.count("\n") == 1
    code, text, err = run(
        capsys,
        *words,
        "--evaluate",
        "my_nets_for_pruning:score",
        "-o",
        "mine.safetensors",
        "--json",
    )
    assert code == 0, err
    assert json.loads(text)["after"]["macs"] <= 2e6
    pruned = load_pruned("mine.safetensors", "my_nets_for_pruning:make_net")
    assert pruned(torch.rand(1, 3, 24, 24)).shape == (1, 1, 24, 24)


def test_kill_9_between_two_iterations_loses_nothing(model, tiny_folder, tmp_path):
    target = str(int(0.85 * cost(load(model)).macs))

    def command(out: str) -> list[str]:
        return [
            sys.executable, "-m", "compress", "prune", str(model), "--target-macs", target,
            "--epochs", "0", "-o", str(tmp_path / out), "--json", *flags(tiny_folder),
        ]  # fmt: skip

    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(command("a.safetensors"), capture_output=True, text=True, env=env)
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen(command("b.safetensors"), stderr=subprocess.PIPE, text=True, env=env)
    for line in killed.stderr:
        if " -> " in line:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    rest = subprocess.run(command("b.safetensors"), capture_output=True, text=True, env=env)
    assert rest.returncode == 0, rest.stderr
    assert "going on after" in rest.stderr
    first, second = (json.loads(r.stdout)["iterations"] for r in (whole, rest))
    assert [(s["layer"], s["after"]) for s in first] == [(s["layer"], s["after"]) for s in second]
    weights = [load(tmp_path / f"{n}.safetensors").state_dict() for n in "ab"]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "0 targets are given"),
        (["--target-macs", "1M", "--target-params", "1M"], "2 targets are given"),
        (["--target-latency", "fast"], "write milliseconds"),
        (["--ratio", "0.5"], "--ratio goes with --method depgraph"),
        (["--ratio", "1.5", "--method", "depgraph"], "a share of channels below 1"),
        (["--target-params", "10", "--importance", "size"], "taylor"),
        (["--target-params", "10", "--method", "magic"], "netadapt"),
        (["--target-latency", "0.01ms", "--backend", "onnx"], "did you mean onnxruntime"),
        (["--target-params", "10", "--evaluate", "a:b"], "goes with module:function"),
        (["--target-params", "10", "--weights", "w.pth"], "--weights goes with module:function"),
        (["--target-params", "10", "--data", "folder:none"], "there is no such folder"),
    ],
)
def test_mistakes_are_one_line(capsys, model, tmp_path, words, said):
    code, out, err = run(capsys, str(model), "-o", str(tmp_path / "x.safetensors"), *words)
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1
