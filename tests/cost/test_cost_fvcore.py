"""Counts of traced modules against fvcore's, and by hand where fvcore knows nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from compress.cost import cost
from compress.cost.trace import trace

SIZE = (20, 28)
PRODUCTS = ("conv", "linear", "addmm", "mm", "bmm", "matmul", "einsum")


class Module(nn.Module):
    """A function of the image and of named submodules or parameters."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (N, H * W, C)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


def attention(m: nn.Module, x: Tensor) -> Tensor:
    t = tokens(x).contiguous()
    return torch.softmax(m.q(t) @ m.k(t).transpose(1, 2), -1) @ m.v(t)


def squeeze_excite(m: nn.Module, x: Tensor) -> Tensor:
    return x * torch.sigmoid(m.b(F.silu(m.a(F.adaptive_avg_pool2d(x, 1)))))


def windows(x: Tensor) -> Tensor:
    return x.unflatten(2, (4, 5)).permute(0, 2, 1, 3, 4).flatten(0, 1)  # (4 N, C, H / 4, W)


ZOO: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(3, 8, 3, padding=1),
    "stride": lambda: nn.Conv2d(3, 8, 5, 2, bias=False),
    "dilation": lambda: nn.Conv2d(3, 6, 3, dilation=2),
    "groups": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "non-square kernel": lambda: nn.Conv2d(3, 4, (1, 5), (1, 2), padding=(0, 2)),
    "half precision": lambda: nn.Conv2d(3, 8, 3).half(),
    "transposed": lambda: nn.ConvTranspose2d(3, 5, 3, 2, 1, 1),
    "transposed groups": lambda: nn.ConvTranspose2d(3, 6, 4, 2, 1, groups=3, bias=False),
    "conv1d": lambda: Module(lambda m, x: m.c(x.flatten(2)), c=nn.Conv1d(3, 8, 5, 2)),
    "conv3d": lambda: Module(
        lambda m, x: m.c(x[:, :, None]), c=nn.Conv3d(3, 8, (1, 3, 2), padding=1)
    ),
    "transposed3d": lambda: Module(
        lambda m, x: m.c(x[:, :, None]), c=nn.ConvTranspose3d(3, 8, (1, 3, 2), 2)
    ),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 28, 7)),
    "linear 3d": lambda: Module(lambda m, x: m.l(tokens(x).contiguous()), l=nn.Linear(3, 5)),
    "linear 3d strided": lambda: Module(lambda m, x: m.l(tokens(x)), l=nn.Linear(3, 5)),
    "linear 4d": lambda: nn.Sequential(nn.Linear(28, 5, bias=False)),
    "matrix": lambda: Module(lambda m, x: x[0, 0] @ m.w, w=weight(28, 6)),
    "einsum": lambda: Module(lambda m, x: torch.einsum("abc,abd->acd", x[:, 0], x[:, 1])),
    "einsum channels": lambda: Module(
        lambda m, x: torch.einsum("bchw,cd->bdhw", x, m.w), w=weight(3, 6)
    ),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "batch norm plain": lambda: nn.BatchNorm2d(3, affine=False),
    "batch norm untracked": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "batch norm 1d": lambda: Module(lambda m, x: m.n(x.flatten(2)), n=nn.BatchNorm1d(3)),
    "batch norm 3d": lambda: Module(lambda m, x: m.n(x[:, :, None]), n=nn.BatchNorm3d(3)),
    "group norm": lambda: nn.GroupNorm(3, 3),
    "group norm plain": lambda: nn.GroupNorm(1, 3, affine=False),
    "layer norm": lambda: nn.LayerNorm(28),
    "layer norm image": lambda: nn.LayerNorm((3, 20, 28)),
    "layer norm tokens": lambda: Module(lambda m, x: m.n(tokens(x)), n=nn.LayerNorm(3)),
    "layer norm plain": lambda: nn.LayerNorm(28, elementwise_affine=False),
    "instance norm": lambda: nn.InstanceNorm2d(3),
    "instance norm affine": lambda: nn.InstanceNorm2d(3, affine=True),
    "instance norm tracked": lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "pool to one": lambda: nn.AdaptiveAvgPool2d(1),
    "pool to some": lambda: nn.AdaptiveAvgPool2d((3, 4)),
    "mean": lambda: Module(lambda m, x: x.mean((2, 3), keepdim=True)),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "average pool function": lambda: Module(lambda m, x: F.avg_pool2d(x, 2)),
    "max pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max pool function": lambda: Module(lambda m, x: F.max_pool2d(x, 2)),
    "grid sample": lambda: Module(
        lambda m, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)
    ),
    "grid sample 3d": lambda: Module(
        lambda m, x: F.grid_sample(
            x[:, :, None], x.permute(0, 2, 3, 1)[:, None], align_corners=False
        )
    ),
    "attention": lambda: Module(attention, q=nn.Linear(3, 4), k=nn.Linear(3, 4), v=nn.Linear(3, 6)),
    "multi-head attention": lambda: Module(
        lambda m, x: m.a(*[m.l(tokens(x))] * 3)[0],
        l=nn.Linear(3, 8),
        a=nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "bmm": lambda: Module(lambda m, x: torch.bmm(tokens(x), x.flatten(2))),
    "matmul": lambda: Module(lambda m, x: x @ x.transpose(2, 3)),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2)),
    "residual": lambda: Module(
        lambda m, x: F.relu_(x + m.b(F.relu(m.a(x), inplace=True))),
        a=nn.Conv2d(3, 8, 3, padding=1),
        b=nn.Conv2d(8, 3, 3, padding=1),
    ),
    "squeeze and excite": lambda: Module(
        squeeze_excite, a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(2, 3, 1)
    ),
    "windows": lambda: Module(  # the one image becomes a batch
        lambda m, x: m.n(windows(x)),
        n=nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Upsample(scale_factor=2), nn.GroupNorm(2, 4)
        ),
    ),
    "activations": lambda: nn.Sequential(
        nn.ReLU(), nn.SELU(), nn.GELU(), nn.Hardswish(), nn.PReLU(), nn.Softmax(1), nn.Dropout()
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_agrees_with_fvcore(name: str) -> None:
    module = ZOO[name]().eval()
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit, which fvcore traces with
        analysis = FlopCountAnalysis(module, torch.rand(1, 3, *SIZE, dtype=dtype))
        analysis.unsupported_ops_warnings(False)
        by_operator, total = analysis.by_operator(), analysis.total()
    counted = cost(module, SIZE)
    assert counted.macs == sum(by_operator[kind] for kind in PRODUCTS)
    assert counted.macs_all == total
    assert counted.params == sum(p.numel() for p in module.parameters())
    assert counted.uncounted == ()


def test_operators_hold_the_parameters() -> None:
    """Where each operator has its own parameters, theirs add up to the module's."""
    # A bias added on its own, or a parameter as one side of a product, belongs to no operator.
    apart = {"activations", "multi-head attention", "linear 3d strided", "einsum channels"}
    for name in ZOO.keys() - apart:
        module = ZOO[name]()
        wanted = sum(p.numel() for p in module.parameters())
        assert sum(op.params for op in trace(module, SIZE).operators) == wanted, name


BY_HAND = {
    # fvcore has no rule for these three; ours sees what they are made of.
    "padding same": (nn.Conv2d(3, 4, 5, padding="same", bias=False), 3 * 4 * 25 * 20 * 28),
    "fused attention": (
        Module(lambda m, x: F.scaled_dot_product_attention(x, x, x)),
        3 * (20 * 28 * 20 + 20 * 20 * 28),
    ),
    "recurrent": (
        Module(lambda m, x: m.g(x[:, 0])[0], g=nn.GRU(28, 4, batch_first=True)),
        20 * 3 * (28 * 4 + 4 * 4),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand_where_fvcore_has_no_rule(name: str) -> None:
    module, macs = BY_HAND[name]
    counted = cost(module, SIZE)
    assert (counted.macs, counted.macs_all, counted.uncounted) == (macs, macs, ())


UNKNOWN = {
    "upsample_bicubic2d": nn.Upsample(scale_factor=2, mode="bicubic"),
    "_trilinear": Module(lambda m, x: m.b(tokens(x), tokens(x)), b=nn.Bilinear(3, 3, 4)),
    "im2col": nn.Unfold(3),
    "_cdist_forward": Module(lambda m, x: torch.cdist(x[0], x[0])),
    "mv": Module(lambda m, x: x @ m.w, w=weight(28)),
    "cumsum": Module(lambda m, x: x.cumsum(1)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_operators_are_named(name: str) -> None:
    """They add nothing, and say so."""
    conv = nn.Conv2d(3, 3, 1)
    assert cost(conv, SIZE).uncounted == ()
    counted = cost(nn.Sequential(conv, UNKNOWN[name]), SIZE)
    assert counted.uncounted == (name,)
    assert counted.macs == counted.macs_all == 9 * 20 * 28
