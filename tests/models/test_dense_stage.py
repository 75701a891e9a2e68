"""A long dense stage keeps only its output for backward, and computes what a plain one does."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from compress.cost import cost
from compress.models import build
from compress.models.blocks import pbep
from compress.models.blocks.pbep import LONG, PBEP, DenseStage
from compress.space import load_space

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def stage(count: int = LONG, norm: str = "projection", cin: int = 5) -> DenseStage:
    torch.manual_seed(1)
    return DenseStage([PBEP(cin + 3 * i, 3, 4, 9, norm) for i in range(count)])


def plain(module: DenseStage, x: Tensor) -> Tensor:
    for each in module.dense:
        x = torch.cat((x, each(x)), 1)
    return x


def image(*shape: int, layout: torch.memory_format = torch.channels_last) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    return x.contiguous(memory_format=layout)


def gradients(module: DenseStage, x: Tensor, run: object, uses: int = 1) -> dict[str, Tensor]:
    module.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = x
    for _ in range(uses):
        y = run(module, y[:, : x.shape[1]] + 0)  # type: ignore[operator]
    chance = torch.Generator().manual_seed(3)
    (y.float() * torch.randn(y.shape, generator=chance)).sum().backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return found | {"output": y.detach(), "input": x.grad}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert one.keys() == other.keys()
    scale = max(float(t.norm()) for t in other.values())
    for name, wanted in other.items():
        # A bias before a batch norm has no gradient but rounding: small against all the others.
        error = float((one[name].float() - wanted.float()).norm())
        assert error <= tolerance * float(wanted.float().norm()) + 1e-6 * scale, name
    torch.testing.assert_close(one["output"].float(), other["output"].float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norm", ["projection", "all"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 5, 11, 3), (3, 5, 1, 5)])
def test_gradients_are_the_plain_ones(
    shape: tuple[int, ...], norm: str, layout: torch.memory_format
) -> None:
    module = stage(norm=norm).to(memory_format=layout)  # type: ignore[call-overload]
    x = image(*shape, layout=layout)
    assert_close(gradients(module, x, DenseStage.__call__), gradients(module, x, plain))


def test_training_statistics_are_the_plain_ones() -> None:
    one, other = stage(norm="all"), stage(norm="all")
    for _ in range(3):
        one(image(2, 5, 7, 9))
        plain(other, image(2, 5, 7, 9))
    for name, value in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], value)
    x = image(2, 5, 7, 9)
    assert_close(gradients(one.eval(), x, DenseStage.__call__), gradients(other.eval(), x, plain))


@pytest.mark.parametrize("uses", [2, 3])
def test_one_stage_used_again(uses: int) -> None:
    module, x = stage(), image(2, 5, 6, 8)
    assert_close(gradients(module, x, DenseStage.__call__, uses), gradients(module, x, plain, uses))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    module, x = stage(), image(2, 5, 6, 8).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(gradients(module, x, DenseStage.__call__), gradients(module, x, plain), 1e-2)


def test_an_input_that_grows_in_precision() -> None:
    class Wide(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).double() if x.dtype == torch.float32 else self.inner(x)

    def make() -> DenseStage:
        module = stage()
        for inner in list(module.dense)[1:]:
            inner.double()
        module.dense[0] = Wide(module.dense[0])
        return module

    x = image(2, 5, 6, 8)
    assert_close(gradients(make(), x, DenseStage.__call__), gradients(make(), x, plain))


def test_frozen_parts_and_inputs() -> None:
    x = image(2, 5, 6, 8)
    for frozen in ("project", "norm", "reduce"):
        found = []
        for run in (DenseStage.__call__, plain):
            module = stage()
            for each in module.dense:
                getattr(each, frozen).requires_grad_(False)
            found.append(gradients(module, x, run))
        assert_close(*found)
    module = stage()
    module(x).sum().backward()  # x itself asks for no gradient
    assert all(p.grad is not None for p in module.parameters())
    module.requires_grad_(False)
    assert not module(x).requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: type) -> None:
    module, x = stage().eval(), image(2, 5, 7, 9)
    with mode():
        y = module(x)
    assert not y.requires_grad
    torch.testing.assert_close(y, plain(module, x).detach(), rtol=0, atol=1e-5)


def test_second_order_gradients() -> None:
    found = []
    for run in (DenseStage.__call__, plain):
        module, x = stage().double(), image(1, 5, 3, 4).double().requires_grad_()
        (first,) = torch.autograd.grad(run(module, x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), list(module.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_backward_twice_and_copies() -> None:
    module, x = stage(), image(2, 5, 6, 8)
    y = module(x).sum()
    y.backward(retain_graph=True)
    once = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    y.backward()
    for one, parameter in zip(once, module.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * one)
    other = copy.deepcopy(module)
    assert other.state_dict().keys() == module.state_dict().keys()
    assert all(name.startswith("dense.") for name in module.state_dict())
    assert_close(gradients(other, x, DenseStage.__call__), gradients(module, x, plain))


def test_an_output_changed_in_place_is_an_error() -> None:
    y = stage()(image(2, 5, 6, 8))
    y.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_memory_grows_linearly() -> None:
    kept = {}
    for count in (2 * LONG, 4 * LONG):
        y = stage(count)(image(2, 5, 6, 8))
        inputs = [
            node for node in nodes(y) if type(node).__name__.startswith("ConvolutionBackward")
        ]
        assert len(inputs) == 4 * count
        raw = [node._raw_saved_input.data for node in inputs]  # type: ignore[attr-defined]
        kept[count] = sum(t.nbytes for t in raw if isinstance(t, Tensor))
        assert sum(isinstance(t, pbep._Prefix) for t in raw) == count
    assert kept[4 * LONG] == 2 * kept[2 * LONG]


def nodes(y: Tensor) -> list[object]:
    found: list[object] = []
    waiting = [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.append(node)
            waiting += [following for following, _ in node.next_functions]
    return found


def test_hooks_see_every_convolution() -> None:
    module, seen = stage(), []
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            each.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1]))
    module(image(2, 5, 6, 8))
    assert seen == list(itertools.chain(*([5 + 3 * i, 4, 9, 9] for i in range(LONG))))


def test_tracers_see_plain_convolutions_and_concatenations() -> None:
    module, x = stage().eval(), image(1, 5, 6, 8)
    traced = torch.jit.trace(module, x)
    assert str(traced.inlined_graph).count("aten::cat") == LONG
    assert str(traced.inlined_graph).count("aten::_convolution") == 4 * LONG
    torch.testing.assert_close(traced(x), plain(module, x))
    symbolic = torch.fx.symbolic_trace(module)
    assert not any(node.target == "detach" for node in symbolic.graph.nodes)
    exported = torch.export.export(module, (x,))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert targets.count("aten.cat.default") == LONG
    assert targets.count("aten.conv2d.default") == 4 * LONG


def test_functional_transforms() -> None:
    module, x = stage().eval(), image(2, 5, 6, 8)
    parameters = dict(module.named_parameters())

    def total(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(module, values, (x,)).sum()

    found = torch.func.grad(total)(parameters)
    module(x).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_size_of_a_long_network_is_counted_as_before() -> None:
    genotype = load_space("depthnet-nano").reference("nyu")
    assert cost(build(genotype, seed=0), (64, 96)) == cost(genotype, (64, 96))
