"""``compress bench`` as a user types it; no time is asserted."""

from __future__ import annotations

import json

import pytest

import compress
from compress.cli import main
from compress.cli.measuring import _compared
from compress.cost.timing import Ratio
from compress.models import save
from compress.space import load_space

QUICK = ("--runs", "10", "--size", "32x48")


@pytest.fixture(scope="module")
def networks(tiny_space, tmp_path_factory) -> tuple[str, str]:
    """A model file, and a genotype that is built with random weights."""
    folder = tmp_path_factory.mktemp("networks")
    space = load_space(tiny_space)
    genotype = folder / "g.json"
    genotype.write_text(space.sample(1).to_json())
    return str(save(compress.build(space.sample(0), seed=0), folder / "m.safetensors")), str(
        genotype
    )


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(["bench", *words])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_tells(capsys, networks):
    code, out, err = run(capsys, *networks, *QUICK)
    assert (code, err) == (0, "")
    model, genotype = networks
    assert out.startswith("onnxruntime, 1 thread; processor ")
    assert f"\n{model} at 32x48\n" in out
    assert f"\n{genotype} at 32x48 (random weights: latency does not depend on them)\n" in out
    for word in (
        "median",
        "95 % interval",
        "spread",
        "images/s",
        "MB at peak",
        "energy",
        "verdict",
    ):
        assert out.count(word) >= 2, word
    assert out.splitlines()[-1].startswith(genotype) and f"{model}" in out.splitlines()[-1]


def test_json(capsys, networks):
    model, genotype = networks
    code, out, err = run(
        capsys, model, "--against", genotype, "--backend", "torch", "--preset", "mobiledepth",
        *QUICK, "--json",
    )  # fmt: skip
    assert (code, err, out.count("\n")) == (0, "", 1)
    told = json.loads(out)
    assert list(told["models"]) == [genotype, model] and told["against"] == genotype
    assert set(told["speedups"]) == {model}
    assert set(told["speedups"][model]) == {"ratio", "low", "high"}
    one = told["models"][model]
    assert (one["backend"], one["threads"], one["size"]) == ("torch", 1, [32, 48])
    assert (one["preset"], one["image"], one["runs"]) == ("mobiledepth", "zeros", 10)
    assert one["low_ms"] <= one["median_ms"] <= one["high_ms"]
    assert isinstance(one["noisy"], bool) and one["power_sensor"]
    assert [told["models"][name]["random_weights"] for name in (model, genotype)] == [False, True]
    assert one["peak_memory_mb"] > 0 or one["notes"]


def test_against_itself(capsys, networks):
    model = networks[0]
    told = json.loads(run(capsys, model, model, *QUICK, "--json")[1])
    assert list(told["models"]) == [model, f"{model} (2)"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "onnxruntim"], "did you mean onnxruntime?"),
        (["--preset", "mobiledept"], "did you mean mobiledepth?"),
        (["--threads", "0"], "threads 0"),
        (["--size", "9"], "no input size"),
        (["--runs", "1"], "runs 1: an interval needs 10 or more"),
        (["--seconds", "-1"], "give more than 0"),
        (["--against", "nowhere.safetensors"], "nowhere.safetensors: there is no such model file"),
    ],
)
def test_mistakes_are_one_line(capsys, networks, words, said):
    code, out, err = run(capsys, networks[0], *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_help_names_the_backends(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "example:\n  compress bench" in out
    assert all(name in out for name in ("onnxruntime", "openvino", "torch-compile", "cuda"))


def test_words_of_a_comparison():
    assert (
        _compared("b", Ratio(2.0, 1.9, 2.1), "a") == "b is 2.000 [1.900, 2.100] times as fast as a"
    )
    assert _compared("b", Ratio(0.5, 0.4, 0.8), "a") == (
        "b takes 2.000 [1.250, 2.500] times as long as a"
    )
    assert "cannot be told apart" in _compared("b", Ratio(1.0, 0.9, 1.1), "a")
