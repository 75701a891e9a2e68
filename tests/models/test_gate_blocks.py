"""Gates against the published equations, written out anew, channel by channel."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compress.models.blocks.gates import (
    ChannelGate,
    FollowingConv,
    FollowingNorm,
    GatedConv,
    ShiftNorm,
    alive,
    as_operators,
    saliency,
    winners,
)


def kept_by_hand(row: list[float], active: int, block: int) -> list[float]:
    """What stays of a row: whole blocks by their sum, of equals the first."""
    starts = range(0, len(row), block)
    best = sorted(starts, key=lambda at: (-math.fsum(row[at : at + block]), at))
    stays = {at + i for at in best[: active // block] for i in range(block)}
    return [value if index in stays else 0.0 for index, value in enumerate(row)]


@settings(max_examples=60)
@given(data=st.data())
def test_winners_by_hand(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from([1, 2, 4]))
    blocks = data.draw(st.integers(1, 9))
    active = block * data.draw(st.integers(1, blocks))
    # Few different values: many equals.
    value = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])
    rows = data.draw(
        st.lists(
            st.lists(value, min_size=block * blocks, max_size=block * blocks),
            min_size=1,
            max_size=3,
        )
    )
    found = winners(torch.tensor(rows), active, block)
    assert found.tolist() == [kept_by_hand(row, active, block) for row in rows]


def test_the_gradient_flows_through_what_stays() -> None:
    g = torch.tensor([[3.0, 1.0, 2.0, 0.5]], requires_grad=True)
    winners(g, 2).pow(2).sum().backward()
    assert g.grad is not None and g.grad.tolist() == [[6.0, 0.0, 4.0, 0.0]]


@pytest.mark.parametrize(
    ("density", "channels", "block", "active"),
    [(0.7, 10, 1, 7), (0.71, 10, 1, 8), (1e-9, 10, 1, 1), (1.0, 10, 1, 10), (0.5, 7, 1, 4),
     (0.3, 16, 4, 8), (0.25, 16, 4, 4), (0.01, 16, 8, 8)],
)  # fmt: skip
def test_how_many_win(density: float, channels: int, block: int, active: int) -> None:
    assert ChannelGate(3, channels, density, block).active == active


def test_channels_are_whole_blocks() -> None:
    with pytest.raises(ValueError, match="10 channels are no multiple of the block 4"):
        ChannelGate(3, 10, block=4)


def by_hand(x: Tensor, gated: GatedConv) -> Tensor:
    """relu(wta(relu(ss(x) phi + rho))) (norm(conv(x)) + beta), image by image."""
    norm, linear = gated.norm, gated.gate.predictor
    assert isinstance(norm, ShiftNorm)
    out = []
    for image in x:
        means = [float(channel.abs().sum()) / channel.numel() for channel in image]
        row = [
            max(0.0, sum(w * m for w, m in zip(weights, means, strict=True)) + bias)
            for weights, bias in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
        ]
        scales = kept_by_hand(row, gated.gate.active, gated.gate.block)
        maps = torch.nn.functional.conv2d(image[None], gated.conv.weight, padding=1)[0]
        out.append(
            torch.stack(
                [
                    scale * ((plane - mean) / math.sqrt(var + norm.eps) + beta)
                    for scale, plane, mean, var, beta in zip(
                        scales, maps, norm.running_mean.tolist(), norm.running_var.tolist(),
                        norm.bias.tolist(), strict=True,
                    )
                ]
            )
        )  # fmt: skip
    return torch.stack(out)


def made(cin: int = 5, cout: int = 8, density: float = 0.5, block: int = 1) -> GatedConv:
    generator = torch.Generator().manual_seed(2)
    norm = ShiftNorm(cout)
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.running_var, norm.bias):
            tensor.copy_(torch.rand(cout, generator=generator) + 0.1)
    gate = ChannelGate(cin, cout, density, block)
    return GatedConv(nn.Conv2d(cin, cout, 3, padding=1, bias=False), norm, gate).eval()


@pytest.mark.parametrize(("density", "block"), [(1.0, 1), (0.5, 1), (0.2, 1), (0.5, 2), (0.3, 4)])
def test_the_published_equation(density: float, block: int) -> None:
    gated = made(density=density, block=block)
    x = torch.randn(3, 5, 6, 7)
    with torch.no_grad():
        out = gated(x)
        torch.testing.assert_close(out, by_hand(x, gated))
    assert int(alive(out).sum(1).max()) <= gated.gate.active
    assert out.abs().sum() > 0


def test_images_of_a_batch_choose_for_themselves() -> None:
    gated = made(density=0.25)
    x = torch.randn(8, 5, 6, 6) * torch.rand(8, 5, 1, 1).mul(4)
    with torch.no_grad():
        out = gated(x)
        assert len({tuple(row) for row in alive(out).tolist()}) > 1
        for index in range(8):
            torch.testing.assert_close(gated(x[index : index + 1])[0], out[index])


def test_saliency_is_a_mean_of_sizes() -> None:
    x = torch.tensor([[[[1.0, -3.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    assert saliency(x).tolist() == [[2.0, 0.0]]
    assert alive(x).tolist() == [[1.0, 0.0]]


def test_a_depthwise_convolution_follows() -> None:
    norm = nn.BatchNorm2d(6)
    nn.init.uniform_(norm.bias, 1, 2)
    follows = FollowingConv(nn.Conv2d(6, 6, 3, padding=1, groups=6), norm).eval()
    x = torch.randn(2, 6, 5, 5)
    x[0, 1], x[1, 4], x[1, 5] = 0, 0, 0
    with torch.no_grad():
        out, plain = follows(x), norm(follows.conv(x))
        assert alive(out).tolist() == alive(x).tolist()
        assert (alive(plain) == 1).all()  # its shift wakes them
        torch.testing.assert_close(out[0, [0, 2, 3, 4, 5]], plain[0, [0, 2, 3, 4, 5]])
        follows.masks = False
        torch.testing.assert_close(follows(x), plain)


def test_a_norm_whose_scale_is_not_learned() -> None:
    own, plain = ShiftNorm(4, eps=1e-3, momentum=0.3), nn.BatchNorm2d(4, 1e-3, 0.3)
    with torch.no_grad():
        own.bias.copy_(torch.arange(4.0))
        plain.bias.copy_(own.bias)
        own.weight.copy_(torch.tensor([1.0, -0.5, 2.0, 0.0]))
        plain.weight.copy_(own.weight)
    assert set(own.state_dict()) == set(plain.state_dict())
    assert [name for name, _ in own.named_parameters()] == ["bias"]
    x = torch.randn(3, 4, 5, 5) * 2 + 1
    for mode in (True, False):  # the second with statistics of the first
        torch.testing.assert_close(own.train(mode)(x), plain.train(mode)(x))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_of_those_awake(momentum: float | None) -> None:
    """Channel by channel as batch norm would have it of only the images that need the channel."""
    norm = FollowingNorm(4, momentum=momentum)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    nn.init.constant_(norm.running_var, 7.0)
    wanted = [nn.BatchNorm2d(1, momentum=momentum) for _ in range(4)]
    for channel, plain in enumerate(wanted):
        plain.load_state_dict(
            {
                name: value[channel : channel + 1] if value.ndim else value
                for name, value in norm.state_dict().items()
            }
        )
    follows = FollowingConv(nn.Conv2d(4, 4, 1, groups=4, bias=False), norm).train()
    for _ in range(2):
        x = torch.randn(5, 4, 3, 3) * 3 + 1
        x[1:4, 1], x[:, 3] = 0, 0
        awake = [[0, 1, 2, 3, 4], [0, 4], [0, 1, 2, 3, 4], []]
        out, inner = follows(x), follows.conv(x)
        for channel, images in enumerate(awake):
            if images:
                plain = wanted[channel](inner[images, channel : channel + 1])
                torch.testing.assert_close(out[images, channel], plain[:, 0])
    assert not out[1:4, 1].any() and not out[:, 3].any()
    for channel in range(3):
        torch.testing.assert_close(norm.running_mean[channel], wanted[channel].running_mean[0])
        torch.testing.assert_close(norm.running_var[channel], wanted[channel].running_var[0])
    assert (float(norm.running_mean[3]), float(norm.running_var[3])) == (0.0, 7.0)  # as before
    follows.eval()
    torch.testing.assert_close(follows(x)[:, 0], norm(follows.conv(x))[:, 0])


def test_as_operators_traces_one_operator_a_gate_and_computes_the_same() -> None:
    network = nn.Sequential(
        made(), nn.ReLU(), FollowingConv(nn.Conv2d(8, 8, 3, groups=8), nn.Identity())
    )
    x = torch.randn(1, 5, 6, 6)
    with torch.no_grad():
        wanted = network(x)
        with as_operators():
            torch.testing.assert_close(network(x), wanted)
            program = torch.export.export(copy.deepcopy(network), (x,))
        plain = torch.export.export(copy.deepcopy(network), (x,))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called.count("compress.gate.default") == called.count("compress.alive.default") == 1
    assert not any("compress" in str(node.target) for node in plain.graph.nodes)
    torch.testing.assert_close(program.module()(x), wanted)
