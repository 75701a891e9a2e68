"""Table 1 of the DepthNet Nano paper, row for row."""

from __future__ import annotations

from typing import Any

import pytest

from compress.cost import cost
from compress.cost.count import operators
from compress.space import Operator, load_space

PUBLISHED = {
    "nyu": {"size": (480, 640), "params": 3.46e6, "macs": 4.4e9},
    "kitti": {"size": (384, 1280), "params": 1.75e6, "macs": 4.66e9},
}
# Output channels: the first rows of a stage, the last one, the number of its modules.
STAGES = {
    "nyu": [
        ([16, 16, 18, 20], 20, 6),
        ([11, 15, 19, 19], 22, 12),
        ([17, 16, 16, 17], 20, 32),
        ([19, 15, 19, 18], 15, 32),
    ],
    "kitti": [
        ([13, 15, 18, 13], 17, 6),
        ([9, 13, 13, 18], 19, 12),
        ([13, 14, 18, 15], 14, 32),
        ([17, 13, 14, 12], 11, 32),
    ],
}
STEM = {"nyu": 15, "kitti": 14}
TRANSITIONS = {"nyu": [57, 133, 336, 302], "kitti": [30, 79, 117, 176]}
DECODER = {
    "nyu": [(138, 118), (54, 40), (23, 16), (11, 12)],
    "kitti": [(86, 112), (47, 48), (28, 25), (17, 24)],
}
BOTH = pytest.mark.parametrize("name", ["nyu", "kitti"])


def named(name: str) -> dict[str, Operator]:
    ops = operators(load_space("depthnet-nano").reference(name))
    assert len({op.name for op in ops}) == len(ops)
    return {op.name: op for op in ops}


@BOTH
def test_published_size_and_multiply_adds(name: str) -> None:
    published: dict[str, Any] = PUBLISHED[name]
    genotype = load_space("depthnet-nano").reference(name)
    result = cost(genotype)
    assert result.size == genotype.size == published["size"]
    assert result.params == pytest.approx(published["params"], rel=0.015)
    assert result.macs == pytest.approx(published["macs"], rel=0.015)


@BOTH
def test_output_channels(name: str) -> None:
    ops = named(name)
    assert ops["stem"].out_channels == STEM[name]
    assert (ops["stem"].kernel, ops["stem"].stride) == (7, 2)
    for stage, (first, last, count) in enumerate(STAGES[name], 1):
        widths = [
            op.out_channels
            for op in ops.values()
            if op.name.startswith(f"stage{stage}.") and op.name.endswith(".reduce")
        ]
        assert (widths[: len(first)], widths[-1], len(widths)) == (first, last, count)
        # The rows left out run evenly between their neighbours.
        low, high = sorted((first[-1], last))
        between = widths[len(first) - 1 :]
        assert all(low <= width <= high for width in between)
        assert between in (sorted(between), sorted(between, reverse=True))
    for stage, width in enumerate(TRANSITIONS[name], 1):
        op = ops[f"transition{stage}"]
        assert (op.out_channels, op.kernel, op.bias) == (width, 1, False)
    for level, pair in enumerate(DECODER[name], 1):
        assert tuple(ops[f"up{level}.{x}.reduce"].out_channels for x in "ab") == pair
    assert (ops["head"].out_channels, ops["head"].kernel) == (1, 3)


@BOTH
def test_strides_of_every_level(name: str) -> None:
    ops = named(name)
    height, width = PUBLISHED[name]["size"]  # type: ignore[misc]
    strides = {"stem.act": 2, "stem.pool": 4, "transition4.act": 32, "head": 2}
    strides |= {"head.upsample": 1, "head.clamp": 1}
    for stage in (1, 2, 3, 4):
        strides[f"stage{stage}.1.reduce"] = 2 ** (stage + 1)
        strides[f"up{stage}.b.reduce"] = 2 ** (5 - stage)
    for stage in (1, 2, 3):
        strides[f"transition{stage}.pool"] = 2 ** (stage + 2)
    assert "transition4.pool" not in ops
    for op, stride in strides.items():
        assert (ops[op].height * stride, ops[op].width * stride) == (height, width), op


@BOTH
def test_dense_inputs_and_skips(name: str) -> None:
    ops = named(name)
    channels = STEM[name]
    for stage, (_, _, count) in enumerate(STAGES[name], 1):
        for module in range(1, count + 1):
            assert ops[f"stage{stage}.{module}.project"].in_channels == channels
            channels += ops[f"stage{stage}.{module}.reduce"].out_channels
        assert ops[f"transition{stage}"].in_channels == channels
        channels = TRANSITIONS[name][stage - 1]
    skips = [TRANSITIONS[name][1], TRANSITIONS[name][0], STEM[name], STEM[name]]
    for level, skip in enumerate(skips, 1):
        assert ops[f"up{level}.a.expand"].in_channels == channels + skip
        channels = DECODER[name][level - 1][1]


def test_published_figures_stand_in_the_space() -> None:
    space = load_space("depthnet-nano")
    for name, published in PUBLISHED.items():
        given = space.references[name].published
        assert (given["params"], given["macs"]) == (published["params"], published["macs"])
    accuracy = {
        name: tuple(space.references[name].published[k] for k in ("delta1", "abs_rel", "rmse"))
        for name in PUBLISHED
    }
    assert accuracy == {"nyu": (0.816, 0.139, 0.599), "kitti": (0.894, 0.103, 3.916)}
