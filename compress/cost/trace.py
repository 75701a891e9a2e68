"""The operators of any module, read by running it on the meta device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from compress.errors import CompressError
from compress.space.operators import (
    ACTIVATION,
    ADD,
    CONCAT,
    CONV,
    LINEAR,
    MATMUL,
    NORM,
    POOL,
    UPSAMPLE,
    UPSAMPLE_COST,
    Operator,
)

ACTIVATIONS = (
    "celu clamp elu gelu glu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid_forward mish "
    "prelu _prelu_kernel relu relu6 _safe_softmax selu sigmoid silu softmax _softmax softplus tanh "
    "threshold"
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
    "_reshape_alias _to_copy _unsafe_index _unsafe_view abs alias amax arange as_strided bernoulli "
    "channel_shuffle chunk clamp_max clamp_min clone constant_pad_nd contiguous copy detach div "
    "dropout empty empty_like empty_strided exp expand fill flatten flip full gt index lift_fresh "
    "log maximum minimum mul native_dropout neg new_empty new_zeros ones ones_like permute "
    "pixel_shuffle pixel_unshuffle pow reciprocal reflection_pad2d repeat replication_pad2d roll "
    "rsqrt rsub scalar_tensor scatter select slice split split_with_sizes sqrt squeeze stack sub "
    "sum sym_size t topk transpose unbind unsafe_split unsqueeze view where zeros zeros_like"
).split()


@dataclass
class Trace:
    """What was met: operators in order, costs outside them, and names no rule counts."""

    operators: list[Operator] = field(default_factory=list)
    other: int = 0
    uncounted: tuple[str, ...] = ()


class _Caller(TorchFunctionMode):
    """Knows which of torch's functions runs, where a more general one does its work."""

    name = ""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        before, self.name = self.name, getattr(func, "__name__", "")
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = before


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Turns each dispatched function into an ``Operator``."""

    def __init__(self, owner: Callable[[], str], caller: _Caller) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.owner = owner
        self.caller = caller
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.endswith("_") and not name.startswith("_"):
            name = name[:-1]  # in place: relu_, add_
        self._record(name, args, out)
        return out

    def _record(self, name: str, args: tuple[Any, ...], out: Any) -> None:
        first = out[0] if isinstance(out, tuple | list) and out else out
        if not isinstance(first, Tensor):
            return
        owner = self.owner()
        add = self.trace.operators.append
        c, h, w = _grid(first)
        if name in ("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution"):
            x, weight, bias, stride = args[:4]
            transposed = bool(args[6])
            # A one-dimensional convolution is counted as 1 x k; of a three-dimensional one the
            # first two axes are folded into one.
            _, rows, cols = _grid(x if transposed else first)
            kernel = weight.shape[2:]
            tall, wide = math.prod(kernel[:-1]), kernel[-1]
            detail = "transposed" if transposed else ""
            add(
                Operator(
                    owner, CONV, x.shape[1], c, rows, cols, tall, stride[0], args[8],
                    bias is not None, detail, 0 if tall == wide else wide,
                )
            )  # fmt: skip
        elif name in ("addmm", "mm", "linear"):
            left, right = args[1:3] if name == "addmm" else args[:2]
            if name == "linear":
                right = right.t()
            rows = left.numel() // left.shape[-1]
            bias = name == "addmm" or (name == "linear" and len(args) > 2 and args[2] is not None)
            add(Operator(owner, LINEAR, left.shape[-1], right.shape[-1], 1, rows, bias=bias))
        elif name in ("bmm", "baddbmm", "matmul"):
            left, right = args[1:3] if name == "baddbmm" else args[:2]
            rows = left.numel() // left.shape[-1]
            add(Operator(owner, MATMUL, left.shape[-1], right.shape[-1], 1, rows))
        elif "batch_norm" in name:
            # Statistics of its own: no running ones are kept, or these are an instance norm's.
            own = any(flag is True for flag in args[3:6]) or self.caller.name == "instance_norm"
            detail = ("own" if own else "batch") + ("" if args[1] is not None else "-plain")
            add(Operator(owner, NORM, c, c, h, w, detail=detail))
        elif name == "native_group_norm":
            detail = "own" if args[1] is not None else "own-plain"
            add(Operator(owner, NORM, c, c, h, w, detail=detail))
        elif name == "native_layer_norm":
            c = math.prod(args[1])  # each of them has its own scale and shift
            detail = "own" if args[2] is not None else "own-plain"
            add(Operator(owner, NORM, c, c, first.numel() // c, 1, detail=detail))
        elif name in ("upsample_nearest2d", "upsample_bilinear2d"):
            detail = name.removeprefix("upsample_").removesuffix("2d")
            add(Operator(owner, UPSAMPLE, c, c, h, w, detail=detail))
        elif name in ("grid_sampler_2d", "grid_sampler_3d"):
            self.trace.other += UPSAMPLE_COST["bilinear"] * first.numel()
        elif name in POOLS:
            # To one cell it is a mean; fvcore charges it, and a mean nothing.
            adaptive = self.caller.name == "adaptive_avg_pool2d" or name == "_adaptive_avg_pool2d"
            if adaptive:
                self.trace.other += args[0].numel()
            windowed = name.startswith(("avg", "max"))
            kernel = args[1][0] if windowed else 1
            stride = args[2][0] if windowed and len(args) > 2 and args[2] else kernel
            detail = "adaptive_avg" if adaptive else POOLS[name]
            add(Operator(owner, POOL, c, c, h, w, kernel, stride, detail=detail))
        elif name in ACTIVATIONS:
            detail = "selu" if name == "elu" and len(args) > 2 else name.strip("_")
            add(Operator(owner, ACTIVATION, c, c, h, w, detail=detail))
        elif name == "cat":
            add(Operator(owner, CONCAT, c, c, h, w))
        elif name == "add":
            add(Operator(owner, ADD, c, c, h, w))
        elif name not in FREE:
            self.unknown.add(name)


def _grid(tensor: Tensor) -> tuple[int, int, int]:
    """Channels, height and width; batch and further axes are rows of the height.

    A network may cut its one image into windows and make a batch of them.
    """
    if tensor.ndim < 3:
        return tensor.shape[-1] if tensor.ndim else 1, math.prod(tensor.shape[:-1]), 1
    batch, channels, *inner, width = tensor.shape
    return channels, batch * math.prod(inner), width


def trace(model: nn.Module, size: tuple[int, int]) -> Trace:
    """Run ``model`` on the meta device for one image and list its operators.

    The module is moved to the meta device: give a copy. Raises ``CompressError`` when it cannot
    run there, as when its control flow reads values.
    """
    model = model.eval().to("meta")
    stack: list[str] = [""]

    def leave(name: str) -> None:
        while stack.pop() != name:
            pass  # left by an exception that a module around it caught

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, n=name: stack.append(n)))
        handles.append(module.register_forward_hook(lambda *_, n=name: leave(n)))
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    caller = _Caller()
    try:
        image = torch.empty(1, 3, *size, device="meta", dtype=dtype)
        with torch.no_grad(), caller, _Recorder(lambda: stack[-1], caller) as recorder:
            model(image)
    except Exception as error:
        raise CompressError(
            f"{type(model).__name__} cannot be traced at {size[0]}x{size[1]} in module "
            f"{stack[-1] or 'the top level'!r}: {type(error).__name__}: {error}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    result: Trace = recorder.trace
    result.uncounted = tuple(sorted(recorder.unknown))
    return result
