"""The operators of any module, read by running it on the meta device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from compress.errors import CompressError
from compress.space.operators import (
    ACTIVATION,
    ADD,
    CONCAT,
    CONV,
    LINEAR,
    NORM,
    POOL,
    UPSAMPLE,
    UPSAMPLE_COST,
    Operator,
)

ACTIVATIONS = (
    "elu celu gelu glu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid_forward mish prelu "
    "_prelu_kernel relu relu6 selu sigmoid silu softmax _softmax softplus tanh threshold clamp"
).split()
POOLS = {
    "avg_pool2d": "avg",
    "max_pool2d_with_indices": "max",
    "max_pool2d": "max",
    "_adaptive_avg_pool2d": "adaptive_avg",
    "mean": "mean",
}
# Views, copies and arithmetic on single values or elements: nothing that any convention counts.
FREE = (
    "_reshape_alias _to_copy _unsafe_view alias arange bernoulli clone contiguous copy_ detach div "
    "dropout empty exp expand fill_ flatten full index lift_fresh log mul native_dropout neg "
    "new_empty new_zeros ones permute pow rsub scalar_tensor select slice split "
    "split_with_sizes sqrt squeeze stack sub t transpose unbind unsqueeze view zeros zeros_like "
    "pixel_shuffle pixel_unshuffle constant_pad_nd channel_shuffle chunk flip reflection_pad2d "
    "replication_pad2d _unsafe_index sym_size empty_strided as_strided ones_like empty_like"
).split()


@dataclass
class Trace:
    """What was met: operators in order, costs outside them, and names no rule counts."""

    operators: list[Operator] = field(default_factory=list)
    other: int = 0
    uncounted: tuple[str, ...] = ()


class _Recorder(TorchDispatchMode):
    """Turns each dispatched function into an ``Operator``."""

    def __init__(self, owner: Callable[[], str]) -> None:
        super().__init__()
        self.trace = Trace()
        self.owner = owner
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.endswith("_") and not name.startswith("_") and name != "fill_":
            name = name[:-1] if name != "copy_" else name
        self._record(name, args, out)
        return out

    def _record(self, name: str, args: tuple[Any, ...], out: Any) -> None:
        first = out[0] if isinstance(out, tuple | list) and out else out
        if not isinstance(first, Tensor):
            return
        owner = self.owner()
        add = self.trace.operators.append
        _, c, h, w = (1, 1, 1, 1, *first.shape)[-4:] if first.ndim < 4 else first.shape[:4]
        if name in ("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"):
            x, weight, bias, stride = args[:4]
            transposed = bool(args[6])
            cin, cout = x.shape[1], first.shape[1]
            grid = (x if transposed else first).shape[2:]
            kernel = weight.shape[2:]
            # One-dimensional convolutions are counted as 1 x k; three-dimensional ones have their
            # first two axes folded into one.
            rows, cols = math.prod(grid[:-1]), grid[-1]
            tall, wide = math.prod(kernel[:-1]), kernel[-1]
            detail = "transposed" if transposed else ""
            add(
                Operator(
                    owner, CONV, cin, cout, rows, cols, tall, stride[0], args[8],
                    bias is not None, detail, 0 if tall == wide else wide,
                )
            )  # fmt: skip
        elif name in ("addmm", "mm", "bmm", "baddbmm", "linear", "matmul"):
            left, right = args[1:3] if name in ("addmm", "baddbmm") else args[:2]
            if name == "linear":
                right = right.t()
            # Attention multiplies activations; it is counted by the same rule as a linear layer.
            rows = left.numel() // left.shape[-1]
            bias = name == "addmm" or (name == "linear" and len(args) > 2 and args[2] is not None)
            add(Operator(owner, LINEAR, left.shape[-1], right.shape[-1], 1, rows, bias=bias))
        elif "batch_norm" in name:
            affine = "batch" if args[1] is not None else "batch-plain"
            add(Operator(owner, NORM, c, c, h, w, detail=affine))
        elif name in ("native_group_norm", "native_layer_norm"):
            weight = args[1] if name == "native_group_norm" else args[2]
            cost = 5 if weight is not None else 4
            detail = "own" if weight is not None else "own-plain"
            if first.ndim == 4:
                add(Operator(owner, NORM, c, c, h, w, detail=detail))
            else:
                self.trace.other += cost * first.numel()
        elif name.startswith("upsample_"):
            kind = name.removeprefix("upsample_").removeprefix("_").split("2d")[0]
            if kind in UPSAMPLE_COST:
                add(Operator(owner, UPSAMPLE, c, c, h, w, detail=kind))
            else:
                self.unknown.add(name)
        elif name == "grid_sampler_2d":
            self.trace.other += 4 * first.numel()
        elif name in POOLS:
            if name == "_adaptive_avg_pool2d":
                self.trace.other += args[0].numel()
            kernel = args[1][0] if name.startswith(("avg", "max")) else 1
            stride = args[2][0] if name.startswith(("avg", "max")) and len(args) > 2 else kernel
            add(Operator(owner, POOL, c, c, h, w, kernel, stride, detail=POOLS[name]))
        elif name in ACTIVATIONS:
            detail = "selu" if name == "elu" and len(args) > 2 else name.strip("_")
            add(Operator(owner, ACTIVATION, c, c, h, w, detail=detail))
        elif name == "cat":
            add(Operator(owner, CONCAT, c, c, h, w))
        elif name == "add":
            add(Operator(owner, ADD, c, c, h, w))
        elif name not in FREE:
            self.unknown.add(name)


def trace(model: nn.Module, size: tuple[int, int]) -> Trace:
    """Run ``model`` on the meta device for one image and list its operators.

    The module is moved to the meta device: give a copy. Raises ``CompressError`` when it cannot
    run there, as when its control flow reads values.
    """
    model = model.eval().to("meta")
    stack: list[str] = [""]
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, n=name: stack.append(n)))
        handles.append(
            module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True)
        )
    try:
        with torch.no_grad(), _Recorder(lambda: stack[-1]) as recorder:
            model(torch.empty(1, 3, *size, device="meta"))
    except Exception as error:
        raise CompressError(
            f"{type(model).__name__} cannot be traced at {size[0]}x{size[1]} in module "
            f"{stack[-1] or 'the top level'!r}: {type(error).__name__}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    result = recorder.trace
    result.uncounted = tuple(sorted(recorder.unknown))
    return result
