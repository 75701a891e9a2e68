"""What every encoder and every decoder must do, and how a network joins them."""

from __future__ import annotations

import math

import pytest
import torch
from members import MEMBERS, fresh, ready
from torch import Tensor, nn

from compress.models import build
from compress.models.base import Outputs, to_depth
from compress.models.encoder_decoder import Decoder, EncoderDecoder
from compress.models.encoders import Encoder, make_encoder
from compress.space import Genotype
from compress.space.encoders import ENCODERS


def joined(genotype: Genotype) -> bool:
    with torch.device("meta"):
        return isinstance(build(genotype), EncoderDecoder)


JOINED = {name: genotype for name, genotype in MEMBERS.items() if joined(genotype)}
EACH = pytest.mark.parametrize("genotype", JOINED.values(), ids=JOINED)
SIZES = [(16, 16), (33, 47), (64, 96)]


def model_of(genotype: Genotype) -> EncoderDecoder:
    model = ready(genotype)
    assert isinstance(model, EncoderDecoder)
    return model


def image(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2)) * 2 - 1


def opened(module: nn.Module) -> nn.Module:
    """With residual branches that do not begin at zero."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and not part.weight.any():
            nn.init.ones_(part.weight)
    return module


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoder_shapes(name: str) -> None:
    with torch.device("meta"):
        encoder = make_encoder(name).eval()
        for height, width in [(17, 31), (97, 131)]:
            features = encoder(torch.empty(2, 3, height, width))
            assert [tuple(x.shape) for x in features] == [
                (2, c, math.ceil(height / stride), math.ceil(width / stride))
                for c, stride in zip(encoder.channels, (2, 4, 8, 16, 32), strict=True)
            ]


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoder_gradient_and_values(name: str) -> None:
    """Every map says something of the image, and every parameter learns from them."""
    torch.manual_seed(0)
    encoder = opened(make_encoder(name)).train()
    x = image(64, 64, batch=2).requires_grad_()
    features = encoder(x)
    for feature in features:
        assert torch.isfinite(feature).all() and feature.std() > 0
    torch.stack([(f * torch.randn_like(f)).mean() for f in features]).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@EACH
@pytest.mark.parametrize("size", SIZES)
def test_decoder_shapes(genotype: Genotype, size: tuple[int, int]) -> None:
    """Maps grow, coarse to fine, by the sizes of the encoder's maps and at most to the image's."""
    with torch.device("meta"):
        model = build(genotype).eval()
        assert isinstance(model, EncoderDecoder)
        assert isinstance(model.encoder, Encoder) and isinstance(model.decoder, Decoder)
        features = model.encoder(torch.empty(2, 3, *size))
        maps = model.decoder(features, size)
    assert [x.shape[:2] for x in maps] == [(2, c) for c in model.decoder.channels]
    sizes = [tuple(x.shape[-2:]) for x in maps]
    assert sizes == sorted(sizes)
    assert set(sizes) <= {size} | {tuple(x.shape[-2:]) for x in features}
    assert all(1 <= level <= len(maps) for level in model.auxiliary_levels)


@EACH
def test_decoder_gradient(genotype: Genotype) -> None:
    """From the last map alone to each of the decoder's parameters, and to the deepest feature."""
    model = opened(fresh(genotype)).train()
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        features = model.encoder(image(64, 64, batch=4))
    features = [(x / x.std()).requires_grad_() for x in features]
    last = model.decoder(features, (64, 64))[-1]
    (last * torch.randn_like(last)).mean().backward()
    assert features[-1].grad is not None and features[-1].grad.abs().sum() > 0
    for key, parameter in model.decoder.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@EACH
def test_decoder_leaves_the_features_as_they_are(genotype: Genotype) -> None:
    model = model_of(genotype)
    with torch.no_grad():
        features = model.encoder(image(33, 47))
        before = [x.clone() for x in features]
        model.decoder(features, (33, 47))
    assert all(torch.equal(x, y) for x, y in zip(features, before, strict=True))


@EACH
def test_a_network_is_its_parts(genotype: Genotype) -> None:
    model = model_of(genotype)
    model.add_auxiliary()
    x = image(33, 47)
    with torch.no_grad():
        outputs = model.outputs(x)
        features = model.encoder(x)
        maps = model.decoder(features, (33, 47))
        wanted = to_depth(model.head(maps[-1]), model.head.target, (33, 47))
    assert isinstance(outputs, Outputs)
    assert torch.equal(outputs.depth_m, wanted)
    assert outputs.features is not None and torch.equal(outputs.features, features[-1])
    assert len(outputs.auxiliary_m) == len(model.auxiliary)
    for level, depth in zip(model.auxiliary, outputs.auxiliary_m, strict=True):
        assert depth.shape[-2:] == maps[int(level) - 1].shape[-2:]
    assert model.pretrained is model.encoder
