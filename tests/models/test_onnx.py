"""Every family's networks as ONNX files: what ONNX Runtime computes is what torch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from members import EACH_MEMBER, EACH_SPACE, ready

from compress.export import export_onnx
from compress.models import DepthNet
from compress.space import Genotype


def compare(model: DepthNet, path: Path, size: tuple[int, int]) -> None:
    model.centre_on(1.0)
    export_onnx(model, path, size, check=False)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = [session.run(["depth_m"], {"image": x[None].numpy()})[0] for x in images]
    assert [depth.shape for depth in given] == [(1, 1, *size)] * 2
    depth = np.concatenate(given)
    with torch.no_grad():
        wanted = model(images).numpy()
    # Untrained, some differ by little from the depth they are centred on: that little must agree.
    # (Of an image of 16x16, the smallest have one value.)
    varied = wanted.std()
    assert varied > 5e-5
    np.testing.assert_allclose(depth, wanted, rtol=0, atol=min(1e-4, 0.05 * varied))


@EACH_MEMBER
def test_onnx_agrees_with_torch(tmp_path: Path, genotype: Genotype) -> None:
    compare(ready(genotype), tmp_path / "model.onnx", (33, 47))


@EACH_SPACE
def test_onnx_of_the_smallest_size(tmp_path: Path, genotype: Genotype) -> None:
    compare(ready(genotype), tmp_path / "model.onnx", (16, 16))
