"""The command line as a user types it: answers, mistakes, and nothing else on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compress
from compress.cli import main
from compress.metrics import METRICS
from compress.models import save
from compress.space import load_space


@pytest.fixture(scope="module")
def model(tiny_space, tmp_path_factory) -> Path:
    net = compress.build(load_space(tiny_space).sample(0), seed=0)
    return save(net, tmp_path_factory.mktemp("model") / "m.safetensors")


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_json(capsys, *words: str) -> dict:
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


class TestHelp:
    """Help is quick and has examples."""

    def test_help_needs_no_torch(self):
        code = (
            "import sys\n"
            "from compress.cli import main\n"
            "try: main(['--help'])\n"
            "except SystemExit: pass\n"
            "assert not {'torch', 'optuna', 'numpy', 'rich'} & set(sys.modules), 'slow import'\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "example:" in done.stdout

    @pytest.mark.parametrize(
        "name",
        [
            "search",
            "report",
            "train",
            "distill",
            "label",
            "evaluate",
            "predict",
            "cost",
            "bench",
            "spaces",
            "data",
        ],
    )
    def test_every_command_has_an_example(self, capsys, name):
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert f"example:\n  compress {name}" in out

    def test_version(self, capsys):
        code, out, _ = run(capsys, "--version")
        assert (code, out.strip()) == (0, f"compress {compress.__version__}")


class TestCost:
    """Counts of references, files and genotypes agree."""

    def test_reference(self, capsys):
        told = one_json(capsys, "cost", "depthnet-nano@nyu", "--size", "480x640", "--json")
        assert {"params", "macs", "macs_all"} <= set(told)
        assert told["params"] == pytest.approx(3.46e6, rel=0.015)
        assert told["macs"] == pytest.approx(4.4e9, rel=0.015)
        assert told == one_json(capsys, "cost", "depthnet-nano@nyu", "--json")

    def test_model_and_genotype_files_agree(self, capsys, model, tiny_space, tmp_path):
        path = tmp_path / "g.json"
        path.write_text(load_space(tiny_space).sample(0).to_json())
        a = one_json(capsys, "cost", str(model), "--size", "33x47", "--json")
        assert a == one_json(capsys, "cost", str(path), "--size", "33x47", "--json")

    def test_people_get_the_convention_too(self, capsys):
        _, out, _ = run(capsys, "cost", "depthnet-nano@kitti")
        assert "multiply-adds of convolutions" in out


def test_spaces(capsys):
    told = one_json(capsys, "spaces", "--json")
    assert {"nyu", "kitti"} <= set(told["depthnet-nano"]["references"])
    _, out, _ = run(capsys, "spaces")
    assert "depthnet-nano@kitti" in out


class TestEvaluate:
    """Figures and their protocol."""

    def test_json(self, capsys, model, tiny_folder):
        told = one_json(capsys, "evaluate", str(model), "--data", f"folder:{tiny_folder}", "--json")
        assert set(METRICS) | {"images", "protocol"} <= set(told)
        assert told["images"] == 8
        assert told["protocol"]["averaging"] == "per-image"

    def test_protocol_flags_reach_the_protocol(self, capsys, model, tiny_folder):
        told = one_json(
            capsys, "evaluate", str(model), "--data", f"folder:{tiny_folder}", "--json", "--crop",
            "garg", "--flip", "--averaging", "pooled", "--cap", "5", "--size", "48x64",
        )["protocol"]  # fmt: skip
        assert (told["crop"], told["flip_average"], told["averaging"]) == ("garg", True, "pooled")
        assert (told["cap_m"], told["size"]) == (5.0, [48, 64])

    def test_depth_scale_changes_the_truth(self, capsys, model, tiny_folder):
        data = f"folder:{tiny_folder}"
        a = one_json(capsys, "evaluate", str(model), "--data", data, "--json")
        b = one_json(
            capsys, "evaluate", str(model), "--data", data, "--json", "--depth-scale", "2000"
        )
        assert a["rmse"] != pytest.approx(b["rmse"])


class TestPredict:
    """A depth map of the image's own size."""

    def test_png_and_npy_agree(self, capsys, model, tmp_path):
        photo = tmp_path / "photo.jpg"
        rgb = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(photo)
        told = one_json(capsys, "predict", str(model), str(photo), "--json")
        assert told["depth"] == str(tmp_path / "photo-depth.png")
        png = np.asarray(Image.open(told["depth"]))
        npy = tmp_path / "d.npy"
        preview = tmp_path / "p.png"
        one_json(
            capsys, "predict", str(model), str(photo), "-o", str(npy), "--json", "--preview",
            str(preview),
        )  # fmt: skip
        depth_m = np.load(npy)
        assert png.shape == depth_m.shape == (50, 70)
        np.testing.assert_allclose(png / 1000, depth_m, atol=6e-4)
        assert told["median_m"] == pytest.approx(float(np.median(depth_m)), rel=1e-4)
        assert Image.open(preview).size == (70, 50)


