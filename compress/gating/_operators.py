"""The operators of a network as ``torch.export`` lists them, and what each does to zeros."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from compress.errors import CompressError
from compress.models import DepthNet

# Of zeros they make zeros, and no channel of another. In place or not is the same here.
KEEPS_ZERO = set(
    "relu relu6 leaky_relu prelu silu hardswish gelu elu selu celu mish tanh hardshrink softshrink "
    "abs neg sign square sqrt clone contiguous alias detach to _to_copy dropout feature_dropout "
    "max_pool2d avg_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d slice".split()
)
MEANS = {"mean", "adaptive_avg_pool2d", "adaptive_max_pool2d"}
ADDS, SCALES, JOINS = {"add", "sub"}, {"mul", "div"}, {"cat", "concat"}
# They set values in another order: each is still one channel's.
MOVES = set(
    "view reshape transpose permute chunk split split_with_sizes tensor_split getitem select "
    "narrow flatten squeeze unsqueeze pixel_shuffle pixel_unshuffle channel_shuffle unbind "
    "unflatten _unsafe_view expand".split()
)
NORMS = {"batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm"}
CHECKS = {"_assert_tensor_metadata"}  # operators that compute nothing


@dataclass(frozen=True)
class Conv:
    """A convolution that runs: where, and its shapes for one image.

    ``module`` is None where it is no ``Conv2d`` with weights of its own; ``taps`` are the kernel's.
    """

    node: Node
    path: str
    module: nn.Conv2d | None
    cin: int
    cout: int
    groups: int
    taps: int
    size_in: tuple[int, int]
    size_out: tuple[int, int]

    @property
    def depthwise(self) -> bool:
        """Whether each channel is made of one."""
        return self.groups == self.cin == self.cout and self.groups > 1

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return self.taps * self.cin * self.cout // self.groups * math.prod(self.size_out)


class Operators:
    """The operators of a network in the order they run, in evaluation, for one image."""

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        # Nothing is computed with the weights, which the copy therefore shares.
        shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
        spare = copy.deepcopy(model, shared).eval()
        if isinstance(spare, DepthNet):
            spare.drop_auxiliary()
        first = next(chain(model.parameters(), model.buffers()), torch.empty(0))
        image = torch.zeros(1, 3, *size, device=first.device, dtype=first.dtype)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                program = torch.export.export(spare, (image,))
        except Exception as error:  # whatever a module does decides what this raises
            said = " ".join(str(error).split())[:200]
            raise CompressError(
                f"{type(model).__name__} cannot be followed at {size[0]}x{size[1]}: "
                f"{type(error).__name__}: {said}"
            ) from error
        signature = program.graph_signature
        self._named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._modules = dict(spare.named_modules())
        self.image = next(n for n in program.graph.nodes if n.name in signature.user_inputs)
        self.nodes: list[Node] = [
            n for n in program.graph.nodes if n.op == "call_function" and kind(n) not in CHECKS
        ]
        self.convs = {conv.node: conv for conv in map(self._conv, self.nodes) if conv}
        self.runs: dict[str, int] = {}  # how often each layer's weights are used
        for node in self.nodes:
            if path := self._owner(node):
                self.runs[path] = self.runs.get(path, 0) + 1

    def _owner(self, node: Node) -> str:
        """The module whose tensors a convolution or norm uses."""
        if kind(node) in NORMS or kind(node).startswith("conv"):
            for given in node.args[1:]:
                if isinstance(given, Node) and given.name in self._named:
                    return str(self._named[given.name]).rpartition(".")[0]
        return ""

    def _conv(self, node: Node) -> Conv | None:
        transposed = kind(node) == "convolution" and bool(node.args[6])
        x, out = shape(node.args[0]), shape(node)
        if kind(node) not in ("conv2d", "convolution") or transposed or len(out) != 4:
            return None
        weight = shape(node.args[1])
        path = self._owner(node)
        module = self._modules.get(path)
        return Conv(
            node, path, module if isinstance(module, nn.Conv2d) else None,
            x[1], out[1], x[1] // weight[1], math.prod(weight[2:]), (x[2], x[3]), (out[2], out[3]),
        )  # fmt: skip

    def norm_behind(self, conv: Conv) -> tuple[Node | None, str | None]:
        """The batch norm that a convolution's output goes through and nothing else, if any."""
        users = list(conv.node.users)
        if len(users) == 1 and kind(users[0]) in NORMS and users[0].args[0] is conv.node:
            path = self._owner(users[0])
            module = self._modules.get(path)
            own = isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
            if own and self.runs[path] == 1:
                return users[0], path
        return None, None

    def pooled(self) -> set[Node]:
        """What is made of global means alone, such as the scales of squeeze and excitation."""
        found: set[Node] = set()
        for node in self.nodes:
            read = [n for n in node.all_input_nodes if n.op == "call_function" or n is self.image]
            single = math.prod(shape(node)[2:]) == 1
            if single and (kind(node) in MEANS or (read and found.issuperset(read))):
                found.add(node)
        return found


def kind(node: Node) -> str:
    """The operator's name, without the mark of running in place."""
    target: Any = node.target
    name = str(getattr(target, "_opname", getattr(target, "__name__", target)))
    return name[:-1] if name.endswith("_") and not name.startswith("_") else name


def shape(node: object) -> tuple[int, ...]:
    """The sizes of what a node makes; empty where it is no tensor."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return tuple(int(side) for side in value.shape) if isinstance(value, Tensor) else ()


def keeps_zero(node: Node, given: Node) -> bool:
    """Whether channels of ``given`` that are zero are zero, or still one channel's, behind it."""
    name, x = kind(node), node.args[0]
    rest: list[Any] = [value for value in node.args[1:] if not isinstance(value, Node)]
    if name in ("hardtanh", "clamp"):
        usual: list[Any] = [-1.0, 1.0] if name == "hardtanh" else [None, None]
        low, high = rest + usual[len(rest) :]
        return (low is None or low <= 0) and (high is None or high >= 0)
    if name in ("pad", "constant_pad_nd"):
        constant = name != "pad" or "constant" in rest[1:2] or len(rest) == 1
        return constant and not any(v for v in rest[1:] if isinstance(v, int | float))
    if name in MEANS or name in ("amax", "sum"):
        if name.startswith("adaptive"):
            return True
        axes = rest[0] if rest and isinstance(rest[0], list | tuple) else [1]
        return 1 not in axes and 1 - len(shape(x)) not in axes
    if name in JOINS:
        axis = rest[0] if rest else node.kwargs.get("dim", 0)
        return axis in (1, 1 - len(shape(node)))
    if name == "div":
        return x is given
    if name in ADDS:
        return not any(isinstance(v, int | float) and v for v in node.args[:2])
    return name in KEEPS_ZERO or name in SCALES or name in MOVES
