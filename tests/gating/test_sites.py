"""Which convolutions are gated: by hand on toys and timm's networks, and what is kept for them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.errors import CompressError
from compress.gating.sites import find_sites, sites
from compress.models import build
from compress.models.blocks.inverted import SqueezeExcite
from compress.models.blocks.separable import unit
from compress.models.gates import Site, attach
from compress.models.timm_ import timm
from compress.space import load_space

SIZE = (8, 12)
END = (nn.Conv2d(8, 1, 1),)  # a head


def why_not(*modules: nn.Module, where: str = "all") -> list[str]:
    return [one.why_not for one in find_sites(nn.Sequential(*modules).eval(), SIZE, where)]


def first(**options: int) -> nn.Conv2d:
    return nn.Conv2d(3, 8, 1, **options)


@pytest.mark.parametrize(
    "behind",
    [
        nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.SELU(), nn.Tanh(),
        nn.LeakyReLU(0.2), nn.PReLU(8), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.ZeroPad2d(1),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Dropout2d(),
        nn.Hardtanh(-1, 2), SqueezeExcite(8, 8), nn.Identity(),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_keeps_zero_at_zero(behind: nn.Module) -> None:
    zeros = torch.zeros(1, 8, 4, 4)
    assert not behind.eval()(zeros).any()
    found = find_sites(nn.Sequential(first(), behind, *END).eval(), SIZE)
    assert [one.conv for one in found if not one.why_not] == ["0"]


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        (nn.Sigmoid(), "sigmoid"), (nn.Hardsigmoid(), "hardsigmoid"), (nn.Softplus(), "softplus"),
        (nn.Hardtanh(0.5, 2), "hardtanh"), (nn.GroupNorm(2, 8), "group_norm"),
        (nn.Softmax(1), "softmax"), (nn.ConstantPad2d(1, 0.5), "pad"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)), "batch_norm"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
def test_what_wakes(behind: nn.Module, said: str) -> None:
    network = (nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), behind, *END)
    assert why_not(*network) == ["", f"{said} behind it does not keep zero at zero",
                                 "has 1 channels, fewer than 8"]  # fmt: skip


class Net(nn.Module):
    """A toy whose forward is a function."""

    def __init__(self, run: Callable[[nn.ModuleDict, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.run = nn.ModuleDict(parts), run
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.parts, x)


def listed(net: nn.Module, where: str = "all") -> dict[str, str]:
    return {one.conv.removeprefix("parts."): one.why_not for one in find_sites(net, SIZE, where)}


def conv(cin: int = 8, cout: int = 8, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*unit(cin, cout, kernel, groups, act=False))


def test_a_shared_convolution_and_the_output_are_left_alone() -> None:
    net = Net(lambda m, x: m["c"](m["b"](m["b"](m["a"](x)))), a=conv(3), b=conv(), c=conv())
    assert listed(net) == {
        "a.0": "", "b.0": "runs several times", "c.0": "the network's own output"
    }  # fmt: skip


def test_a_norm_for_two_is_nobodys() -> None:
    net = Net(
        lambda m, x: m["end"](m["norm"](m["a"](x)) + m["norm"](m["b"](x)) + m["c"](x)),
        a=first(), b=first(), c=conv(3), norm=nn.BatchNorm2d(8), end=conv(8, 1),
    )  # fmt: skip
    assert list(listed(net).values())[:3] == [
        "batch_norm behind it does not keep zero at zero"
    ] * 2 + [""]


def test_depthwise_follows_only_what_is_silent() -> None:
    deep = conv(8, 8, 3, 8)
    follows = Net(lambda m, x: m["c"](m["d"](m["a"](x))), a=conv(3), d=deep, c=conv(8, 1))
    found = find_sites(follows, SIZE)
    assert [one.follow for one in found] == [False, True, False]
    assert sites(found) == [
        Site("parts.a.0", "parts.a.1"), Site("parts.d.0", "parts.d.1", follow=True)
    ]  # fmt: skip
    # The image itself is added: no channel is silent.
    awake = Net(
        lambda m, x: m["c"](m["d"](m["a"](x) + x[:, :1])), a=conv(3), d=deep, c=conv(8, 1)
    )  # fmt: skip
    assert listed(awake)["d.0"] == "depthwise, and reads no gated channels"
    assert listed(awake)["a.0"] == ""


def test_a_refusal_ends_others_silence() -> None:
    """b is refused, so that a + b is awake, d does not follow and its sigmoid harms nobody."""
    net = Net(
        lambda m, x: m["c"](
            m["d"](m["a"](x) + m["b"](x)).sigmoid() + m["e"](m["b"](x).sigmoid())
        ),
        a=conv(3), b=conv(3), d=conv(8, 8, 3, 8), e=conv(), c=conv(8, 1),
    )  # fmt: skip
    assert listed(net) == {
        "a.0": "", "b.0": "runs several times", "d.0": "depthwise, and reads no gated channels",
        "e.0": "", "c.0": "has 1 channels, fewer than 8",
    }  # fmt: skip


def test_squeeze_excite_and_groups() -> None:
    network = nn.Sequential(
        conv(3), SqueezeExcite(8, 8), conv(8, 8, 3, 2), conv(), conv(8, 1)
    ).eval()  # fmt: skip
    pooled = "reads pooled maps, as squeeze and excitation does"
    assert [one.why_not for one in find_sites(network, SIZE)] == [
        "", pooled, pooled, "grouped: a group's channels are computed together", "",
        "has 1 channels, fewer than 8",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "gated", "following", "others"),
    [
        # A stem, a last one, 10 expansions, 11 projections; 11 depthwise ones; the scales of 9
        # blocks, and the head.
        ("mobilenetv3_small_100", 23, 11, {"reads": 19}),
        # A stem, 13 blocks of 2 and 4 of downsampling; all with groups and scales.
        ("regnety_002", 31, 0, {"reads": 26, "grouped": 13}),
    ],
)
def test_known_networks(name: str, gated: int, following: int, others: dict[str, int]) -> None:
    model = timm().create_model(name).eval()
    before = copy.deepcopy(model.state_dict())
    found = find_sites(model, (64, 64))
    assert sum(not one.why_not and not one.follow for one in found) == gated
    assert sum(one.follow for one in found) == following
    assert Counter(one.why_not.split()[0].strip(":") for one in found if one.why_not) == others
    paths = dict(model.named_modules())
    assert all(paths[one.conv].out_channels == one.channels for one in found)
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
    )


def test_only_the_encoder() -> None:
    net = Net(
        lambda m, x: m["c"](nn.functional.interpolate(m["a"](x), scale_factor=2)),
        a=conv(3), c=nn.Sequential(conv(), conv(8, 1)),
    )  # fmt: skip
    assert listed(net, "encoder") == {
        "a.0": "", "c.0.0": "not in the encoder", "c.1.0": "not in the encoder"
    }  # fmt: skip
    model = build(load_space("fastdepth").smallest, seed=0)
    inside = [one for one in find_sites(model, (32, 32), "encoder") if not one.why_not]
    everywhere = [one for one in find_sites(model, (32, 32)) if not one.why_not]
    assert {one.conv for one in inside if not one.follow} == {
        one.conv for one in everywhere if one.conv.startswith("encoder.") and not one.follow
    }
    # The first of the decoder reads the encoder's last map.
    assert "decoder.levels.0.depthwise.0" in {one.conv for one in inside if one.follow}


def test_what_cannot_be_gated_is_said_in_one_line() -> None:
    with pytest.raises(CompressError, match=r"no convolution to gate in all.*0: the network's own"):
        find_sites(nn.Sequential(first()), SIZE)
    with pytest.raises(CompressError, match="no convolution to gate"):
        find_sites(nn.Sequential(nn.Flatten(), nn.Linear(3 * 96, 2)), SIZE)
    with pytest.raises(CompressError, match="did you mean encoder"):
        find_sites(nn.Sequential(first(), *END), SIZE, "encoders")
    with pytest.raises(CompressError, match="cannot be followed at 8x12") as caught:
        find_sites(nn.Sequential(nn.Conv2d(4, 8, 1)), SIZE)
    assert "\n" not in str(caught.value)
    model = nn.Sequential(first(), *END)
    attach(model, sites(find_sites(model, SIZE)))
    with pytest.raises(CompressError, match="has gates already"):
        find_sites(model, SIZE)


def test_looking_changes_nothing() -> None:
    model = nn.Sequential(conv(3), nn.Dropout(), conv(8, 1)).train()
    before = copy.deepcopy(model.state_dict())
    find_sites(model, SIZE)
    assert model.training and all(part.training for part in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
