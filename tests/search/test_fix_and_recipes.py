"""Choices given on the command line, whole grids, and the recipes that are shipped."""

from __future__ import annotations

import pytest

from compress.errors import CompressError
from compress.search import search
from compress.search.config import SearchConfig, read_fixed, read_recipe, recipe_names
from compress.search.records import records
from compress.search.store import find_study
from compress.space import load_space, parse_reference
from compress.train import Recipe

# Which reference each paper's recipe trains.
TRAINED = {
    "depthnet-nano-nyu": "depthnet-nano@nyu",
    "depthnet-nano-kitti": "depthnet-nano@kitti",
    "mobiledepth-nyu": "mobiledepth@paper",
    "light-shuffle-kitti": "light-shuffle@paper",
    "sparse-mobile-diw": "sparse-mobile@paper",
    "resnet-depth-kitti": "resnet-depth@paper",
}


def test_the_papers_recipes_are_there():
    assert TRAINED.keys() <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read_to_the_last_word(name):
    config = SearchConfig.from_dict(read_recipe(name), name)
    Recipe.from_dict(config.training, name)
    space = load_space(config.space).restricted(config.fix)
    assert space.cardinality >= 1
    if name in TRAINED:
        genotype = parse_reference(TRAINED[name])
        assert genotype.family == space.family
        if config.size:
            assert genotype.size == config.size


def test_a_grid_is_trained_whole_without_early_stopping(tiny_space, tiny_folder, tmp_path):
    fix = {"stem": 4, "neck": 8, "norm": ["projection", "all"], "stage1.modules": 1,
           "stage1.width_first": 4, "stage1.transition": 8, "stage2.modules": 1,
           "stage2.width_first": 4, "up3.b": 8, "up4": {"b": [6, 8]}}  # fmt: skip
    result = search(
        study="grid", space=str(tiny_space), data=f"folder:{tiny_folder}", out=tmp_path,
        size=(32, 48), delta1=0.05, epochs=4, final_epochs=4, workers=1, trials=9,
        sampler="random", early_stop=False, fix=fix,
    )  # fmt: skip
    rows = records(find_study("grid", tmp_path, None))
    assert result.trials == 4 and [row.state for row in rows] == ["complete"] * 4
    assert len({row.hash for row in rows}) == 4
    assert "What each choice did" in (tmp_path / "grid" / "index.html").read_text()
    specs = [row.open_genotype().spec for row in rows]
    assert all(spec["stem"] == 4 for spec in specs)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        ({"sten": 4}, "did you mean stem"),
        ({"stem": 5000}, "stem: 5000 is not allowed"),
        ({"stem": []}, "stem"),
    ],
)
def test_wrong_choices_are_answered(tiny_space, tiny_folder, tmp_path, fix, said):
    with pytest.raises(CompressError, match=said):
        search(space=str(tiny_space), data=f"folder:{tiny_folder}", out=tmp_path, fix=fix)


@pytest.mark.parametrize("text", ["stem", "=3", "stem=", ""])
def test_fix_needs_key_and_value(text):
    with pytest.raises(CompressError, match="write KEY=VALUE"):
        read_fixed([text])
