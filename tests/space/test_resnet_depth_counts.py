"""The ResNet depth network in numbers: its encoder as published, its decoder by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import Genotype, Operator, load_space, totals
from compress.space.resnet_depth import SKIPS

SPACE = load_space("resnet-depth")
WIDTHS = (256, 128, 64, 32, 16)
# ResNet-50 without its classifier: 25,557,032 - 2048 * 1000 - 1000.
RESNET50 = 23_508_032


def genotype(encoder: str, skip: str, widths: tuple[int, ...] = WIDTHS) -> Genotype:
    spec: dict[str, Any] = {"encoder": encoder, "skip": skip, "target": "log"}
    spec |= {f"decoder.{level}": width for level, width in enumerate(widths, start=1)}
    return Genotype("resnet-depth", spec, (64, 96))


def test_paper() -> None:
    """A reconstruction: its own size, and no published one to hold it to."""
    reference = SPACE.references["paper"]
    assert cost(reference.genotype)[:2] == (31_734_449, 18_520_473_600)
    assert reference.published == {"delta1": 0.865, "rmse": 4.714}
    ops = operators(reference.genotype)
    assert totals(op for op in ops if op.name.startswith("encoder.")).params == RESNET50


@pytest.mark.parametrize("skip", SKIPS)
def test_decoder_by_hand(skip: str) -> None:
    ops = operators(genotype("resnet50", skip), (192, 640))
    positions = 192 * 640 // 32**2
    params = macs = 0
    cin = 2048
    for met, cout in zip((1024, 512, 256, 64, 0), WIDTHS, strict=True):
        positions *= 4
        if skip == "add" and met and met != cin:
            params += met * cin
            macs += met * cin * positions
        inputs = cin + met if skip == "concat" else cin
        params += 9 * inputs * cout + 2 * cout
        macs += 9 * inputs * cout * positions
        cin = cout
    assert positions == 192 * 640
    params += 9 * cin + 1
    macs += 9 * cin * positions
    decoder = totals(op for op in ops if not op.name.startswith("encoder."))
    assert (decoder.params, decoder.macs) == (params, macs)


@pytest.mark.parametrize("skip", SKIPS)
def test_levels(skip: str) -> None:
    ops: dict[str, Operator] = {op.name: op for op in operators(genotype("resnet18", skip))}
    for level in range(1, 6):
        at, stride = f"decoder.{level}.", 2 ** (5 - level)
        up, conv = ops[at + "upsample"], ops[at + "conv"]
        assert up.detail == "bilinear"
        assert (conv.height * stride, conv.width * stride) == (64, 96)
        assert (conv.kernel, conv.bias, conv.out_channels) == (3, False, WIDTHS[level - 1])
        assert (at + "concat" in ops) == (skip == "concat" and level < 5)
        assert (at + "add" in ops) == (skip == "add" and level < 5)
    # 512 and 256, 256 and 128, 128 and 64 differ; at 1/2, the map has 64 channels as its skip
    projected = [level for level in range(1, 6) if f"decoder.{level}.project" in ops]
    assert projected == ([1, 2, 3] if skip == "add" else [])
    assert "head.upsample" not in ops  # it is at full resolution


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50"])
@pytest.mark.parametrize("skip", SKIPS)
def test_closed_form_is_what_runs(encoder: str, skip: str) -> None:
    made = genotype(encoder, skip, (33, 20, 64, 9, 5))
    with torch.device("meta"):
        model = build(made)
    for size in [(16, 16), (97, 61)]:
        traced = trace(model, size)
        assert traced.uncounted == () and traced.other == 0
        assert [op._replace(name="") for op in operators(made, size)] == [
            op._replace(name="") for op in traced.operators
        ]
    assert cost(made).params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"decoder.3": 0}, "decoder.3: 0 is not allowed; allowed: whole numbers from 1 to 2048"),
        ({"encoder": "resnet101"}, "allowed: resnet18, resnet34, resnet50"),
        ({"skip": "sum"}, "allowed: none, add, concat"),
        ({"decoder.6": 8}, "unknown parameter 'decoder.6'"),
    ],
)
def test_wrong_specs_are_answered(change: dict[str, object], said: str) -> None:
    data = genotype("resnet18", "add").to_dict()
    data["spec"] = {**data["spec"], **change}
    with pytest.raises(CompressError, match=said):
        Genotype.from_dict(data)
