"""The sparse-mobile family next to what is published of it, and to what runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import Genotype, Operator, load_space
from compress.space.sparse_mobile import expanded

SPACE = load_space("sparse-mobile")
PAPER = SPACE.reference("paper")
ENCODER = 2_223_872  # MobileNetV2 x1.0 with its last convolution


def named(genotype: Genotype) -> dict[str, Operator]:
    ops = operators(genotype)
    assert len({op.name for op in ops}) == len(ops)
    return {op.name: op for op in ops}


def test_published_size() -> None:
    assert PAPER.size == (224, 224)
    assert SPACE.references["paper"].published["params"] == 2.6e6
    assert cost(PAPER).params == pytest.approx(2.6e6, rel=0.02)
    assert cost(PAPER).params == 2_609_513
    encoder = [op for op in named(PAPER).values() if op.name.startswith("encoder.")]
    assert sum(op.params for op in encoder) == ENCODER
    assert encoder[-1].out_channels == 1280


def test_decoder_by_hand() -> None:
    params = 1280 * 160 + 2 * 160  # the neck and its norm
    cin = 160
    for width in (96, 32, 24, 16):
        hidden = 3 * cin  # a multiple of 8 each time
        params += hidden * (cin + 9 + width) + 4 * hidden + 2 * width
        cin = width
    assert cost(PAPER).params == ENCODER + params + cin + 1


def test_layers_of_the_decoder() -> None:
    """The expansion runs before the interpolation, which is nearest; skips need no convolution."""
    ops = list(named(PAPER).values())
    for level, side in enumerate((14, 28, 56, 112), start=1):
        at = f"decoder.{level}."
        mine = [op for op in ops if op.name.startswith(at)]
        assert [op.name.removeprefix(at) for op in mine] == [
            "expand", "expand.norm", "expand.act", "upsample", "depthwise", "depthwise.norm",
            "depthwise.act", "project", "project.norm", "add",
        ]  # fmt: skip
        assert [op.height for op in mine] == [side // 2] * 3 + [side] * 7
        assert mine[3].detail == "nearest"
    # The last layer only interpolates.
    assert [(op.kind, op.height, op.detail) for op in ops[-4:-2]] == [
        ("conv", 112, ""),
        ("upsample", 224, "bilinear"),
    ]


def test_five_maps_of_the_encoder_enter_the_decoder() -> None:
    ops = named(PAPER)
    assert ops["decoder.neck"].in_channels == 1280
    assert [ops[f"decoder.{level}.add"].in_channels for level in (1, 2, 3, 4)] == [96, 32, 24, 16]


def test_skips_of_other_widths() -> None:
    values = dict(SPACE.reference("small").values)  # the encoder's maps have 32, 16, 8, 8 channels
    added = named(SPACE.genotype(values | {"decoder.1.width": 48}))
    assert (added["decoder.1.skip"].in_channels, added["decoder.1.skip"].out_channels) == (32, 48)
    assert "decoder.2.skip" not in added and "decoder.3.skip" in added
    beside = named(SPACE.genotype(values | {"decoder.1.width": 48, "skip": "concat"}))
    assert not any(".skip" in name for name in beside)
    assert beside["decoder.1.concat"].out_channels == 48 + 32
    assert beside["decoder.2.expand"].in_channels == 80


def test_last_convolution() -> None:
    without = Genotype.from_dict(PAPER.to_dict() | {"spec": dict(PAPER.spec) | {"last": "no"}})
    assert named(without)["decoder.neck"].in_channels == 320
    fewer = cost(PAPER).params - cost(without).params
    assert fewer == 320 * 1280 + 2 * 1280 + (1280 - 320) * 160


@pytest.mark.parametrize(
    ("channels", "ratio", "wanted"),
    [(160, 3.0, 480), (16, 0.25, 8), (12, 1.0, 16), (20, 1.0, 24), (35, 1.0, 40), (33, 1.0, 32)],
)
def test_expansion_is_rounded(channels: int, ratio: float, wanted: int) -> None:
    assert expanded(channels, ratio) == wanted


@given(channels=st.integers(1, 2000), ratio=st.floats(0.25, 8.0))
def test_expansion_is_near_what_is_asked(channels: int, ratio: float) -> None:
    got = expanded(channels, ratio)
    assert got % 8 == 0 and got >= 8
    assert got >= 0.95 * channels * ratio
    assert got <= 8 or got - channels * ratio <= 8


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), size=st.tuples(st.integers(16, 130), st.integers(16, 130)))
def test_closed_form_is_what_runs(seed: int, size: tuple[int, int]) -> None:
    genotype = SPACE.sample(seed)
    with torch.device("meta"):
        traced = trace(build(genotype), size)
    assert traced.uncounted == () and traced.other == 0
    unnamed = [op._replace(name="") for op in traced.operators]
    assert [op._replace(name="") for op in operators(genotype, size)] == unnamed


def test_expansion_without_a_convolution() -> None:
    values = dict(SPACE.reference("small").values) | {"decoder.1.expansion": 1.0}
    genotype = SPACE.genotype(values)
    assert "decoder.1.expand" not in named(genotype)  # 48 is a multiple of 8
    with torch.device("meta"):
        assert cost(build(genotype)) == cost(genotype)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("decoder.3.kernel", 4, r"decoder\.3\.kernel = 4: write an odd number"),
        ("decoder.3.kernel", 11, r"decoder\.3\.kernel: 11 is not allowed"),
        ("decoder.2.expansion", 0.1, r"decoder\.2\.expansion: 0\.1 is not allowed"),
        ("auxiliary", "3,2", "auxiliary: '3,2' is not allowed; allowed: none, 2, 3, 2,3"),
        ("skip", "none", "skip: 'none' is not allowed; allowed: add, concat"),
        ("last", True, "last: True is not allowed"),
    ],
)
def test_wrong_networks_are_answered(key: str, value: object, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        Genotype.from_dict(PAPER.to_dict() | {"spec": dict(PAPER.spec) | {key: value}})
