"""A model file as something to compare a study with."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from compress.cost import cost
from compress.errors import CompressError
from compress.models import build, save
from compress.report.overlay import model_findings
from compress.space import load_space

GENOTYPE = replace(load_space("depthnet-nano").reference("tiny"), size=(64, 96))


def test_a_saved_model_is_a_study_of_one_trial(tmp_path):
    model = build(GENOTYPE, seed=0)
    model.info = {
        "validation": {"metrics": {"delta1": 0.71, "rmse": 0.4}, "protocol": {}},
        "heldout": {"delta1": 0.69},
    }
    path = tmp_path / "<b>mine.safetensors"
    save(model, path)
    found = model_findings(path)
    (row,) = found.rows
    size = cost(GENOTYPE)
    assert (row.params, row.macs, row.delta1) == (size.params, size.macs, 0.71)
    assert found.front("macs") == [row] == [found.winner] and found.name == path.name
    assert model_findings(path, (96, 128)).rows[0].macs == cost(GENOTYPE, (96, 128)).macs
    model.info = {"heldout": {"delta1": 0.69}}
    save(model, path)
    assert model_findings(path).rows[0].delta1 == 0.69


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"genotype": GENOTYPE.to_json(), "info": "{}"}, "holds no d1"),
        ({"genotype": GENOTYPE.to_json(), "info": "[3]"}, "holds no d1"),
        ({"genotype": "{}"}, "not a genotype"),
        ({}, "no model of compress"),
        ({"genotype": GENOTYPE.to_json(), "info": "{"}, "no model of compress"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(tmp_path, header, said):
    path = tmp_path / "x.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, path, metadata=header)
    with pytest.raises(CompressError, match=said) as error:
        model_findings(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_no_file_and_no_safetensors(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CompressError, match="no model of compress"):
            model_findings(path)
    (tmp_path / "text.safetensors").write_text(json.dumps({"a": 1}))
    with pytest.raises(CompressError, match="no model of compress"):
        model_findings(tmp_path / "text.safetensors")
