"""Following channels through a network that runs on the meta device.

Every tensor has a shadow: a tensor of its shape with a label for each value, saying which channel
it belongs to. What moves values about (views, concatenation, shuffles) is done to the shadow by
the very same operator, so that its index mapping cannot be wrong; what combines values ties their
labels. Shadows are expanded from one value a channel and take no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from compress.pruning._atoms import Atoms, Labels, Mixed, along, array, core, spread
from compress.pruning._moves import cat, shuffle, tie_parts, view

# Elementwise, of one tensor or several: the shapes of all must go on fitting.
ELEMENTWISE = frozenset(
    "_prelu_kernel _to_copy abs add addcdiv addcmul alias bernoulli celu clamp clamp_max clamp_min "
    "clone contiguous copy cos detach div dropout elu exp gelu hardsigmoid hardswish hardtanh "
    "leaky_relu lerp lift_fresh log log1p log_sigmoid_forward logical_not maximum minimum mish mul "
    "native_dropout neg ones_like pow reciprocal relu relu6 rsqrt rsub selu sigmoid sign silu sin "
    "softplus sqrt square sub tanh threshold where zero zeros_like".split()
)
# The same labels in the same order, whatever becomes of the other axes.
PER_CHANNEL = frozenset(
    "_adaptive_avg_pool2d _upsample_bilinear2d_aa adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d avg_pool1d avg_pool2d avg_pool3d grid_sampler_2d max_pool2d "
    "max_pool2d_with_indices reflection_pad2d replication_pad2d upsample_bicubic2d "
    "upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d".split()
)
MOVES = frozenset(
    "constant_pad_nd expand flip permute repeat squeeze stack t transpose unsqueeze".split()
)
PARTS = frozenset("chunk select slice split split_with_sizes unbind unsafe_split".split())
REDUCE = frozenset("amax amin max mean min norm std sum var".split())
CONVOLUTIONS = ("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution")
Slots = dict[tuple[str, int], tuple[Labels, str]]


class Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Carries shadows along with the tensors of a running network.

    ``slots`` are the axes of the network's tensors that channels run along: by (tensor name, axis)
    the labels there and a role: "out" of a layer whose channels can be chosen, "bias", "along"
    (norms, depthwise and grouped layers), "in", or "free" of parameters in no layer.
    """

    def __init__(self, named: Mapping[str, Tensor], owner: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.atoms = Atoms()
        self.slots: Slots = {}
        self.names = {id(tensor): name for name, tensor in named.items()}
        self.owner = owner
        self.shadows: dict[int, Tensor] = {}
        self.turned: dict[int, str] = {}  # a linear layer's weight, seen transposed
        self.kept: list[object] = list(named.values())  # an id stays a name while its owner lives

    def shadow(self, tensor: Tensor) -> Tensor | None:
        """A tensor's shadow; None where it has no channels of the network in it."""
        if id(tensor) not in self.shadows and id(tensor) in self.names and tensor.numel() > 1:
            # A parameter used as such: each of its values may turn out to be a channel's.
            if tensor.numel() > 1_000_000:
                return None
            labels = self.atoms.fresh(tensor.numel())
            self.set(tensor, torch.from_numpy(labels).reshape(tensor.shape))
        return self.shadows.get(id(tensor))

    def set(self, tensor: Tensor, shadow: Tensor | None) -> None:
        """Give a tensor its shadow."""
        if shadow is not None:
            if shadow.shape != tensor.shape:
                raise Mixed
            self.shadows[id(tensor)] = shadow
            self.kept.append(tensor)

    def where(self, what: str) -> str:
        """What happens, and in which module."""
        return f"{what} in {self.owner() or 'the top level'}"

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.endswith("_") and not name.startswith("_"):
            name = name[:-1]  # in place: relu_, add_
        given = [*args, *(kwargs or {}).values()]
        tensors = [x for g in given for x in (g if isinstance(g, list | tuple) else [g])]
        tensors = [x for x in tensors if isinstance(x, Tensor)]
        outs = [x for x in (out if isinstance(out, tuple | list) else [out]) if _real(x)]
        self.kept.extend(outs)
        if not outs or not (tensors or outs[0].numel()):
            return out
        try:
            self._follow(name, func, args, kwargs or {}, tensors, outs)
        except (Mixed, RuntimeError, IndexError, ValueError, TypeError) as error:
            why = str(error) if isinstance(error, Mixed) and str(error) else "its channels"
            self._hold((*tensors, *outs), self.where(f"{name} mixes {why}"))
        return out

    def _hold(self, tensors: Iterable[Tensor], why: str) -> None:
        """Whatever runs through these tensors must stay."""
        for tensor in tensors:
            shadow = self.shadow(tensor)
            if shadow is not None:
                self.atoms.freeze(array(shadow), why)
            name = self.turned.get(id(tensor), self.names.get(id(tensor)))
            for axis in range(tensor.ndim):
                if name is not None and (name, axis) in self.slots:
                    self.atoms.freeze(self.slots[name, axis][0], why)

    def _follow(
        self,
        name: str,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[Tensor],
        outs: list[Tensor],
    ) -> None:
        first = outs[0]
        if name in CONVOLUTIONS:
            self._convolution(args, first)
        elif name in ("addmm", "mm") and id(args[-1]) in self.turned:
            self._linear(args, first)
        elif name in ("t", "transpose") and id(args[0]) in self.names and args[0].ndim == 2:
            self.turned[id(first)] = self.names[id(args[0])]
        elif "batch_norm" in name:
            self._batch_norm(args, first)
        elif all(self.shadow(tensor) is None for tensor in tensors):
            return
        elif name in ELEMENTWISE:
            self._elementwise(tensors, first)
        elif name in PER_CHANNEL:
            labels = along(self._of(args[0]), 1, self.atoms)
            for made in outs:
                self.set(made, spread(labels, 1, made.shape))
        elif name in MOVES:
            parts = [self._of(x) for x in args[0]] if isinstance(args[0], list | tuple) else None
            self.set(first, func(parts or self._of(args[0]), *args[1:], **kwargs))
        elif name in REDUCE:
            self._reduce(name, args, kwargs, outs)
        elif name in ("view", "_unsafe_view", "reshape", "_reshape_alias"):
            self.set(first, view(self._of(args[0]), first.shape, self.atoms))
        elif name in PARTS:
            self._part(name, func, args, kwargs, outs)
        elif name == "cat":
            axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % first.ndim
            self.set(first, cat([self._of(x) for x in args[0] if x.numel()], axis, first.shape))
        elif name in ("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"):
            labels = shuffle(
                name, along(self._of(args[0]), 1, self.atoms), int(args[1]), self.atoms
            )
            self.set(first, spread(labels, 1, first.shape))
        elif name in ("_softmax", "softmax", "_safe_softmax", "_log_softmax", "cumsum"):
            if core(self._of(args[0])).shape[args[1]] > 1:
                raise Mixed("channels")
            self.set(first, self._of(args[0]))
        elif "group_norm" in name or "layer_norm" in name:
            self._norm(name, args, first)
        else:
            raise Mixed("its channels in a way that is not followed")

    def _of(self, tensor: Tensor) -> Tensor:
        found = self.shadow(tensor)
        return torch.zeros(1, dtype=torch.int64).expand(tensor.shape) if found is None else found

    def _slot(self, name: str, axis: int, count: int, role: str) -> Labels:
        """The labels of a tensor's axis, made when it is first met."""
        if (name, axis) not in self.slots:
            self.slots[name, axis] = self.atoms.fresh(count), role
        return self.slots[name, axis][0]

    def _meets(self, name: str, axis: int, labels: Labels, role: str) -> None:
        """Run ``labels`` along an axis of a named tensor: they are one with its own."""
        own = self._slot(name, axis, len(labels), role)
        self.atoms.tie_rows(np.stack((own, labels), 1))

    def _named(self, tensor: Tensor, what: str) -> str:
        name = self.names.get(id(tensor))
        if name is None:
            raise Mixed(f"channels with a {what} that is computed")
        return name

    def _convolution(self, args: tuple[Any, ...], out: Tensor) -> None:
        x, weight, bias = args[:3]
        transposed, groups = bool(args[6]), int(args[8])
        name = self._named(weight, "weight")
        if x.ndim != weight.ndim:
            raise Mixed("channels of an input without a batch")
        into = along(self._of(x), 1, self.atoms)
        count = out.shape[1]
        outer, inner = (1, 0) if transposed else (0, 1)
        if groups == 1:
            rows = self._slot(name, outer, count, "out")
            self._meets(name, inner, into, "in")
        else:
            # Whole groups come and go, inputs and outputs together, so that all stay alike.
            table = into.reshape(groups, -1)
            for row in table[(table == 0).any(axis=1)]:
                self.atoms.freeze(row, self.where("a grouped convolution joins constants"))
            self.atoms.tie_rows(table)
            firsts = table.max(axis=1)
            fixed = firsts == 0
            firsts = np.where(fixed, self.atoms.fresh(groups), firsts)
            self.atoms.freeze(firsts[fixed], self.where("constant input of a grouped convolution"))
            rows = self.atoms.roots(np.repeat(firsts, count // groups))
            kept = into if transposed else rows
            self._meets(name, 0, kept, "along")
        if bias is not None:
            self._meets(self._named(bias, "bias"), 0, rows, "bias" if groups == 1 else "along")
        self.set(out, spread(rows, 1, out.shape))

    def _linear(self, args: tuple[Any, ...], out: Tensor) -> None:
        x, turned = args[-2:]
        name = self.turned[id(turned)]
        rows = self._slot(name, 0, out.shape[-1], "out")
        self._meets(name, 1, along(self._of(x), -1, self.atoms), "in")
        if len(args) == 3:
            self._meets(self._named(args[0], "bias"), 0, rows, "bias")
        self.set(out, spread(rows, out.ndim - 1, out.shape))

    def _batch_norm(self, args: tuple[Any, ...], out: Tensor) -> None:
        labels = along(self._of(args[0]), 1, self.atoms)
        for tensor in args[1:5]:
            if isinstance(tensor, Tensor) and id(tensor) in self.names:
                self._meets(self.names[id(tensor)], 0, labels, "along")
            elif isinstance(tensor, Tensor):  # an instance norm's, repeated for each image
                own = along(self._of(tensor), 0, self.atoms)
                self.atoms.tie_rows(np.stack((own, labels), 1))
        self.set(out, spread(labels, 1, out.shape))

    def _norm(self, name: str, args: tuple[Any, ...], out: Tensor) -> None:
        shadow = core(self._of(args[0]))
        axes = range(1, out.ndim) if "group" in name else range(-len(args[1]), 0)
        if any(shadow.shape[axis] > 1 for axis in axes):
            raise Mixed("channels in its statistics")
        self.set(out, self._of(args[0]))

    def _elementwise(self, tensors: list[Tensor], out: Tensor) -> None:
        result: Tensor | None = None
        for tensor in tensors:
            if tensor.numel() == 1 and out.numel() > 1:
                continue  # a single value changes no channel's place
            shadow = self._of(tensor)
            shadow = shadow.reshape([1] * (out.ndim - shadow.ndim) + list(shadow.shape))
            result = shadow if result is None else self._pair(result, shadow)
        if result is None:
            result = self._of(tensors[0])
            result = result.reshape([1] * (out.ndim - result.ndim) + list(result.shape))
        self.set(out, result.expand(out.shape))

    def _pair(self, a: Tensor, b: Tensor) -> Tensor:
        """Tie two shadows of one rank, value by value, as broadcasting pairs them."""
        for one, other in ((a, b), (b, a)):
            small = core(other)
            if sum(n > 1 for n in small.shape) > 1 and other.ndim == 4:
                # Several channels over one map, as after a shuffle of pixels: they are one now.
                labels = along(other, 1, self.atoms)
                return self._pair(one, spread(labels, 1, other.shape))
            wide = [axis for axis, n in enumerate(small.shape) if n > 1]
            if any(one.shape[axis] == 1 for axis in wide):  # the same for all channels: a mask
                if any(n > 1 for n in core(one).shape):
                    raise Mixed("channels of one input with those of the other")
                return other.expand(_together(one.shape, other.shape))
        shape = _together(core(a).shape, core(b).shape)
        left, right = core(a).expand(shape), core(b).expand(shape)
        pairs = np.unique(torch.stack((left.flatten(), right.flatten())).numpy(), axis=1)
        for x, y in pairs.T.tolist():
            self.atoms.tie((x, y))
            if (not x) != (not y):
                lone = np.array([x or y])
                self.atoms.freeze(lone, self.where("constants are added or multiplied"))
        merged = torch.where(left != 0, left, right)
        return merged.expand(_together(a.shape, b.shape))

    def _reduce(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outs: list[Tensor]
    ) -> None:
        shadow = self._of(args[0])
        if len(args) > 1 and isinstance(args[1], Tensor):  # max(x, y)
            self._elementwise(list(args[:2]), outs[0])
            return
        at = 2 if name == "norm" else 1
        given = args[at] if len(args) > at else kwargs.get("dim")
        axes = [given] if isinstance(given, int) else list(given or range(shadow.ndim))
        axes = [axis % shadow.ndim for axis in axes]
        small = core(shadow)
        if any(small.shape[axis] > 1 for axis in axes):
            if shadow.ndim != 4 or min(axes) < 2:
                raise Mixed("channels")
            shadow = spread(along(shadow, 1, self.atoms), 1, shadow.shape)
        for axis in axes:
            shadow = shadow.narrow(axis, 0, 1)
        for made in outs:
            self.set(made, shadow.reshape(made.shape))

    def _part(
        self,
        name: str,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outs: list[Tensor],
    ) -> None:
        shadow = self._of(args[0])
        plain = name in ("slice", "select", "unbind")
        axis = args[1 if plain else 2] if len(args) > (1 if plain else 2) else kwargs.get("dim", 0)
        count = shadow.shape[axis]
        parts = func(shadow, *args[1:], **kwargs)
        whole = len(outs) == 1 if not plain else name == "slice" and outs[0].shape[axis] == count
        if core(shadow).shape[axis] > 1 and not whole:
            if name in ("select", "unbind"):
                raise Mixed("channels by picking single ones")
            start = args[2] if name == "slice" and len(args) > 2 and args[2] else 0
            step = args[4] if name == "slice" and len(args) > 4 else 1
            sizes = {made.shape[axis] for made in outs}
            tie_parts(shadow, axis, sizes, start, step, self.atoms)
        for made, part in zip(
            outs, parts if isinstance(parts, tuple | list) else [parts], strict=True
        ):
            self.set(made, part)


def _together(a: torch.Size, b: torch.Size) -> torch.Size:
    """The shape that two of one rank are broadcast to."""
    return torch.Size([max(pair) if min(pair) else 0 for pair in zip(a, b, strict=True)])


def _real(x: object) -> bool:
    return isinstance(x, Tensor)
