"""What a dense stage computes, and that everyone who looks on sees convolutions and joins."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from compress.models.blocks.pbep import PBEP, DenseStage

COUNT = 5


def stage(norm: str = "projection", cin: int = 5) -> DenseStage:
    torch.manual_seed(1)
    return DenseStage([PBEP(cin + 3 * i, 3, 4, 9, norm) for i in range(COUNT)])


def image(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    return x.contiguous(memory_format=torch.channels_last)


def joined_at_the_end(module: DenseStage, x: Tensor) -> Tensor:
    """As the stage is defined: pieces stay apart, and every module reads all before it."""
    pieces = [x]
    for each in module.dense:
        pieces.append(each(torch.cat(pieces, 1)))
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["projection", "all"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (1, 5, 11, 3), (3, 5, 1, 5)])
def test_values_gradients_and_statistics(shape: tuple[int, ...], norm: str, training: bool) -> None:
    found = []
    for run in (DenseStage.__call__, joined_at_the_end):
        module, x = stage(norm).double().train(training), image(*shape).double()
        x.requires_grad_()
        y = run(module, run(module, x)[:, :5] + x)  # used twice
        y.square().sum().backward()
        assert all(p.grad is not None for p in module.parameters())
        grads = [p.grad for p in module.parameters()]
        found.append([y.detach(), x.grad, *grads, *module.state_dict().values()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: type) -> None:
    module, x = stage().eval(), image(2, 5, 7, 9)
    with mode():
        y = module(x)
    assert not y.requires_grad
    assert torch.equal(y[:, :5], x)
    torch.testing.assert_close(y, module(x).detach(), rtol=0, atol=1e-5)


def test_autocast() -> None:
    module, x = stage(), image(2, 5, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in module.parameters())
    torch.testing.assert_close(y.float(), module(x).detach(), rtol=0, atol=0.1)


def test_an_output_may_be_changed_in_place() -> None:
    one, other = stage(), stage()
    x = image(2, 5, 6, 8)
    one(x).mul_(2).sum().backward()
    (other(x) * 2).sum().backward()
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(parameter.grad, other.get_parameter(name).grad)


def test_copies_and_names() -> None:
    module = stage()
    other = copy.deepcopy(module)
    assert other.state_dict().keys() == module.state_dict().keys()
    assert all(name.startswith("dense.") for name in module.state_dict())
    assert torch.equal(other(image(2, 5, 6, 8)), module(image(2, 5, 6, 8)))


def test_hooks_see_every_convolution() -> None:
    module, seen = stage(), []
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            each.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1]))
    module(image(2, 5, 6, 8))
    assert seen == list(itertools.chain(*([5 + 3 * i, 4, 9, 9] for i in range(COUNT))))


def test_export_shows_convolutions_and_concatenations() -> None:
    module, x = stage().eval(), image(1, 5, 6, 8)
    targets = [str(node.target) for node in torch.export.export(module, (x,)).graph.nodes]
    assert targets.count("aten.cat.default") == COUNT
    assert targets.count("aten.conv2d.default") == 4 * COUNT
