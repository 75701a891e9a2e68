"""What the light blocks compute, and how FastDepth and MobileDepth join them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from measured import measured
from torch import Tensor, nn

from compress.models import build
from compress.models.base import to_depth
from compress.models.blocks import (
    DenseSeparable,
    InvertedResidual,
    NNConv,
    ResidualSeparable,
    Separable,
    SplitShuffle,
    SqueezeExcite,
)
from compress.models.blocks.shuffle import shuffled
from compress.models.encoder_decoder import EncoderDecoder
from compress.space import Genotype, load_space


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    assert conv.bias is not None
    return torch.einsum("nchw,oc->nohw", x, conv.weight[:, :, 0, 0]) + conv.bias.view(-1, 1, 1)


def depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    assert conv.bias is not None
    taps, k = conv.weight[:, 0], conv.kernel_size[0]  # (C, k, k)
    wide = F.pad(x, [k // 2] * 4)
    shifted = [
        taps[:, i, j, None, None] * wide[:, :, i : i + x.shape[2], j : j + x.shape[3]]
        for i in range(k)
        for j in range(k)
    ]
    return torch.stack(shifted).sum(0) + conv.bias.view(-1, 1, 1)


def with_biases(block: nn.Module) -> nn.Module:
    """Biases start at zero, which would hide that one is left out."""
    for number, parameter in enumerate(block.parameters()):
        if parameter.ndim == 1:
            with torch.no_grad():
                parameter.copy_(noise(*parameter.shape, seed=number))
    return block


@pytest.mark.parametrize("kernel", [3, 5])
def test_separable_by_hand(kernel: int) -> None:
    block = with_biases(Separable(4, 6, kernel, norm=False))
    x = noise(2, 4, 7, 9)
    y = depthwise(block.depthwise[0], x).relu()
    wanted = pointwise(block.pointwise[0], y).relu()
    torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-5)


def test_residual_by_hand() -> None:
    block = with_biases(ResidualSeparable(4, 3, norm=False))
    x = noise(2, 4, 7, 9)
    y = pointwise(block.pointwise[0], depthwise(block.depthwise[0], x).relu())
    torch.testing.assert_close(block(x), (x + y).relu(), rtol=1e-4, atol=1e-5)


def test_dense_keeps_its_input() -> None:
    block = with_biases(DenseSeparable(4, 3, 5, norm=False))
    x = noise(2, 4, 7, 9)
    out = block(x)
    assert torch.equal(out[:, :4], x)
    torch.testing.assert_close(out[:, 4:], block.separable(x))


def test_shuffle_by_hand() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1).repeat(2, 1, 3, 2)
    assert shuffled(x)[1, :, 2, 1].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    x = noise(2, 10, 4, 3).contiguous(memory_format=torch.channels_last)
    out = shuffled(x)
    for channel in range(10):  # even places take the first half in order, odd ones the second
        assert torch.equal(out[:, channel], x[:, channel // 2 + (5 if channel % 2 else 0)])


def test_split_shuffle_by_hand() -> None:
    block = with_biases(SplitShuffle(8, 3, norm=False))
    x = noise(2, 8, 7, 9)
    out = block(x)
    assert torch.equal(out[:, 0::2], x[:, :4])
    convs = [module for module in block.branch if isinstance(module, nn.Conv2d)]
    y = pointwise(convs[0], x[:, 4:]).relu()
    y = pointwise(convs[2], depthwise(convs[1], y)).relu()
    torch.testing.assert_close(out[:, 1::2], y, rtol=1e-4, atol=1e-5)


def test_inverted_residual_by_hand() -> None:
    block = with_biases(InvertedResidual(4, 12, 3, norm=False, squeeze=2))
    x = noise(2, 4, 7, 9)
    y = depthwise(block.depthwise[0], pointwise(block.expand[0], x).relu()).relu()
    means = y.flatten(2).mean(2)[:, :, None, None]
    gate = pointwise(block.squeeze.expand, pointwise(block.squeeze.reduce, means).relu())
    y = y * (gate / 6 + 0.5).clamp(0, 1)
    wanted = pointwise(block.project[0], y) + x
    torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-5)


def test_gates_begin_at_three_quarters() -> None:
    block = SqueezeExcite(8, 2)
    nn.init.zeros_(block.expand.weight)
    x = noise(2, 8, 5, 5)
    torch.testing.assert_close(block(x), 0.75 * x)


def test_nnconv_meets_a_size() -> None:
    block = NNConv(4, 6).eval()
    x = noise(2, 4, 3, 5)
    small = Separable.forward(block, x)
    assert torch.equal(block(x), small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert block(x, (5, 9)).shape == (2, 6, 5, 9)


@pytest.mark.parametrize("norm", [True, False])
def test_biases_stand_in_for_norms(norm: bool) -> None:
    for block in (
        Separable(4, 6, 3, norm),
        SplitShuffle(4, 3, norm),
        ResidualSeparable(4, 3, norm),
    ):
        convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == (len(convs) if norm else 0)
        assert all((conv.bias is None) == norm for conv in convs)


def genotypes() -> dict[str, Genotype]:
    fastdepth, mobiledepth = load_space("fastdepth"), load_space("mobiledepth")
    found = {"fastdepth": fastdepth.reference("small"), "add": mobiledepth.reference("small")}
    values = dict(mobiledepth.reference("small").values)
    for number, skip in enumerate(("none", "concat", "add")):
        levels = ("2", "16,8,4,2", "16,8,4")[number]
        changed = {"skip": skip, "skip_levels": levels, "norm": "batch", "block": "ds"}
        found[f"{skip} {levels}"] = mobiledepth.genotype(values | changed)
    return found


@pytest.mark.parametrize("genotype", genotypes().values(), ids=genotypes())
def test_levels_meet_the_encoders_maps(genotype: Genotype) -> None:
    """Put together again from the network's parts, at a size where all maps double."""
    model = measured(build(genotype, seed=0))
    assert isinstance(model, EncoderDecoder)
    spec = genotype.spec
    skip = spec.get("skip", "add")
    meets = [int(stride) for stride in spec.get("skip_levels", "8,4,2").split(",")]
    image = noise(1, 3, 64, 96)
    with torch.no_grad():
        features = model.encoder(image)
        x = features[-1]
        for block, stride, feature in zip(
            model.decoder.levels, (16, 8, 4, 2, 1), [*features[3::-1], image], strict=True
        ):
            x = Separable.forward(block, x) if isinstance(block, NNConv) else block(x)
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            if stride in meets and skip == "add":
                x = x + feature
            elif stride in meets and skip == "concat":
                x = torch.cat((x, feature), 1)
        wanted = to_depth(model.head(x), spec["target"])
        outputs = model.outputs(image)
    torch.testing.assert_close(outputs.depth_m, wanted)
    assert outputs.features is not None and torch.equal(outputs.features, features[-1])


REFERENCES = {
    f"{space}-{name}": reference.genotype
    for space in ("fastdepth", "mobiledepth")
    for name, reference in load_space(space).references.items()
}


@pytest.mark.parametrize("genotype", REFERENCES.values(), ids=REFERENCES)
def test_decoders_neither_fade_nor_blow_up(genotype: Genotype) -> None:
    """Without norms, values keep their scale only through the weights they start from."""
    model = build(genotype, seed=0).eval()
    assert isinstance(model, EncoderDecoder)
    sides = [(128 // stride, 192 // stride) for stride in (2, 4, 8, 16, 32)]
    features = [
        noise(1, c, *side).relu() for c, side in zip(model.encoder.channels, sides, strict=True)
    ]
    with torch.no_grad():
        levels = model.decoder(features, (128, 192))
    assert len(levels) == len(model.decoder.channels)
    for x, channels in zip(levels, model.decoder.channels, strict=True):
        assert x.shape[1] == channels
        assert 0.05 < x.square().mean().sqrt() < 20
