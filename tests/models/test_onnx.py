from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.models import build
from compress.space import load_space, space_names

onnxruntime = pytest.importorskip("onnxruntime")
EXPORTER = "torch.onnx._internal.torchscript_exporter.onnx_proto_utils"


@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("space", space_names())
def test_onnx_agrees_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: str, seed: int, size: tuple[int, int]
) -> None:
    if importlib.util.find_spec("onnx") is None:
        # The exporter asks for it to add functions that a model brings along; ours brings none.
        monkeypatch.setattr(f"{EXPORTER}._add_onnxscript_fn", lambda model, functions: model)
    model = build(load_space(space).sample(seed), seed=0).eval()
    model.centre_on(1.0)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is the older one
        torch.onnx.export(
            model, (x,), path, input_names=["image"], output_names=["depth_m"], dynamo=False
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (depth,) = session.run(["depth_m"], {"image": x.numpy()})
    with torch.no_grad():
        wanted = model(x).numpy()
    assert depth.shape == wanted.shape == (1, 1, *size)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(depth, wanted, rtol=1e-4, atol=1e-4)
