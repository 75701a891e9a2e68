"""Multiply-adds of gated networks: published figures, sums by hand, and the dense count."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.cost import cost
from compress.errors import CompressError
from compress.gating.macs import expected_macs, gated_macs
from compress.gating.sites import find_sites, sites
from compress.models.blocks.separable import unit
from compress.models.gates import attach, gates_of, set_density

# Channels and stride of each layer.
CIFARNET = ((64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (192, 2), (192, 1), (192, 1))


def cifarnet() -> nn.Module:
    """M-CifarNet, the network of the published figures; its first layer has no padding."""
    layers: list[nn.Module] = []
    for index, ((cin, _), (cout, stride)) in enumerate(pairwise([(3, 1), *CIFARNET])):
        conv = nn.Conv2d(cin, cout, 3, stride, padding=int(index > 0), bias=False)
        layers += [conv, nn.BatchNorm2d(cout), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, 10)).eval()


def gated(model: nn.Module, size: tuple[int, int], density: float = 1.0) -> nn.Module:
    attach(model, sites(find_sites(model, size)), density=density)
    return model


@pytest.mark.parametrize(
    ("density", "macs"),
    [
        (1.0, 174_299_904),
        (0.9, 142_816_176),
        (0.8, 113_435_694),
        (0.5, 43_963_776),
        (0.3, 16_643_790),
    ],
)
def test_published_figures(density: float, macs: int) -> None:
    model = gated(cifarnet(), (32, 32), density)
    found = gated_macs(model, (32, 32))
    assert found.convs == macs
    assert found.dense == 174_299_904 + 1920
    widths = [3, *(width for width, _ in CIFARNET)]
    assert found.predictors == sum(a * b for a, b in pairwise(widths))
    sides = (32, 30, 30, 15, 15, 15, 8, 8)
    assert found.pooling == sum(c * s * s for c, s in zip(widths, sides, strict=False))
    assert found.linear == math.ceil(density * 192) * 10
    assert expected_macs(model, (32, 32)) == sum(found[:4])


def one(cin: int, cout: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*unit(cin, cout, kernel, groups))


class Meets(nn.Module):
    """Two convolutions whose outputs are added or put side by side, a depthwise one, another."""

    def __init__(self, a: int, b: int, beside: bool) -> None:
        super().__init__()
        self.a, self.b, self.beside = one(3, a), one(3, b), beside
        both = a + b if beside else a
        self.depthwise = one(both, both, 3, both)
        self.last = one(both, 16, 3)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        x = torch.cat((a, b), 1) if self.beside else a + b
        out: Tensor = self.head(self.last(self.depthwise(x)))
        return out


@settings(max_examples=6)
@given(
    a=st.integers(8, 20),
    more=st.integers(0, 9),
    beside=st.booleans(),
    first=st.floats(0.05, 1),
    second=st.floats(0.05, 1),
)
def test_a_union_by_hand(a: int, more: int, beside: bool, first: float, second: float) -> None:
    b = a + more if beside else a
    model = Meets(a, b, beside).eval()
    attach(model, sites(find_sites(model, (4, 6))))
    set_density(model, {"a.0": first, "b.0": second, "last.0": 0.5})
    ka, kb = math.ceil(round(first * a, 6)), math.ceil(round(second * b, 6))
    met = ka + kb if beside else min(a, ka + kb)
    both = a + b if beside else a
    found = gated_macs(model, (4, 6))
    assert found.convs == 24 * (3 * ka + 3 * kb + 9 * met + 9 * met * 8 + 8)
    assert found.predictors == 3 * a + 3 * b + both * 16
    assert found.pooling == 24 * (3 + 3 + both)
    assert found.dense == 24 * (3 * a + 3 * b + 9 * both + 9 * both * 16 + 16)
    assert gated_macs(model, (4, 6), {"last.0": 1.0}).convs - found.convs == 24 * (9 * met * 8 + 8)


class Wakes(nn.Module):
    """What ends silence: a norm behind a concatenation, and groups."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = one(3, 16), nn.BatchNorm2d(19)
        self.b = one(19, 16)
        self.grouped = one(16, 16, 3, 4)
        self.head = nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.grouped(self.b(self.norm(torch.cat((x, self.a(x)), 1)))))
        return out


def test_what_ends_silence_is_counted_whole() -> None:
    model = gated(Wakes().eval(), (2, 2), 0.5)
    assert list(gates_of(model)) == ["b.0"]
    assert gated_macs(model, (2, 2)).convs == 4 * (3 * 16 + 19 * 8 + 9 * 4 * 16 + 16)


def test_density_1_is_the_dense_count() -> None:
    model = Meets(9, 9, False).eval()
    dense = cost(model, (16, 16)).macs
    assert gated_macs(model, (16, 16))[:4] == (dense, 0, 0, 0)  # without gates
    found = gated_macs(gated(model, (16, 16)), (16, 16))
    assert found.convs == found.dense == dense


def test_less_dense_is_never_more() -> None:
    model = gated(cifarnet(), (32, 32))
    path = list(gates_of(model))[3]
    counts = [expected_macs(model, (32, 32), {path: d / 10}) for d in (1, 4, 7, 10)]
    assert counts == sorted(counts) and len(set(counts)) == 4


def test_wrong_densities() -> None:
    model = gated(Meets(8, 8, True).eval(), (8, 8))
    with pytest.raises(CompressError, match=r"unknown gate 'a.1'; did you mean a.0"):
        expected_macs(model, (8, 8), {"a.1": 0.5})
    with pytest.raises(CompressError, match=r"density of a.0 = 0: give a number above 0"):
        expected_macs(model, (8, 8), {"a.0": 0})
