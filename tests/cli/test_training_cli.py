"""train, distill, label and predict of networks with more than one answer, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from compress.cli import main
from compress.models import build, load, save
from compress.space import load_space, parse_reference


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def genotype(tiny_space, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genotype") / "g.json"
    path.write_text(load_space(tiny_space).sample(1).to_json())
    return path


@pytest.fixture
def teacher(tiny_space, tmp_path) -> Path:
    return save(build(load_space(tiny_space).sample(2), seed=0), tmp_path / "t.safetensors")


RECIPE = """
space = "depthnet-nano"
data = "folder:{data}"
size = [32, 48]
final_epochs = 2
[training]
batch = 8
loss = "berhu"
augment = {{ flip = 0.25 }}
"""


def test_train_takes_a_recipe_and_flags_over_it(capsys, genotype, tiny_folder, tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.format(data=tiny_folder))
    out = tmp_path / "m.safetensors"
    code, text, err = run(
        capsys, "train", str(genotype), "--recipe", str(recipe), "--lr", "1e-3", "-o", str(out),
        "--json",
    )  # fmt: skip
    assert code == 0, err
    answer = json.loads(text)
    assert answer["epochs"] == 2 and answer["model"] == str(out)
    info = load(out).info["recipe"]
    assert (info["loss"], info["lr"], info["epochs"], info["augment"]["flip"]) == (
        "berhu", 1e-3, 2, 0.25,
    )  # fmt: skip
    assert info["augment"]["zoom"] == 0.6  # the data's custom, where the recipe says nothing


def test_distill_then_go_on_from_the_student(capsys, genotype, teacher, tiny_folder, tmp_path):
    student = tmp_path / "student.safetensors"
    common = ["--data", f"folder:{tiny_folder}", "--size", "32x48", "--batch", "8"]
    code, out, err = run(
        capsys, "distill", str(genotype), "--teacher", str(teacher), "--truth", "0",
        "--adversarial", "0.1", "--compensate", "--epochs", "1", "-o", str(student), *common,
    )  # fmt: skip
    assert code == 0, err
    assert "saved to" in out and "delta1" in out
    info = load(student).info
    assert info["teacher"]["compensated"] is True
    assert info["recipe"]["terms"] == {"depth": 0.0, "adversarial": 0.1}
    last = tmp_path / "last.safetensors"
    code, _, err = run(
        capsys, "train", str(genotype), "--init", str(student), "--epochs", "1", "-o", str(last),
        *common,
    )  # fmt: skip
    assert code == 0, err
    assert load(last).info["init"]["left"] == 0


def test_label_makes_a_folder(capsys, teacher, tiny_folder, tmp_path):
    images = tmp_path / "photos"
    images.mkdir()
    for file in sorted(tiny_folder.glob("00?.png")):
        (images / file.name).write_bytes(file.read_bytes())
    code, out, err = run(
        capsys, "label", str(images), "--teacher", str(teacher), "--to", str(tmp_path / "out"),
        "--calibrate", f"folder:{tiny_folder}",
    )  # fmt: skip
    assert code == 0, err
    assert "9 training and 1 held-out images labelled" in out and "on average" in out


def test_predict_writes_the_class_map_of_a_joint_network(capsys, tiny_folder, tmp_path):
    genotype = parse_reference("light-shuffle@small")
    joint = type(genotype)(genotype.family, {**genotype.spec, "segmentation": 7}, (32, 48))
    model = save(build(joint, seed=0), tmp_path / "joint.safetensors")
    image = str(tiny_folder / "000.png")
    map_ = tmp_path / "classes.png"
    words = ["predict", str(model), image, "-o", str(tmp_path / "d.png")]
    code, _, err = run(capsys, *words, "--classes", str(map_))
    assert code == 0, err
    with Image.open(map_) as picture:
        assert picture.size == (48, 32) and max(picture.get_flattened_data()) < 7
    code, _, err = run(capsys, *words, "--classes", "map.jpg")
    assert code == 2 and "write a .png" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "GENOTYPE", "--recipe", "nope"], "unknown recipe 'nope'"),
        (["train", "GENOTYPE", "--rebalance", "up"], "hard-to-easy"),
        (["train", "GENOTYPE", "--encoder-weights", "w.pth"], "encoder"),
        (["train", "GENOTYPE", "--encoder-norm", "imagenett"], "did you mean imagenet"),
        (["train", "TEACHER", "--init", "TEACHER"], "starts from its own weights"),
        (["distill", "GENOTYPE", "--teacher", "none.safetensors"], "there is no such model file"),
        (["distill", "GENOTYPE", "--teacher", "TEACHER", "--pixel", "-1"], "pixel = -1"),
        (["train", "fastdepth@orignal"], "did you mean original"),
        (["label", "none", "--teacher", "TEACHER"], "is no folder of images"),
        (["search", "--fix", "stem"], "write KEY=VALUE"),
        (["search", "--space", "fastdepth", "--fix", "encoder.0=9999"], "9999 is not allowed"),
    ],
)
def test_mistakes_are_one_line(capsys, genotype, teacher, tiny_folder, tmp_path, words, said):
    names = {"GENOTYPE": str(genotype), "TEACHER": str(teacher)}
    words = [names.get(word, word) for word in words]
    if words[0] != "label":
        words += ["--data", f"folder:{tiny_folder}"]
    if words[0] == "search":
        words += ["--out", str(tmp_path)]
    else:
        words += (
            ["--to", str(tmp_path / "x")]
            if words[0] == "label"
            else ["-o", str(tmp_path / "x.safetensors")]
        )
    code, out, err = run(capsys, *words)
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1
