from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import compress
from compress.cost import Cost, cost, operators
from compress.cost.count import to_dict
from compress.cost.trace import trace
from compress.errors import CompressError
from compress.models import build
from compress.space import load_space

SPACE = load_space("depthnet-nano")


def test_sizes_are_read_alike() -> None:
    genotype = SPACE.smallest
    wanted = cost(genotype, (64, 96))
    assert wanted.size == (64, 96)
    assert cost(genotype, "64x96") == cost(genotype, [64, 96]) == wanted
    assert cost(genotype) == cost(genotype, SPACE.size)
    assert cost(genotype).size == SPACE.size
    assert cost(genotype, (128, 96)).macs > wanted.macs
    assert cost(build(genotype, seed=0), "64x96") == wanted
    assert cost(build(genotype, seed=0)).size == SPACE.size


def test_the_package_can_be_called() -> None:
    genotype = SPACE.smallest
    assert compress.cost(genotype, "64x96") == cost(genotype, "64x96")
    assert operators(genotype) == operators(genotype, SPACE.size)


@pytest.mark.parametrize("size", ["64", "64x", (64,), (8, 64), (64, 9000), (64.0, 64), "axb"])
def test_wrong_sizes_are_answered(size: object) -> None:
    with pytest.raises(CompressError, match="16 to 8192"):
        cost(SPACE.smallest, size)  # type: ignore[arg-type]
    with pytest.raises(CompressError, match="16 to 8192"):
        cost(nn.Conv2d(3, 1, 1), size)  # type: ignore[arg-type]


def test_missing_size_is_answered() -> None:
    with pytest.raises(CompressError, match=r"give size=\(height, width\)"):
        cost(nn.Conv2d(3, 1, 1))


def test_json_form() -> None:
    counted = cost(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Unfold(2)), (16, 32))
    data = json.loads(json.dumps(to_dict(counted)))
    assert data == {
        "params": 8,
        "macs": 6 * 16 * 32,
        "macs_all": 6 * 16 * 32,
        "size": [16, 32],
        "uncounted": ["im2col"],
    }


def test_the_model_is_left_as_it_was() -> None:
    model = build(SPACE.sample(4), seed=1)
    model.train()
    model.stem.eval()
    model.head.bias.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    parameters = [(id(p), p.device.type, p.requires_grad) for p in model.parameters()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert cost(model, (64, 64)) == cost(SPACE.sample(4), (64, 64))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert [(id(p), p.device.type, p.requires_grad) for p in model.parameters()] == parameters
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], v) for name, v in model.state_dict().items())
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Tied(nn.Module):
    """One 1x1 convolution twice, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Conv2d(3, 3, 1, bias=False)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


def test_shared_parameters_count_once_and_unused_ones_too() -> None:
    counted = cost(Tied(), (16, 16))
    assert counted.params == 9 + 110
    assert counted.macs == 2 * 9 * 16 * 16


class Inner(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "value" and x.sum() > 0:
            return x
        if self.how == "raise":
            raise KeyError("no such thing")
        return x.reshape(5, -1)


class Outer(nn.Module):
    def __init__(self, how: str, caught: bool = False) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 3, 1)
        self.block = nn.Sequential(nn.ReLU(), Inner(how))
        self.after = nn.Conv2d(3, 7, 1)
        self.caught = caught

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        try:
            x = self.block(x)
        except KeyError:
            if not self.caught:
                raise
        return self.after(x)


@pytest.mark.parametrize(
    ("how", "said"), [("value", "RuntimeError"), ("raise", "KeyError"), ("shape", "RuntimeError")]
)
def test_a_module_that_cannot_be_traced_is_named(how: str, said: str) -> None:
    with pytest.raises(CompressError) as caught:
        cost(Outer(how), (16, 16))
    message = str(caught.value)
    assert "Outer cannot be traced at 16x16 in module 'block.1'" in message
    assert said in message


def test_an_error_that_the_module_catches_is_its_own() -> None:
    names = [op.name for op in trace(Outer("raise", caught=True), (16, 16)).operators]
    assert names == ["before", "block.0", "after"]


def test_wrong_channels_are_answered() -> None:
    with pytest.raises(CompressError, match="Conv2d cannot be traced"):
        cost(nn.Conv2d(4, 4, 1), (16, 16))


def test_a_module_that_cannot_be_copied_is_named() -> None:
    model = nn.Conv2d(3, 3, 1)
    model.cache = model(torch.ones(1, 3, 4, 4))  # a tensor with a history
    with pytest.raises(CompressError, match="Conv2d cannot be copied"):
        cost(model, (16, 16))


def test_operators_are_named_by_module() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    assert [(op.name, op.kind) for op in trace(model, (16, 16)).operators] == [
        ("0", "conv"),
        ("1.0", "norm"),
        ("1.1", "activation"),
    ]


def test_no_memory_is_used_for_activations() -> None:
    # 4096 channels at 8192x8192 are a TiB of float32.
    counted = cost(nn.Conv2d(3, 4096, 1, bias=False), (8192, 8192))
    assert counted == Cost(3 * 4096, 3 * 4096 * 8192**2, 3 * 4096 * 8192**2, (8192, 8192))
