"""FastDepth's widths and counts, as published."""

from __future__ import annotations

import pytest
import torch

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import Genotype, Operator, load_space

SPACE = load_space("fastdepth")
# NetAdapt's result, from the published code: first convolution and pointwise ones, in order.
PRUNED = [16, 56, 88, 120, 144, 256, 408, 376, 272, 288, 296, 328, 480, 512]
PRUNED_DECODER = [200, 256, 120, 56, 16, 1]


def convolutions(name: str) -> list[Operator]:
    return [op for op in operators(SPACE.reference(name)) if op.kind == "conv"]


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [("original", 3_933_088, 736_658_944), ("pruned", 1_343_664, 366_393_384)],
)
def test_published_counts(name: str, params: int, macs: int) -> None:
    genotype = SPACE.reference(name)
    ops = convolutions(name)
    # Convolutions alone, without the bias that the published head does not have.
    assert sum(op.params for op in ops) - ops[-1].bias == params
    assert cost(genotype).macs == macs
    assert genotype.size == (224, 224)
    published = SPACE.references[name].published
    assert params == pytest.approx(published["params"], rel=0.005)
    assert macs == pytest.approx(published["macs"], rel=0.011)


def test_published_widths() -> None:
    ops = [op for op in convolutions("pruned") if op.groups == 1]
    assert [op.out_channels for op in ops] == PRUNED + PRUNED_DECODER
    assert all(op.kernel == 1 for op in ops[1:])
    depthwise = [op for op in convolutions("pruned") if op.groups > 1]
    assert [op.kernel for op in depthwise] == [3] * 13 + [5] * 5
    original = [op.out_channels for op in convolutions("original") if op.groups == 1]
    assert original[14:] == [512, 256, 128, 64, 32, 1]


def test_decoder_follows_the_encoder_where_skips_are_added() -> None:
    for seed in range(20):
        spec = SPACE.sample(seed).spec
        ops = {op.name: op for op in operators(SPACE.sample(seed), (64, 96))}
        for level, index, stride in ((2, 5, 8), (3, 3, 4), (4, 1, 2)):
            add = ops[f"decoder.{level}.add"]
            assert add.out_channels == spec[f"encoder.{index}"]
            assert ops[f"decoder.{level}.pointwise"].out_channels == add.out_channels
            assert (add.height, add.width) == (64 // stride, 96 // stride)
        assert sum(op.kind == "add" for op in ops.values()) == 3
        assert ops["decoder.5.upsample"].height == 64


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(16, 16), (17, 30), (33, 97)])
def test_closed_form_of_any_size(seed: int, size: tuple[int, int]) -> None:
    genotype = SPACE.sample(seed)
    with torch.device("meta"):
        traced = trace(build(genotype), size)
    assert [op._replace(name="") for op in traced.operators] == [
        op._replace(name="") for op in operators(genotype, size)
    ]


def test_every_choice_makes_another_network() -> None:
    values = dict(SPACE.sample(0).values)
    for key, allowed in SPACE.choices.items():
        assert len({SPACE.genotype(values | {key: value}).hash for value in allowed}) == len(
            allowed
        )


def test_a_kernel_has_a_centre() -> None:
    data = SPACE.sample(0).to_dict()
    data["spec"] = data["spec"] | {"kernel": 4}
    with pytest.raises(CompressError, match="kernel = 4: write an odd number"):
        Genotype.from_dict(data)
    with pytest.raises(CompressError, match="kernel = 4: write an odd number"):
        SPACE.restricted({"kernel": 4}).sample(0)


def test_small_is_small() -> None:
    small = SPACE.reference("small")
    assert small.size == SPACE.size == (96, 128)
    assert cost(small).params < 300_000
