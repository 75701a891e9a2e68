"""Layers of every shipped space, against the counts of the whole network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from compress.cost import cost, operators
from compress.report.layers import MOST_LAYERS, layers
from compress.space import load_space, space_names


class Table:
    """Predicts a millisecond for a convolution and a tenth for anything else."""

    def predict_per_operator(self, listed):
        return np.array([1.0 if op.kind == "conv" else 0.1 for op in listed])


@pytest.mark.parametrize("name", space_names())
@pytest.mark.parametrize("seed", [0, 1])
def test_layers_add_up_to_the_network(name, seed):
    genotype = load_space(name).sample(seed)
    size = (64, 96)
    found = layers(genotype, size, Table())
    whole = cost(genotype, size)
    assert sum(layer.params for layer in found) == whole.params
    assert sum(layer.macs for layer in found) == whole.macs
    kinds = [op.kind for op in operators(genotype, size)]
    expected_ms = kinds.count("conv") + 0.1 * (len(kinds) - kinds.count("conv"))
    assert sum(layer.latency_ms for layer in found) == pytest.approx(expected_ms)
    assert 5 <= len(found) <= MOST_LAYERS
    assert all(a.name != b.name for a, b in pairwise(found))
    # An image comes in, its depth goes out, and the maps between are smaller.
    assert (found[-1].height, found[-1].width) == size and any(
        (layer.height, layer.width, layer.channels) == (*size, 1) for layer in found[-3:]
    )
    assert min(layer.height for layer in found) < size[0] // 4


def test_blocks_are_named_by_what_their_parts_share():
    genotype = load_space("depthnet-nano").reference("tiny")
    fine, coarse = layers(genotype, most=10**6), layers(genotype, most=30)
    assert {"stage1.1.project", "stage1.1.reduce", "stem"} <= {layer.name for layer in fine}
    names = [layer.name for layer in coarse]
    assert "stage1.1" in names and "stem" in names and not any("project" in n for n in names)
    block = next(layer for layer in coarse if layer.name == "stage1.1")
    parts = [layer for layer in fine if layer.name.startswith("stage1.1.")]
    assert block.params == sum(part.params for part in parts) > 0
    assert (block.channels, block.height) == (parts[-1].channels, parts[-1].height)


def test_without_a_table_there_are_no_milliseconds():
    found = layers(load_space("fastdepth").smallest)
    assert {layer.latency_ms for layer in found} == {None}
