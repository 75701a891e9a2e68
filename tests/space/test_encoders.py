"""Encoders' closed form: equal to the built network, to fvcore and to published counts."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models.encoders import Encoder, make_encoder, make_mobilenet_v1
from compress.space.draft import Draft, Shape
from compress.space.encoders import (
    ENCODERS,
    LAST,
    V1_WIDTHS,
    encoder,
    encoder_channels,
    mobilenet_v1,
)
from compress.space.operators import totals

SIZES = [(64, 96), (33, 47), (16, 16)]
NETADAPT = (16, 56, 88, 120, 144, 256, 408, 376, 272, 288, 296, 328, 480, 512)
ODD = (3, 5, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def written(name: str, size: tuple[int, int], last: bool = False) -> tuple[Draft, list[Shape]]:
    draft = Draft(size)
    return draft, encoder(draft, name, last)


def check(built: Encoder, draft: Draft, features: list[Shape], size: tuple[int, int]) -> None:
    built = built.eval()
    with torch.device("meta"):
        maps = built(torch.empty(1, 3, *size))
    assert [tuple(x.shape[1:]) for x in maps] == features
    assert built.channels == tuple(x.channels for x in features)
    for level, feature in enumerate(features, start=1):
        assert feature.size == tuple(-(-side // 2**level) for side in size)
    traced = trace(built, size)
    assert traced.uncounted == () and traced.other == 0
    assert [op._replace(name="") for op in draft.operators] == [
        op._replace(name="") for op in traced.operators
    ]
    assert totals(draft.operators).params == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_closed_form_is_what_runs(name: str) -> None:
    with torch.device("meta"):
        built = make_encoder(name)
    assert built.channels == encoder_channels(name)
    for size in SIZES:
        check(built, *written(name, size), size)


@pytest.mark.parametrize("name", sorted(LAST))
def test_closed_form_with_the_last_convolution(name: str) -> None:
    with torch.device("meta"):
        built = make_encoder(name, last=True)
    assert built.channels == encoder_channels(name, last=True)
    assert built.channels == (*encoder_channels(name)[:-1], LAST[name])
    check(built, *written(name, (33, 47), last=True), (33, 47))


@pytest.mark.parametrize("widths", [V1_WIDTHS, NETADAPT, ODD])
def test_mobilenet_v1_of_any_widths(widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        built = make_mobilenet_v1(widths)
    for size in SIZES:
        draft = Draft(size)
        check(built, draft, mobilenet_v1(draft, widths), size)
    assert built.channels == tuple(widths[i] for i in (1, 3, 5, 11, 13))


@pytest.mark.parametrize("widths", [[], [8] * 13, [8] * 13 + [0], [8] * 13 + [8.0]])
def test_wrong_widths_are_refused(widths: list[int]) -> None:
    for make in (lambda: mobilenet_v1(Draft((32, 32)), widths), lambda: make_mobilenet_v1(widths)):
        with pytest.raises(CompressError, match="give 14 whole numbers"):
            make()


@pytest.mark.parametrize("name", ["mobilenetv2_035", "regnety_002"])
def test_closed_form_is_what_fvcore_counts(name: str) -> None:
    class Features(nn.Module):  # fvcore traces, which wants a tuple
        def __init__(self) -> None:
            super().__init__()
            self.encoder = make_encoder(name).eval()

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.encoder(image))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        analysis = FlopCountAnalysis(Features(), torch.zeros(1, 3, 33, 47))
        analysis.unsupported_ops_warnings(False)
        macs, macs_all = analysis.by_operator()["conv"], analysis.total()
    counted = totals(written(name, (33, 47))[0].operators)
    assert (counted.macs, counted.macs_all) == (macs, macs_all)


def test_published_counts() -> None:
    regnet = totals(written("regnety_006", (224, 224))[0].operators)
    assert regnet.params == 5_446_160
    assert round(regnet.macs / 1e9, 4) == 0.6006
    assert totals(written("mobilenetv2_035", (64, 64))[0].operators).params == 250_208
    assert totals(written("mobilenetv2_100", (64, 64), last=True)[0].operators).params == 2_223_872


def test_fastdepths_encoder() -> None:
    """What its published conv-only counts leave when its decoder is taken off."""
    widths = 1024, 512, 256, 128, 64, 32
    layers = [25 * cin + cin * cout for cin, cout in pairwise(widths)]
    sides = 7, 14, 28, 56, 112
    params = sum(layers) + 32
    macs = sum(n * side**2 for n, side in zip(layers, sides, strict=True)) + 32 * 224**2
    draft = Draft((224, 224))
    mobilenet_v1(draft, V1_WIDTHS)
    convolutions = totals(op for op in draft.operators if op.kind == "conv")
    assert (convolutions.params, convolutions.macs) == (3_933_088 - params, 736_658_944 - macs)


def test_a_draft_goes_on_after_its_encoder() -> None:
    draft, features = written("resnet18", (64, 64))
    before = len(draft.operators)
    draft.prefix = "decoder."
    draft.conv(features[-1], 8)
    assert [op.name for op in draft.operators[before:]] == ["decoder.conv"]
    assert all(op.name.startswith("encoder.") for op in draft.operators[:before])
    assert len({op.name for op in draft.operators}) == len(draft.operators)
    again, _ = written("resnet18", (64, 64))  # from the cache, which the first did not touch
    assert again.operators == draft.operators[:before]


def test_unknown_names() -> None:
    with pytest.raises(CompressError, match="did you mean resnet18"):
        encoder(Draft((32, 32)), "resnet17")
    with pytest.raises(CompressError, match="unknown encoder 'vgg'"):
        make_encoder("vgg")
    with pytest.raises(CompressError, match="resnet18 has no last 1x1 convolution"):
        encoder(Draft((32, 32)), "resnet18", last=True)
    with pytest.raises(CompressError, match="resnet18 has no last 1x1 convolution"):
        make_encoder("resnet18", last=True)