class TestTrainAndSearch:
    """From images to a network, through the commands alone."""

    def test_train_then_evaluate(self, capsys, tiny_folder, tiny_space, tmp_path):
        genotype = tmp_path / "g.json"
        genotype.write_text(load_space(tiny_space).sample(0).to_json())
        out = tmp_path / "net.safetensors"
        data = f"folder:{tiny_folder}"
        told = one_json(
            capsys,
            "train",
            str(genotype),
            "--data",
            data,
            "--epochs",
            "2",
            "-o",
            str(out),
            "--json",
        )
        assert told["model"] == str(out)
        again = one_json(capsys, "evaluate", str(out), "--data", data, "--json")
        assert again["delta1"] == told["heldout"]["delta1"]

    def test_search_report_and_exit_codes(self, capsys, tiny_folder, tiny_space, tmp_path):
        words = [
            "search", "--space", str(tiny_space), "--data", f"folder:{tiny_folder}", "--size",
            "32x48", "--trials", "1", "--epochs", "2", "--final-epochs", "2", "--workers", "1",
            "--out", str(tmp_path), "--json", "--study",
        ]  # fmt: skip
        told = one_json(capsys, *words, "good", "--delta1", "0.05")
        assert set("study trials refused best report".split()) <= set(told)
        assert set("model params macs delta1 netscore".split()) <= set(told["best"])
        assert isinstance(told["refused"], int)
        code, out, _ = run(capsys, *words, "bad", "--delta1", "0.9999")
        assert code == 1
        assert json.loads(out)["best"] is None
        code, out, _ = run(
            capsys, *[w for w in words if w != "--json"], "bad", "--delta1", "0.9999"
        )
        assert code == 1
        assert "no network passed the gates; the nearest miss is candidate 0" in out
        page = one_json(capsys, "report", "good", "--out", str(tmp_path), "--json")
        assert Path(page["report"]).is_file()
        assert Path(page["csv"]).is_file()

    def test_nothing_but_json_on_stdout_and_no_colour_codes_in_a_pipe(
        self, tiny_folder, tiny_space, tmp_path
    ):
        done = subprocess.run(
            [
                sys.executable, "-m", "compress", "search", "--space", str(tiny_space), "--data",
                f"folder:{tiny_folder}", "--size", "32x48", "--trials", "1", "--epochs", "1",
                "--final-epochs", "1", "--delta1", "0.01", "--workers", "1", "--out",
                str(tmp_path), "--json",
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        json.loads(done.stdout)
        assert "\x1b" not in done.stdout + done.stderr
        assert "Warning" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search --budget 5X", "5X"),
        ("search --budget -1", "-1"),
        ("search --budget 0", "above 0"),
        ("search --space depthnet-nani", "did you mean depthnet-nano"),
        ("search --sampler tpo", "did you mean tpe"),
        ("search --data scnes", "did you mean scenes"),
        ("search --data folder:/none", "no such folder"),
        ("search --delta1 81", "below 1"),
        ("search --size 96", "HEIGHTxWIDTH"),
        ("search --trials 0", "trials = 0"),
        ("search --workers 0", "--workers 0"),
        ("search --recipe demmo", "did you mean demo"),
        ("serch", "did you mean search"),
        ("report demo --out /nowhere", "unknown study 'demo'"),
        ("cost depthnet-nano@nyuu", "did you mean nyu"),
        ("cost none.safetensors", "no such model file"),
        ("cost none.json", "none.json"),
        ("evaluate none.safetensors", "no such model file"),
        ("train depthnet-nano@nyu --epochs 0", "epochs = 0"),
        ("train depthnet-nano@nyu --data nyu:/none", "/none"),
    ],
)
def test_mistakes_get_one_line_and_exit_2(capsys, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *words.split())
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("reports/*"))


def test_an_image_that_is_none(capsys, model, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_text("no image")
    code, _, err = run(capsys, "predict", str(model), str(path))
    assert code == 2
    assert "photo.jpg: not an image" in err
    assert not (tmp_path / "photo-depth.png").exists()
    Image.new("RGB", (8, 8)).save(path)
    code, _, err = run(capsys, "predict", str(model), str(path), "-o", str(tmp_path / "d.exr"))
    assert code == 2
    assert ".npy" in err


def test_debug_shows_the_traceback():
    with pytest.raises(compress.CompressError):
        main(["cost", "none.safetensors", "--debug"])


def test_the_python_interface_has_the_promised_names():
    for name in (
        "load_space build cost search train evaluate save load netscore depth_metrics predict"
    ).split():
        assert callable(getattr(compress, name)), name
    assert compress.netscore(100, 1e6, 1e9) == pytest.approx(28)
    genotype = compress.load_space("depthnet-nano").sample(0)
    assert compress.cost(genotype).params == compress.cost(compress.build(genotype)).params
    scores = compress.depth_metrics(np.ones(3), np.ones(3))
    assert scores["delta1"] == 1.0
    with pytest.raises(AttributeError, match="nothing"):
        _ = compress.nothing
