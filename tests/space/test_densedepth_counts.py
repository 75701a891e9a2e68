"""DenseDepth's counts: published ones, and the conventions between them and ours."""

from __future__ import annotations

import pytest
import torch

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import Genotype, Operator, load_space, totals

SPACE = load_space("densedepth")
# Size, parameters, multiply-adds, width of the first 1x1.
PUBLISHED = {
    "nyu": ((480, 640), 21.365e6, 49.19e9, 832),
    "kitti": ((384, 1280), 42.658e6, 196.28e9, 1664),
}
BOTH = pytest.mark.parametrize("name", PUBLISHED)
MOVING_STATISTICS = 158_400  # of the batch norms of DenseNet-169: a mean and a variance a channel
KERAS_DENSENET169 = 12_642_880  # what Keras says DenseNet-169 without its classifier has


def named(name: str) -> dict[str, Operator]:
    ops = operators(SPACE.reference(name))
    assert len({op.name for op in ops}) == len(ops)
    return {op.name: op for op in ops}


def genotype(encoder: str, features: int, target: str) -> Genotype:
    spec = {"encoder": encoder, "features": features, "target": target}
    return Genotype("densedepth", spec, (64, 96))


@BOTH
def test_published_size_and_multiply_adds(name: str) -> None:
    size, params, macs, _ = PUBLISHED[name]
    result = cost(SPACE.reference(name))
    assert result.size == size
    assert round(result.params / 1e6, 3) == params / 1e6
    assert round(result.macs / 1e9, 2) == macs / 1e9
    published = SPACE.references[name].published
    assert (published["params"], published["macs"]) == (params, macs)


def test_exact_counts() -> None:
    assert cost(SPACE.reference("nyu"))[:2] == (21_365_405, 49_190_400_000)
    assert cost(SPACE.reference("kitti"))[:2] == (42_657_689, 196_282_613_760)


@BOTH
def test_moving_statistics_are_the_difference_to_keras(name: str) -> None:
    ops = operators(SPACE.reference(name))
    norms = [op for op in ops if op.kind == "norm"]
    assert sum(2 * op.out_channels for op in norms) == MOVING_STATISTICS
    encoder = totals(op for op in ops if op.name.startswith("encoder."))
    assert encoder.params + MOVING_STATISTICS == KERAS_DENSENET169
    # the 42.8 M that DepthNet Nano compares itself with
    assert round((cost(SPACE.reference("kitti")).params + MOVING_STATISTICS) / 1e6, 1) == 42.8


@BOTH
def test_decoder_by_hand(name: str) -> None:
    (height, width), _, _, features = PUBLISHED[name]
    params = macs = 0
    positions = height * width // 32**2
    params += 1664 * features + features
    macs += 1664 * features * positions
    cin = features
    for skip in (256, 128, 64, 64):
        positions *= 4
        cout = features // 2 if cin == features else cin // 2
        for inputs in (cin + skip, cout):
            params += 9 * inputs * cout + cout
            macs += 9 * inputs * cout * positions
        cin = cout
    params += 9 * cin + 1
    macs += 9 * cin * positions
    decoder = totals(op for op in named(name).values() if not op.name.startswith("encoder."))
    assert (decoder.params, decoder.macs) == (params, macs)


@BOTH
def test_levels(name: str) -> None:
    ops, features = named(name), PUBLISHED[name][3]
    height, width = PUBLISHED[name][0]
    for level, skip in enumerate((256, 128, 64, 64), start=1):
        at, stride = f"decoder.{level}.", 2 ** (5 - level)
        assert ops[at + "upsample"].detail == "bilinear"
        concat, a, b = ops[at + "concat"], ops[at + "a"], ops[at + "b"]
        before = features // 2 ** (level - 1)
        assert concat.out_channels == a.in_channels == before + skip
        assert a.out_channels == b.in_channels == b.out_channels == before // 2
        assert {(op.kernel, op.bias) for op in (a, b)} == {(3, True)}
        assert (b.height * stride, b.width * stride) == (height, width)
        assert ops[at + "b.act"].detail == "leaky_relu"
    head = ops["head.conv"]
    assert (head.in_channels, head.out_channels, head.kernel) == (features // 16, 1, 3)
    assert (2 * head.height, 2 * head.width) == (height, width)
    assert not any(op.kind == "norm" for op in ops.values() if op.name.startswith("decoder"))


@pytest.mark.parametrize(
    ("encoder", "features", "target"),
    [("densenet121", 16, "log"), ("densenet121", 77, "linear"), ("densenet169", 100, "inverse")],
)
def test_closed_form_is_what_runs(encoder: str, features: int, target: str) -> None:
    made = genotype(encoder, features, target)
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
        ({"features": 15}, "features: 15 is not allowed; allowed: whole numbers from 16 to 4096"),
        ({"encoder": "resnet18"}, "allowed: densenet121, densenet169"),
        ({"target": "depth"}, "allowed: log, inverse, linear"),
        ({"feature": 3}, "did you mean features"),
    ],
)
def test_wrong_specs_are_answered(change: dict[str, object], said: str) -> None:
    data = genotype("densenet121", 16, "log").to_dict()
    data["spec"] = {**data["spec"], **change}
    with pytest.raises(CompressError, match=said):
        Genotype.from_dict(data)
