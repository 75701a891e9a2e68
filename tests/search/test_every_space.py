"""Every shipped space can be searched, and what a search saves can be opened and used."""

from __future__ import annotations

import numpy as np
import pytest

from compress.cost import cost
from compress.models import load
from compress.search import search
from compress.search.records import records
from compress.search.store import find_study
from compress.space import load_space, space_names
from compress.train import evaluate, predict


@pytest.mark.parametrize("name", [n for n in space_names() if n != "depthnet-nano"])
def test_a_study_of_each_space(name, tiny_folder, tmp_path):
    # The folder has no class maps: where a space offers segmentation heads, the others are left.
    result = search(
        study="s", space=name, data=f"folder:{tiny_folder}", out=tmp_path, size=(32, 48),
        delta1=0.01, trials=1, epochs=1, final_epochs=1, workers=1, training={"batch": 8},
    )  # fmt: skip
    assert result.best is not None
    (row,) = records(find_study("s", tmp_path, None))
    # The space's own small network is tried first.
    assert row.hash == load_space(name).reference("small").hash
    model = load(result.best["model"])
    assert cost(model).params == row.params == result.best["params"]
    again = evaluate(model, f"folder:{tiny_folder}")
    assert again["delta1"] == pytest.approx(result.best["heldout"]["delta1"], abs=1e-6)
    depth_m = predict(model, np.zeros((40, 50, 3), np.uint8))
    assert depth_m.shape == (40, 50) and (depth_m > 0).all()
