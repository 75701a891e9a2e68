"""Closed form, the built network and fvcore must give one answer."""

from __future__ import annotations

import warnings

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.cost import cost
from compress.cost.count import operators
from compress.cost.trace import trace
from compress.models import DepthNet, build
from compress.space import Genotype, Operator, load_space, space_names, totals

SPACES = {name: load_space(name) for name in space_names()}
EACH_SPACE = pytest.mark.parametrize("name", sorted(SPACES))
sizes = st.tuples(st.integers(16, 160), st.integers(16, 160))

# A network small enough to be counted on paper: 16x16 in, two stages of one module each.
TINY = Genotype(
    "depthnet-nano",
    {
        "stem": 2,
        "stages": [
            {"widths": [3], "projection": 1.0, "expansion": 2.0, "transition": 4},
            {"widths": [5], "projection": 1.0, "expansion": 2.0, "transition": 6},
        ],
        "decoder": [[3, 2], [2, 2]],
        "decoder_expansion": 1.0,
        "norm": "projection",
    },
    (16, 16),
)


def test_by_hand() -> None:
    convolutions = {  # weights, and the positions they are applied at
        "stem 7x7, 3 to 2": (3 * 2 * 49, 8 * 8),
        # from here on at 4x4; the projection has round(sqrt(2)) = 1 channel, the expansion 2
        "stage 1: project, expand, depthwise, reduce": (2 * 1 + 1 * 2 + 2 * 9 + 2 * 3, 4 * 4),
        "transition 1, 2 + 3 to 4": (5 * 4, 4 * 4),
        # from here on at 2x2; the projection has sqrt(4) = 2 channels, the expansion 4
        "stage 2": (4 * 2 + 2 * 4 + 4 * 9 + 4 * 5, 2 * 2),
        "transition 2, 4 + 5 to 6": (9 * 6, 2 * 2),
        # 6 channels and the pooled stem's 2, at 4x4
        "up 1 a": (8 * 8 + 8 * 9 + 8 * 3, 4 * 4),
        "up 1 b": (3 * 3 + 3 * 9 + 3 * 2, 4 * 4),
        # 2 channels and the stem's 2, at 8x8
        "up 2 a": (4 * 4 + 4 * 9 + 4 * 2, 8 * 8),
        "up 2 b": (2 * 2 + 2 * 9 + 2 * 2, 8 * 8),
        "head 3x3": (2 * 9, 8 * 8),
    }
    params = sum(weights for weights, _ in convolutions.values()) + 1  # the head's bias
    params += 2 * 1 + 2 * 2  # scale and shift of two batch norms
    macs = sum(weights * positions for weights, positions in convolutions.values())
    norms = 2 * (1 * 4 * 4 + 2 * 2 * 2)
    nearest = 6 * 4 * 4 + 2 * 8 * 8
    bilinear = 4 * 16 * 16
    assert (params, macs) == (781, 29_976)
    for counted in (cost(TINY), cost(build(TINY, seed=0))):
        assert counted[:4] == (params, macs, macs + norms + nearest + bilinear, (16, 16))
        assert counted.uncounted == ()


def on_meta(genotype: Genotype) -> DepthNet:
    """As good as any for what reads no values, and quick."""
    with torch.device("meta"):
        return build(genotype)


@EACH_SPACE
@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), size=sizes)
def test_closed_form_is_what_runs(name: str, seed: int, size: tuple[int, int]) -> None:
    genotype = SPACES[name].sample(seed)
    model = on_meta(genotype)
    traced = trace(model, size)
    assert traced.uncounted == () and traced.other == 0
    unnamed = [op._replace(name="") for op in traced.operators]
    assert [op._replace(name="") for op in operators(genotype, size)] == unnamed
    sums = totals(traced.operators)
    assert cost(genotype, size)[:3] == sums
    assert sums.params == sum(p.numel() for p in model.parameters())


@EACH_SPACE
def test_heads_of_training_are_not_counted(name: str) -> None:
    genotype = SPACES[name].smallest
    model = on_meta(genotype)
    model.add_auxiliary()
    model.drop_auxiliary()
    assert cost(model) == cost(genotype)


@EACH_SPACE
def test_names_of_operators_are_their_own(name: str) -> None:
    for genotype in (SPACES[name].smallest, SPACES[name].sample(7), SPACES[name].sample(8)):
        ops = operators(genotype)
        assert len({op.name for op in ops}) == len(ops)


@pytest.mark.parametrize(("seed", "size"), [(7, (33, 47)), (8, (64, 96)), (15, (97, 61))])
@EACH_SPACE
def test_closed_form_is_what_fvcore_counts(name: str, seed: int, size: tuple[int, int]) -> None:
    genotype = SPACES[name].sample(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        # fvcore runs the network, on whatever values: they are not even drawn.
        model = on_meta(genotype).to_empty(device="cpu").eval()
        analysis = FlopCountAnalysis(model, torch.zeros(1, 3, *size))
        analysis.unsupported_ops_warnings(False)
        macs, macs_all = analysis.by_operator()["conv"], analysis.total()
    counted = cost(genotype, size)
    assert (counted.macs, counted.macs_all) == (macs, macs_all)


@EACH_SPACE
def test_references_are_what_runs(name: str) -> None:
    for reference in SPACES[name].references.values():
        assert cost(reference.genotype) == cost(on_meta(reference.genotype))


kinds = st.sampled_from(["conv", "linear", "matmul", "norm", "upsample", "pool", "activation"])
whole = st.integers(1, 40)


@st.composite
def any_operator(draw: st.DrawFn) -> Operator:
    kind = draw(kinds)
    details = {
        "norm": ["batch", "batch-plain", "own", "own-plain"],
        "upsample": ["nearest", "bilinear"],
    }
    groups = draw(st.integers(1, 4)) if kind == "conv" else 1
    return Operator(
        "x",
        kind,
        groups * draw(whole),
        groups * draw(whole),
        draw(whole),
        draw(whole),
        draw(st.integers(1, 7)) if kind == "conv" else 1,
        draw(st.integers(1, 2)),
        groups,
        draw(st.booleans()),
        draw(st.sampled_from(details.get(kind, [""]))),
        draw(st.sampled_from([0, 3])) if kind == "conv" else 0,
    )


@given(ops=st.lists(any_operator(), max_size=8))
def test_totals_are_the_sums_of_properties(ops: list[Operator]) -> None:
    assert totals(ops) == (
        sum(op.params for op in ops),
        sum(op.macs for op in ops),
        sum(op.macs_all for op in ops),
    )


@EACH_SPACE
def test_operators_of_a_genotype_are_summed_right(name: str) -> None:
    for seed in range(10):
        ops = operators(SPACES[name].sample(seed))
        assert totals(ops) == (
            sum(op.params for op in ops),
            sum(op.macs for op in ops),
            sum(op.macs_all for op in ops),
        )
