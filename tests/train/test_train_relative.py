"""Training and scoring on data that knows no metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data import open_data
from compress.errors import CompressError
from compress.search import search
from compress.space import load_space
from compress.train import evaluate, train


def picture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image whose brightness tells its depth, rows at random."""
    rows = rng.permutation(np.linspace(1, 5, 8)).repeat(4)
    depth = np.repeat(rows[:, None], 48, 1)
    rgb = np.stack([255 * (1 - depth / 6)] * 3, -1) + rng.normal(0, 2, (32, 48, 3))
    return rgb.clip(0, 255).astype(np.uint8), depth


@pytest.fixture(scope="module")
def diw(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("diw")
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 20)):
        lines = []
        for index in range(count):
            rgb, depth = picture(rng)
            Image.fromarray(rgb).save(root / f"{part}{index}.png")
            for _ in range(6):
                (ya, yb), (xa, xb) = rng.integers(0, 32, 2), rng.integers(0, 48, 2)
                if depth[ya, xa] == depth[yb, xb]:
                    continue
                order = ">" if depth[ya, xa] > depth[yb, xb] else "<"
                lines += [
                    f"{part}{index}.png",
                    f"{ya + 1},{xa + 1},{yb + 1},{xb + 1},{order},48,32",
                ]
        (root / f"DIW_{part}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def redweb(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("redweb")
    (root / "Imgs").mkdir()
    (root / "RDs").mkdir()
    rng = np.random.default_rng(1)
    for index in range(40):
        rgb, depth = picture(rng)
        Image.fromarray(rgb).save(root / f"Imgs/{index:03}.jpg", quality=95)
        Image.fromarray((250 - 250 / depth).astype(np.uint8)).save(root / f"RDs/{index:03}.png")
    return root


def test_order_is_learnt_from_ordered_pairs(tiny_space, diw):
    genotype = load_space(tiny_space).sample(1)
    done = train(genotype, f"diw:{diw}", size=(32, 48), recipe={"batch": 8}, epochs=15)
    assert set(done.heldout.metrics) == {"whdr"}
    assert done.heldout["whdr"] < 0.15  # guessing is .5
    again = evaluate(done.model, f"diw:{diw}")
    assert again["whdr"] == done.heldout["whdr"]


def test_relative_maps_are_learnt_up_to_scale(tiny_space, redweb):
    genotype = load_space(tiny_space).sample(1)
    done = train(genotype, f"redweb:{redweb}", size=(32, 48), recipe={"batch": 8}, epochs=15)
    assert done.heldout.protocol.alignment == "median"
    assert done.model.info["recipe"]["loss"] == "si-mse-grad"
    data = open_data(f"redweb:{redweb}")
    spread = np.mean([np.log(s.depth_m[s.depth_m > 0]).std() for s in data.heldout])
    assert done.heldout["si_rmse"] < 0.6 * spread  # of a constant map


def test_no_search_without_metres(diw, tiny_space, tmp_path):
    with pytest.raises(CompressError, match="no d1 gate can be set"):
        search(space=str(tiny_space), data=f"diw:{diw}", out=tmp_path)
