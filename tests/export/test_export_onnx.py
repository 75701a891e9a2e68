"""An exported network computes what torch computes, or is not written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import compress
from compress.errors import CompressError
from compress.export import export_onnx, write_onnx
from compress.space import load_space, space_names


def folded() -> nn.Module:
    """Convolutions with batch norms whose statistics are not the initial ones."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SELU())
    nn.init.normal_(net[1].running_mean)
    nn.init.uniform_(net[1].running_var, 0.5, 2.0)
    return net


@pytest.mark.parametrize("space", space_names())
def test_agrees_with_torch(tmp_path, space):
    model = compress.build(load_space(space).sample(7), seed=0).train()
    model.centre_on(1.0)
    model.add_auxiliary()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    done = export_onnx(model, tmp_path / "m.onnx", (64, 96))
    assert done.path == tmp_path / "m.onnx" and done.size == (64, 96)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    (image,), (depth,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.shape, image.type) == ("image", [1, 3, 64, 96], "tensor(float)")
    assert (depth.name, depth.shape) == ("depth_m", [1, 1, 64, 96])
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        wanted = model.eval()(x).numpy()
    assert wanted.std() > 1e-3
    (got,) = session.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
    assert 0 <= done.max_abs_difference <= 1e-3 * 2 * wanted.max()


def test_says_what_goes_in_and_comes_out(tmp_path, tiny_space):
    model = compress.build(load_space(tiny_space).sample(0), seed=0)
    done = export_onnx(model, tmp_path / "m.onnx")
    assert done.size == model.size == (32, 48)
    graph = onnx.load(done.path)
    onnx.checker.check_model(graph)
    notes = {one.key: one.value for one in graph.metadata_props}
    assert json.loads(notes["normalisation"]) == {"mean": [127.5] * 3, "std": [127.5] * 3}
    assert notes["depth_m"] == "metres"


def test_batch_norm_is_folded(tmp_path):
    done = export_onnx(folded(), tmp_path / "m.onnx", "32x48")
    nodes = [node.op_type for node in onnx.load(done.path).graph.node]
    assert nodes == ["Conv", "Selu"]
    assert done.max_abs_difference < 1e-4


def test_unchecked_says_so(tmp_path):
    assert export_onnx(folded(), tmp_path / "m.onnx", (32, 32), check=False)[1] is None


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean() > -0.3 else x * 3


class Foreign(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svd(x)[0]


class Undefined(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 2).log()


class Table(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"depth": x}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Decides(), "differs from torch"),
        (Foreign(), "linalg_svd"),
        (Undefined(), "differs from torch"),
        (Table(), "dict"),
        (nn.Conv2d(4, 4, 3), "cannot be exported"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_the_old_file(tmp_path, capfd, model, said):
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with pytest.raises(CompressError, match=said) as raised:
        export_onnx(model, path, (32, 32))
    assert "\n" not in str(raised.value)
    assert [one.name for one in tmp_path.iterdir()] == ["m.onnx"] and path.read_text() == "old"
    assert capfd.readouterr().out == ""


def test_size_and_name_are_asked_for(tmp_path):
    with pytest.raises(CompressError, match="give size="):
        export_onnx(folded(), tmp_path / "m.onnx")
    with pytest.raises(CompressError, match=r"ends in \.onnx"):
        export_onnx(folded(), tmp_path / "m.bin", (32, 32))


def test_several_inputs_one_of_them_unused(tmp_path: Path):
    class Some(nn.Module):
        def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            return torch.cat([a, c], 1)

    inputs = [torch.rand(1, n, 4, 5) for n in (1, 2, 3)]
    assert write_onnx(Some(), inputs, tmp_path / "m.onnx") == 0.0
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert {one.name for one in graph.input} <= {"input0", "input1", "input2"}
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == [1, 4, 4, 5]
