"""PBEP and EP modules of DepthNet Nano, and the dense stage built of them.

Source: Wang, Famouri and Wong, "DepthNet Nano", arXiv 2004.08008, section 3 and Figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Make a bias-free "same" convolution, initialised for SELU.

    SELU keeps activations at zero mean and unit variance only when weights are drawn with
    variance 1 / fan_in. Source: Klambauer et al., "Self-Normalizing Neural Networks", section 2.
    """
    module = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    return module


def activation(channels: int, normed: bool) -> nn.Module:
    """SELU, after a batch norm where the genotype asks for one."""
    return (
        nn.Sequential(nn.BatchNorm2d(channels), nn.SELU(inplace=True))
        if normed
        else nn.SELU(inplace=True)
    )


class PBEP(nn.Module):
    """Projection, batch norm, expansion, 3x3 depthwise, projection.

    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, projection: int, expansion: int, norm: str) -> None:
        super().__init__()
        every = norm == "all"
        self.project = conv(cin, projection)
        self.norm = nn.BatchNorm2d(projection)
        self.expand = conv(projection, expansion)
        self.expand_act = activation(expansion, every)
        self.depthwise = conv(expansion, expansion, 3, groups=expansion)
        self.depthwise_act = activation(expansion, every)
        self.reduce = conv(expansion, cout)
        self.reduce_act = activation(cout, every)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        x = self.norm(self.project(x))
        x = self.expand_act(self.expand(x))
        x = self.depthwise_act(self.depthwise(x))
        out: Tensor = self.reduce_act(self.reduce(x))
        return out


class EP(nn.Module):
    """Expansion, 3x3 depthwise, projection: the decoder's module.

    Input (N, cin, H, W), output (N, cout, H, W).
    """

    def __init__(self, cin: int, cout: int, expansion: int, norm: str) -> None:
        super().__init__()
        every = norm == "all"
        self.expand = conv(cin, expansion)
        self.expand_act = activation(expansion, every)
        self.depthwise = conv(expansion, expansion, 3, groups=expansion)
        self.depthwise_act = activation(expansion, every)
        self.reduce = conv(expansion, cout)
        self.reduce_act = activation(cout, every)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module."""
        x = self.expand_act(self.expand(x))
        x = self.depthwise_act(self.depthwise(x))
        out: Tensor = self.reduce_act(self.reduce(x))
        return out


class DenseStage(nn.Module):
    """PBEP modules, each reading the stage's input and all outputs before it.

    Input (N, cin, H, W), output (N, cin + sum of widths, H, W). Training keeps the output alone
    where every module's own input would be kept otherwise, so memory grows linearly with depth.
    """

    def __init__(self, modules: Sequence[PBEP]) -> None:
        super().__init__()
        self.dense = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage."""
        if not _keeps_inputs(x) or len(self.dense) < LONG:
            for module in self.dense:
                x = torch.cat((x, module(x)), 1)
            return x
        kept = _Kept()
        for module in self.dense:
            with kept.prefix(x):
                out = module(x)
            x = torch.cat((x, out), 1)
        kept.close(x)
        return x


# Modules from which a stage shares what autograd keeps; in shorter ones there is little to share.
LONG = 8


def _keeps_inputs(x: Tensor) -> bool:
    """Whether autograd is recording, and nothing else is: no tracer, compiler or transform."""
    return (
        torch.is_grad_enabled()
        and isinstance(x, Tensor)  # torch.fx gives a stand-in
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        # Within torch.func there are no such hooks.
        and torch._C._autograd._saved_tensors_hooks_is_enabled()  # type: ignore[attr-defined]
    )


class _Prefix(NamedTuple):
    """Stands for the first channels of a stage's output, where a module's input was saved."""

    channels: int
    dtype: torch.dtype
    layout: torch.memory_format


class _Kept:
    """A stage's output, from which backward takes every module's input."""

    def __init__(self) -> None:
        self.output: Tensor | None = None
        self.version = 0

    def close(self, output: Tensor) -> None:
        """Give the finished output."""
        self.output = output.detach()
        self.version = output._version

    def prefix(self, x: Tensor) -> saved_tensors_hooks:
        """While this context lasts, ``x`` is not kept: it will be the output's first channels."""

        def pack(tensor: Tensor) -> Tensor | _Prefix:
            if tensor is not x:
                return tensor
            last = x.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            return _Prefix(x.shape[1], x.dtype, layout)

        def unpack(saved: Tensor | _Prefix) -> Tensor:
            if not isinstance(saved, _Prefix):
                return saved
            assert self.output is not None
            if self.output._version != self.version:
                raise RuntimeError(
                    "the output of a DenseStage was changed in place before backward, which needs "
                    "it: change a copy"
                )
            part = self.output[:, : saved.channels].to(saved.dtype)
            return part.contiguous(memory_format=saved.layout)

        return saved_tensors_hooks(pack, unpack)
