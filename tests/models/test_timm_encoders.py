"""Encoders as they run, and weights that come from outside."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.errors import CompressError
from compress.models import pretrained
from compress.models.base import DepthNet, normalised
from compress.models.encoders import Encoder, make_encoder, make_mobilenet_v1
from compress.models.pretrained import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_encoder_weights,
    pretrained_encoder,
)
from compress.models.timm_ import complete_torchvision, timm
from compress.space.encoders import V1_WIDTHS

REAL = Path(__file__).parents[3] / "shared/weights/mobilenetv2_100_imagenet.safetensors"
SMALL = ["mobilenetv2_035", "mobilenetv3_small_100", "regnety_002", "resnet18"]


class Net(DepthNet):
    """A network that is all encoder."""

    def __init__(self, encoder: Encoder | None) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def pretrained(self) -> nn.Module | None:
        return self.encoder


def net(name: str = "mobilenetv2_035", last: bool = False) -> Net:
    model = Net(make_encoder(name, last))
    model.eval()
    return model


def whole_network(name: str) -> nn.Module:
    """timm's classification network with statistics unlike any other's."""
    torch.manual_seed(5)
    model = timm().create_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def image(height: int = 64, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, height, width, generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2_035.safetensors"
    save_file(whole_network("mobilenetv2_035").state_dict(), path)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(name).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # timm starts those that end a residual block at zero
    features = encoder(image(33, 47))
    sum((x * torch.rand_like(x)).sum() for x in features).backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (48, 33)])
def test_any_size_and_training_mode(size: tuple[int, int]) -> None:
    encoder = make_mobilenet_v1([4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]).train()
    features = encoder(torch.cat([image(*size), -image(*size)]))
    assert [x.shape[1] for x in features] == [5, 7, 9, 15, 17]
    assert all(x.isfinite().all() for x in features)


@pytest.mark.parametrize("name", [*SMALL, "densenet121"])
def test_features_are_timms(name: str, tmp_path: Path) -> None:
    source = whole_network(name)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    model = net(name)
    loaded = load_encoder_weights(model, path)
    assert len(loaded.loaded) == sum("num_batches" not in key for key in model.encoder.state_dict())
    assert loaded.missing == () and loaded.misfitting == () and loaded.unused != ()
    with torch.no_grad():
        features = model.encoder(image())
        expected = source.forward_intermediates(image(), intermediates_only=True)
    # timm reads DenseNet's skips one layer earlier, before the pooling of each transition.
    same = (0, 4) if name == "densenet121" else range(5)
    for level in same:
        torch.testing.assert_close(features[level], expected[level])
    if name == "densenet121":
        assert [x.shape[1:] for x in features] == [
            (64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4), (1024, 2, 2)
        ]  # fmt: skip


def test_the_last_convolution_is_timms(small_weights: Path) -> None:
    model = net(last=True)
    loaded = load_encoder_weights(model, small_weights)
    assert set(loaded.unused) == {"classifier.weight", "classifier.bias"}
    with torch.no_grad():
        expected = whole_network("mobilenetv2_035").forward_features(image())
        torch.testing.assert_close(model.encoder(image())[-1], expected)


def test_pooling_of_odd_sides_averages_what_is_there() -> None:
    model = make_encoder("densenet121").eval()
    pool = model.get_submodule("features.transition1.pool")
    torch.testing.assert_close(
        pool(torch.tensor([[[[1.0, 3.0, 5.0]]]])), torch.tensor([[[[2.0, 5.0]]]])
    )
    with torch.no_grad():
        assert model(image(16, 16))[-1].shape == (1, 1024, 1, 1)


# --- weights from files


@pytest.mark.skipif(not REAL.is_file(), reason="the real weights are not beside the project")
def test_real_weights() -> None:
    model, fresh = net("mobilenetv2_100", last=True), net("mobilenetv2_100", last=True)
    loaded = load_encoder_weights(model, REAL)
    assert loaded.missing == () and loaded.misfitting == ()
    assert set(loaded.unused) == {"classifier.weight", "classifier.bias"}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    source = timm().create_model("mobilenetv2_100", num_classes=1001).eval()
    source.load_state_dict({k: v.float() for k, v in load_file(REAL).items()}, strict=False)
    rgb = (image(96, 128) * 127.5 + 127.5).round().to(torch.uint8)
    with torch.no_grad():
        features, random = model.encoder(normalised(rgb)), fresh.encoder(normalised(rgb))
        expected = source.forward_intermediates(normalised(rgb), intermediates_only=True)
    for level in range(4):
        assert features[level].isfinite().all()
        assert not torch.allclose(features[level], random[level], atol=0.1)
        torch.testing.assert_close(features[level], expected[level], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.encoder.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"backbone.{k}": v.half() for k, v in state.items()}},
    ],
)
def test_checkpoints_of_torch(wrapped, small_weights: Path, tmp_path: Path) -> None:
    floats = {k: v for k, v in load_file(small_weights).items() if v.is_floating_point()}
    path = tmp_path / "checkpoint.pth"
    torch.save(wrapped(floats), path)
    model = net()
    loaded = load_encoder_weights(model, path)
    assert loaded.missing == () and len(loaded.loaded) > 200
    name = "blocks.6.0.bn3.running_var"
    torch.testing.assert_close(model.encoder.state_dict()[name], floats[name], atol=1e-3, rtol=1e-3)
    assert model.encoder.state_dict()[name].dtype == torch.float32


def test_torchvisions_names_of_densenet() -> None:
    name = "module.features.denseblock1.denselayer2.norm.1.running_mean"
    assert pretrained._renamed(name) == "features.denseblock1.denselayer2.norm1.running_mean"


def test_weights_of_another_network_are_refused(small_weights: Path) -> None:
    model = net("mobilenetv2_050")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CompressError) as caught:
        load_encoder_weights(model, small_weights)
    message = str(caught.value)
    assert "\n" not in message and "another shape" in message and "mobilenetv2_050" in message
    assert "conv_head" not in message.partition("of another shape")[0]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    with pytest.raises(CompressError, match=r"0 of .* missing"):
        load_encoder_weights(net("resnet18"), small_weights, partial=True)


def test_a_partial_load_says_what_it_left(small_weights: Path, tmp_path: Path) -> None:
    state = load_file(small_weights)
    del state["conv_stem.weight"]
    state["bn1.weight"] = torch.ones(3)
    path = tmp_path / "part.safetensors"
    save_file(state, path)
    with pytest.raises(CompressError, match=r"1 missing .conv_stem.weight.; .* partial load"):
        load_encoder_weights(net(), path)
    loaded = load_encoder_weights(net(), path, partial=True, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert loaded.missing == ("conv_stem.weight",)
    assert loaded.misfitting == (("bn1.weight", (16,), (3,)),)
    assert "bn1.weight 16 here, 3 there" in loaded.describe()


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('the file was run')",)


def broken(kind: str, path: Path) -> Path:
    if kind == "code":
        path = path.with_suffix(".pth")
        torch.save({"conv_stem.weight": Code()}, path)
    elif kind == "bare code":
        path = path.with_suffix(".pt")
        path.write_bytes(pickle.dumps(Code()))
    elif kind in (".pth", ".safetensors"):
        path = path.with_suffix(kind)
        path.write_bytes(b"")
    elif kind == "suffix":
        path = path.with_suffix(".onnx")
        path.write_bytes(b"x")
    elif kind == "list":
        path = path.with_suffix(".bin")
        torch.save([1, 2, 3], path)
    elif kind == "empty":
        path = path.with_suffix(".bin")
        torch.save({"state_dict": {}}, path)
    elif kind == "scalars":
        path = path.with_suffix(".pth")
        torch.save({"conv_stem.weight": torch.tensor(1.0)}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("code", "no file of plain tensors"),
        ("bare code", "no file of plain tensors"),
        (".pth", "no file of plain tensors"),
        (".safetensors", "not a readable safetensors file"),
        ("suffix", "weights are read from .safetensors, .pth"),
        ("list", "holds no table of tensors"),
        ("empty", "holds no table of tensors"),
        ("scalars", "0 of .* 1 of another shape .conv_stem.weight 16x3x3x3 here, a single value"),
        ("missing", "there is no such file of weights"),
    ],
)
def test_hostile_files(kind: str, message: str, tmp_path: Path) -> None:
    model = net()
    with pytest.raises(CompressError, match=message) as caught:
        load_encoder_weights(model, broken(kind, tmp_path / "weights"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((16, 3, 3, 3), float("nan")), "values that are not finite"),
        (torch.ones(16, 3, 3, 3, dtype=torch.int8), "holds int8 values"),
    ],
)
def test_values_that_are_no_weights(
    value: Tensor, message: str, small_weights: Path, tmp_path: Path
) -> None:
    state = load_file(small_weights)
    state["conv_stem.weight"] = value
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    with pytest.raises(CompressError, match=message):
        load_encoder_weights(net(), path)


def test_a_network_without_an_encoder(small_weights: Path) -> None:
    for load in (lambda m: load_encoder_weights(m, small_weights), pretrained_encoder):
        with pytest.raises(CompressError, match="has no encoder"):
            load(Net(None))


# --- another normalisation


@pytest.mark.parametrize(("name", "border"), [("mobilenetv2_035", 2), ("resnet18", 2)])
def test_imagenets_normalisation_is_folded_in(name: str, border: int, tmp_path: Path) -> None:
    source, model = whole_network(name), net(name)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    load_encoder_weights(model, path, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    rgb = (image() + 1) / 2
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        here = model.encoder(image())[0]
        expected = source.forward_intermediates((rgb - mean) / std, intermediates_only=True)[0]
    inner = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(here[inner], expected[inner], atol=1e-4, rtol=1e-4)
    assert (here - expected).abs().max() < 0.5 * expected.abs().max()  # the border's share


def test_timms_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    source = whole_network("resnet18")
    asked = []

    def create(name: str, pretrained: bool = False, **_: object) -> nn.Module:
        asked.append((name, pretrained))
        return source

    model = net("resnet18")
    monkeypatch.setattr(timm(), "create_model", create)
    loaded = pretrained_encoder(model)
    assert pretrained_encoder(model, "resnet18.a2_in1k").path == "timm:resnet18.a2_in1k"
    assert asked == [("resnet18", True), ("resnet18.a2_in1k", True)]
    assert set(loaded.unused) == {"fc.weight", "fc.bias"}
    weight = source.conv1.weight / (2 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
    torch.testing.assert_close(model.encoder.conv1.weight, weight)
    with pytest.raises(CompressError, match="resnet34 do not fit the encoder resnet18"):
        pretrained_encoder(model, "resnet34")


def test_fastdepths_encoder_takes_mobilenets_weights(tmp_path: Path) -> None:
    source = whole_network("mobilenetv1_100")
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    model = Net(make_mobilenet_v1(V1_WIDTHS))
    assert model.encoder.name == "mobilenetv1_100"
    assert load_encoder_weights(model, path).missing == ()
    with torch.no_grad():
        features = model.eval().encoder(image())
        expected = source.forward_intermediates(image(), intermediates_only=True)
    for here, there in zip(features, expected, strict=True):
        torch.testing.assert_close(here, there)


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()

    def create(*_: object, **__: object) -> nn.Module:
        raise OSError("cannot connect\nand a page of advice")

    monkeypatch.setattr(timm(), "create_model", create)
    with pytest.raises(
        CompressError, match=r"\(cannot connect\); where there is no network"
    ) as got:
        pretrained_encoder(model)
    assert "\n" not in str(got.value)


# --- the door to timm


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_timm_is_imported_when_an_encoder_is_built() -> None:
    code = (
        "import sys, compress, compress.cli, compress.models.encoders, compress.models.pretrained;"
        "print([m for m in ('timm', 'torchvision') if m in sys.modules])"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize("before", ["", "try:\n import torchvision\nexcept Exception: pass\n"])
def test_timm_comes_in_past_a_torchvision_that_does_not_match(before: str) -> None:
    """Also after an import of torchvision that failed, and twice."""
    code = (
        f"{before}from compress.models.timm_ import complete_torchvision, timm\n"
        "complete_torchvision()\n"
        "assert not complete_torchvision()\n"
        "assert timm() is timm()\n"
        "import torchvision\n"
        "assert not complete_torchvision()\n"
        "print(timm().__name__)"
    )
    assert run(code) == "timm"


def test_a_torchvision_that_works_is_left_alone() -> None:
    """Its operators are there: as if its compiled part had been loaded."""
    code = (
        "import torch\n"
        "mine = torch.library.Library('torchvision', 'FRAGMENT')\n"
        "mine.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from compress.models.timm_ import complete_torchvision\n"
        "print(complete_torchvision())"
    )
    assert run(code) == "False"
    timm()
    assert not complete_torchvision()
