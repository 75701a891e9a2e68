"""Multiply-adds by hand, and over several images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.errors import CompressError
from compress.gating.account import macs_over
from compress.gating.executor import GatedExecutor
from compress.models.blocks.gates import ChannelGate, FollowingConv, GatedConv

SIZE = (4, 6)


class Small(nn.Module):
    """Channels 3 to 8 to 8 (depthwise) to 4, a sum with the second, a head."""

    def __init__(self, density: float) -> None:
        super().__init__()
        self.a = GatedConv(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), ChannelGate(3, 8, density))
        self.d = FollowingConv(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Identity())
        self.b = GatedConv(nn.Conv2d(8, 8, 1), nn.Identity(), ChannelGate(8, 8, density))
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.a(x))
        x = F.leaky_relu(self.d(x))
        return self.head(self.b(x) + x)


def made(density: float) -> GatedExecutor:
    return GatedExecutor(Small(density).double().eval(), SIZE, choose="gather")


def test_macs_are_those_of_the_active_channels_and_the_gates():
    executor = made(0.5)
    executor(torch.randn(1, 3, *SIZE, dtype=torch.float64))
    pixels = SIZE[0] * SIZE[1]
    read, wanted = executor.channels[0]["head"]
    assert wanted == 1 and 4 <= read <= 8  # the union of two times four
    convs = pixels * (9 * 3 * 4 + 9 * 4 + 4 * 4 + read * 1)
    gates = 3 * 8 + pixels * 3 + 8 * 8 + pixels * 8
    assert executor.macs == [convs + gates]
    assert executor.dense_macs == pixels * (9 * 3 * 8 + 9 * 8 + 8 * 8 + 8)
    # Of what the second gate reads, four channels were there.
    assert executor.macs_run == [convs + 3 * 8 + pixels * 3 + 4 * 8 + pixels * 4]


def test_layers_that_run_whole_count_whole():
    model = Small(0.5).double().eval()
    executor = GatedExecutor(model, SIZE, choose="dense")
    executor(torch.randn(1, 3, *SIZE, dtype=torch.float64))
    pixels = SIZE[0] * SIZE[1]
    gates = 3 * 8 + pixels * 3 + 4 * 8 + pixels * 4
    assert executor.macs_run == [executor.dense_macs + gates]
    assert executor.macs[0] < executor.dense_macs


def test_a_spread_is_over_all_images_of_all_batches():
    executor = made(0.5)
    images = [torch.randn(2, 3, *SIZE, dtype=torch.float64) for _ in range(5)]
    each = []
    for batch in images:
        for image in batch.split(1):
            executor(image)
            each += executor.macs
    spread = macs_over(executor, images)
    assert len(set(each)) > 1
    assert spread.images == 10 and spread.worst == max(each)
    assert spread.mean == pytest.approx(sum(each) / 10)
    assert sorted(each)[-2] <= spread.p95 <= max(each)
    assert spread.dense == executor.dense_macs
    assert spread.to_dict()["mean"] == spread.mean


def test_without_images_there_is_nothing_to_count():
    with pytest.raises(CompressError, match="no images"):
        macs_over(made(0.5), [])
