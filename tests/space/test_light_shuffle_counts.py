"""The light-shuffle family next to what is published of it, and to what runs."""

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

SPACE = load_space("light-shuffle")
PAPER = SPACE.reference("paper")
ENCODER = 250_208  # MobileNetV2 x0.35 without its last convolution


def changed(**values: object) -> dict[str, object]:
    """The paper's network with some parameters changed; dots are written as two underscores."""
    spec = dict(PAPER.spec) | {key.replace("__", "."): value for key, value in values.items()}
    return PAPER.to_dict() | {"spec": spec}


def stage(name: str, prefix: str) -> list[Operator]:
    return [op for op in operators(SPACE.reference(name)) if op.name.startswith(prefix)]


def test_published_size() -> None:
    assert PAPER.size == (320, 1056)
    assert SPACE.references["paper"].published == {"params": 0.32e6}
    assert cost(PAPER).params == pytest.approx(0.32e6, rel=0.02)
    assert cost(PAPER).params == 320_001
    assert sum(op.params for op in stage("paper", "encoder.")) == ENCODER


def bottleneck(cin: int, cout: int, expansion: int = 3) -> int:
    """Weights of three convolutions and their norms."""
    hidden = cin * expansion
    return hidden * (cin + 9 + cout) + 4 * hidden + 2 * cout


def test_decoders_by_hand() -> None:
    """112 channels at 1/32; skips of 32, 16, 8 and 8; two bottlenecks a decoder."""
    cin = 112
    params = [ENCODER]
    for width, skip in zip((56, 32, 24, 16), (32, 16, 8, 8), strict=True):
        params.append(bottleneck(cin // 4 + skip, width) + bottleneck(width, width))
        cin = width
    heads = {"xs": 56, "s": 32, "m": 24, "paper": 16}
    for count, (name, width) in enumerate(heads.items(), start=1):
        assert cost(SPACE.reference(name)).params == sum(params[: count + 1]) + width + 1
    assert cost(SPACE.reference("joint")).params == sum(params) + 20 * (16 + 1)


@pytest.mark.parametrize(
    ("name", "size"), [("xs", (20, 66)), ("s", (40, 132)), ("m", (80, 264)), ("paper", (160, 528))]
)
def test_outputs_have_the_published_sizes(name: str, size: tuple[int, int]) -> None:
    head, upsample, _ = stage(name, "head.")
    assert (head.height, head.width, head.out_channels) == (*size, 1)
    assert (upsample.height, upsample.width) == (320, 1056)


def test_smaller_references_are_the_first_decoders() -> None:
    def decoders(name: str) -> list[Operator]:
        return [op for op in operators(SPACE.reference(name)) if op.name.startswith("decoder.")]

    for count, name in enumerate(("xs", "s", "m"), start=1):
        ops = decoders(name)
        assert ops == decoders("paper")[: len(ops)]
        assert {op.name.split(".")[1] for op in ops} == {str(n) for n in range(1, count + 1)}
    assert decoders("joint") == decoders("paper")


def test_segmentation_is_counted() -> None:
    ops = stage("joint", "segmentation.")
    assert [(op.kind, op.out_channels) for op in ops] == [("conv", 19), ("upsample", 19)]
    assert stage("paper", "segmentation.") == []
    extra = cost(SPACE.reference("joint")).macs - cost(PAPER).macs
    assert extra == 16 * 19 * 160 * 528


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(16, 130), st.integers(16, 130)),
    classes=st.sampled_from([0, 2, 19, 64]),
)
def test_closed_form_is_what_runs(seed: int, size: tuple[int, int], classes: int) -> None:
    spec = {**SPACE.sample(seed).spec, "segmentation": classes}
    genotype = Genotype.from_dict(changed(**spec))
    with torch.device("meta"):
        traced = trace(build(genotype), size)
    assert traced.uncounted == () and traced.other == 0
    unnamed = [op._replace(name="") for op in traced.operators]
    assert [op._replace(name="") for op in operators(genotype, size)] == unnamed


def test_decoders_that_are_not_there_make_no_difference() -> None:
    values = dict(SPACE.sample(3).values)
    keys = [f"{kind}.{level}" for kind in ("width", "bottlenecks") for level in (2, 3, 4)]

    def hashes(decoders: int, key: str) -> int:
        fixed = values | {"decoders": decoders}
        return len({SPACE.genotype(fixed | {key: v}).hash for v in SPACE.choices[key]})

    for key in keys:
        assert hashes(1, key) == 1
        assert hashes(4, key) == len(SPACE.choices[key])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width__2": 30}, "width.2 = 30: .* write a multiple of 4"),
        ({"width__2": 30, "decoders": 1}, "width.2 = 30: .* write a multiple of 4"),
        ({"segmentation": 1}, "segmentation = 1: one class"),
        ({"segmentation": 65}, "segmentation: 65 is not allowed"),
        ({"decoders": 5}, "decoders: 5 is not allowed; allowed: whole numbers from 1 to 4"),
        ({"bottlenecks__1": 0}, "bottlenecks.1: 0 is not allowed"),
        ({"encoder": "resnet18"}, "encoder: 'resnet18' is not allowed"),
    ],
)
def test_wrong_networks_are_answered(values: dict[str, object], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        Genotype.from_dict(changed(**values))


def test_wrong_choices_are_answered() -> None:
    space = SPACE.restricted({"width.1": [18]})
    with pytest.raises(CompressError, match=r"width\.1 = 18: .* multiple of 4"):
        space.sample(0)
