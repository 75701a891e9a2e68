"""MobileDepth's counts as published, and which of its choices make no difference."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import Genotype, Operator, load_space
from compress.space.encoders import encoder_channels
from compress.space.mobiledepth import BLOCKS, SKIP_LEVELS

SPACE = load_space("mobiledepth")
BASE = dict(SPACE.reference("small").values)


@pytest.mark.parametrize(
    ("name", "params", "macs_all", "channels"),
    [
        ("paper", 6.43e6, 0.70e9, 608),
        ("ds", 6.51e6, 0.73e9, 608),
        ("nnconv5", None, 0.76e9, 1024),
    ],
)
def test_published_counts(name: str, params: float | None, macs_all: float, channels: int) -> None:
    """The published figures count a classifier of 1000 classes, and norms and interpolation."""
    found = cost(SPACE.reference(name))
    assert found.size == (224, 224)
    assert found.macs_all + 1000 * channels == pytest.approx(macs_all, rel=0.014)
    published = SPACE.references[name].published
    assert published["macs"] == macs_all
    if params:
        assert found.params + 1000 * (channels + 1) == pytest.approx(params, rel=0.004)
        assert published["params"] == params


def test_counts_by_hand() -> None:
    """The decoders of both published rows, added up from their widths."""
    widths, sides = [304, 112, 48, 32, 32], [7, 14, 28, 56, 112]
    for name in ("paper", "ds"):
        params, macs, cin = 32 + 1, 32 * 224**2, 608  # the head
        for c, side in zip(widths, sides, strict=True):
            h = c // 2
            if name == "paper":
                weights, biases = 2 * h * h + 25 * h, 3 * h
            else:
                weights, biases = c * c + 25 * c, 2 * c
            params += cin * c + c + 2 * (weights + biases)
            macs += (cin * c + 2 * weights) * side**2
            cin = c
        ops = [
            op for op in operators(SPACE.reference(name)) if op.name.startswith(("decoder", "head"))
        ]
        assert (sum(op.params for op in ops), sum(op.macs for op in ops)) == (params, macs)


def plain(genotype: Genotype, size: tuple[int, int] = (224, 224)) -> list[Operator]:
    return [op._replace(name="") for op in operators(genotype, size)]


def test_nnconv5_is_fastdepth() -> None:
    fastdepth = load_space("fastdepth").reference("original")
    ours, theirs = plain(SPACE.reference("nnconv5")), plain(fastdepth)
    assert ours == theirs


def closed_form_is_what_runs(genotype: Genotype, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = build(genotype)
    traced = trace(model, size)
    assert traced.uncounted == () and traced.other == 0
    assert [op._replace(name="") for op in traced.operators] == plain(genotype, size)


@pytest.mark.parametrize("block", BLOCKS)
def test_closed_form_of_every_block(block: str) -> None:
    first = BLOCKS.index(block)  # which levels, kernel and units, so that all come up
    for number, (norm, se) in enumerate(itertools.product(("none", "batch"), ("none", "se"))):
        values = BASE | {"block": block, "norm": norm, "se": se}
        values |= {"skip": ("add", "concat", "none")[number % 3], "head": "conv3"}
        values |= {"skip_levels": SKIP_LEVELS[(first + number) % 5], "kernel": 3 + 2 * (first % 2)}
        values |= {"upsample": ("nearest", "bilinear")[number % 2], "units": 1 + number % 3}
        closed_form_is_what_runs(SPACE.genotype(values), (16 + 5 * number, 16 + 3 * first))


@pytest.mark.parametrize("seed", range(8))
def test_closed_form_of_samples(seed: int) -> None:
    closed_form_is_what_runs(SPACE.sample(seed), [(16, 16), (33, 47)][seed % 2])


def hashes(fixed: dict[str, Any], key: str) -> int:
    return len({SPACE.genotype(BASE | fixed | {key: v}).hash for v in SPACE.choices[key]})


def test_choices_that_nothing_uses_make_no_difference() -> None:
    assert hashes({"skip": "none"}, "skip_levels") == 1
    assert hashes({"skip": "concat"}, "skip_levels") == len(SPACE.choices["skip_levels"])
    assert hashes({"block": "nnconv5"}, "units") == hashes({"block": "nnconv5"}, "kernel") == 1
    assert hashes({}, "units") == len(SPACE.choices["units"])
    for levels in SPACE.choices["skip_levels"]:
        meets = {int(stride) for stride in levels.split(",")}
        for level, stride in enumerate((16, 8, 4, 2, 1), start=1):
            key, count = f"decoder.{level}", len(SPACE.choices[f"decoder.{level}"])
            tied = {"skip": "add", "skip_levels": levels}
            assert hashes(tied, key) == (1 if stride in meets else count)
            assert hashes(tied | {"skip": "concat"}, key) == count


def test_added_skips_decide_widths() -> None:
    for name in SPACE.choices["encoder"]:
        spec = SPACE.genotype(BASE | {"encoder": name, "skip_levels": "16,8,4,2"}).spec
        channels = encoder_channels(name)
        assert [spec[f"decoder.{level}"] for level in range(1, 5)] == list(channels[3::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.2": 64}, "decoder.2 = 64: the skip that is added there has 24 channels"),
        ({"kernel": 4}, "kernel = 4: write an odd number"),
        ({"decoder.5": 17}, "decoder.5 = 17: split-shuffle halves it"),
        ({"encoder": "resnet"}, "encoder: 'resnet' is not allowed"),
        ({"unit": 2}, "unknown parameter 'unit'; did you mean units"),
    ],
)
def test_wrong_specs_are_answered(change: dict[str, Any], message: str) -> None:
    data = SPACE.reference("small").to_dict()
    data["spec"] = data["spec"] | change
    with pytest.raises(CompressError, match=message):
        Genotype.from_dict(data)


def test_settled_specs_are_read_back() -> None:
    for seed in range(100):
        genotype = SPACE.sample(seed)
        again = Genotype.from_json(genotype.to_json())
        assert (again, again.spec) == (genotype, genotype.spec)
