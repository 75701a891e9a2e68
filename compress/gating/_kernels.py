"""How one layer is computed: gates, and convolutions over the channels that are wanted."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.gating._steps import Conv, Gate
from compress.gating._values import CL, Mask, Value, dense, matrix, saliency_of
from compress.gating.native import NativeConvolution, NativeGate, layout, native
from compress.models.blocks.gates import TIE


class Mode(NamedTuple):
    """What is gathered of the weights ("both", "in", "out", "dense"), and how is computed.

    ``how`` is "mm" (a matrix product), "pixels" or "planes" (torch's convolution, channels last or
    first), "unfold" (windows copied out, then a matrix product), "packed" (weights laid out once
    and for all) or "native" (the functions of kernels.c, which gather nothing).
    """

    gather: str
    how: str

    def __str__(self) -> str:
        return f"{self.gather}/{self.how}"


def raised(out: Tensor, by: Tensor, relu: bool) -> Tensor:
    """Add in place, and apply the ReLU in the same pass."""
    result: Tensor = torch.ops.aten._add_relu_.Tensor(out, by) if relu else out.add_(by)
    return result


def packable(step: Conv) -> bool:
    """Whether this torch and processor have convolutions with weights laid out beforehand."""
    here = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")
    return here and step.weight.dtype is torch.float32


def modes_of(step: Conv, compact: bool, choose: str) -> list[Mode]:
    """The modes that a layer can run in; ``compact``: whether some input channels are left out."""
    plain = ["mm"] if step.pointwise else ["pixels", "planes", "unfold"]
    whole = plain + (["packed"] if packable(step) else [])
    if step.depthwise:
        plain, whole = ["pixels"], [name for name in whole if name not in ("unfold", "planes")]
    elif step.groups > 1:
        plain, whole = [], [name for name in whole if name != "unfold"]
    gated = step.scales is not None and not step.follows
    own = native_fits(step)
    ways = [
        "both" if gated and compact else "",
        "out" if gated else "",
        "in" if compact else "",
    ]
    if step.depthwise:
        # A gate of its own scales what comes out; only an input that is compact spares anything.
        ways = ["in"] if compact and step.follows else []
    ways = [way for way in ways if way]
    found = [Mode(way, how) for way in ways for how in plain]
    if own and ways:
        # It reads and computes whatever is chosen, at no cost: there is nothing to weigh.
        found.insert(0, Mode(ways[0], "native"))
    if choose == "gather" and found:
        return [one for one in found if one.gather == found[0].gather][:1]
    dense_modes = [Mode("dense", how) for how in whole]
    if own and (choose == "dense" or not found):
        dense_modes.append(Mode("dense", "native"))
    return dense_modes if choose == "dense" or not found else found + dense_modes


def native_fits(step: Conv) -> bool:
    """Whether kernels.c computes this convolution: one stride for both directions, no groups."""
    plain = step.groups == 1 or step.depthwise
    fits = plain and step.stride[0] == step.stride[1] and len(step.weight.shape) == 4
    return fits and native(step.weight.dtype) is not None


class Convolve:
    """A convolution in one mode: takes a value and scales, gives the value of what is wanted."""

    def __init__(self, step: Conv, mode: Mode) -> None:
        self.step, self.mode = step, mode
        self.ins, self.outs = mode.gather in ("both", "in"), mode.gather in ("both", "out")
        weight = step.weight
        outs, ins, *kernel = weight.shape
        self.kernel = tuple(kernel)
        self.taps = kernel[0] * kernel[1]
        self.native: dict[tuple[int, int], NativeConvolution] = {}
        if mode.how == "native":
            self.weight = weight.contiguous()
        elif mode.how == "packed":
            image = (1, ins * step.groups, *_input_size(step))
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight.contiguous(memory_format=CL), list(step.padding), list(step.stride),
                list(step.dilation), step.groups, list(image),
            )  # fmt: skip
        elif mode.gather == "in" and not step.depthwise:
            self.weight = weight.transpose(0, 1).contiguous()  # (I, O, kh, kw)
        elif mode.gather == "dense" and mode.how == "pixels":
            self.weight = weight.contiguous(memory_format=CL)
        elif mode.gather == "both" and self.taps > 1:
            self.weight = weight.reshape(outs * ins, self.taps)
        else:
            self.weight = weight

    def __call__(self, x: Value, scales: Value | None) -> Value:
        """Run the layer."""
        step = self.step
        if isinstance(scales, Mask):
            return self._following(x, scales)
        if self.mode.how == "native":
            return self._natively(x, scales)
        chosen = scales.index if scales is not None and self.outs else None
        index = x.index if self.ins else None
        data = x.data if self.ins or x.index is None else dense(x)
        weight, bias = self._weights(chosen, index), step.bias
        factor = None if scales is None else scales.data
        if chosen is not None:
            assert factor is not None
            bias = bias.index_select(0, chosen)
            if data.shape[1] * self.taps < step.size[0] * step.size[1]:
                # The weights are fewer than the pixels.
                weight = weight.mul_(factor.view(-1, *(1,) * (weight.dim() - 1)))
                bias, factor = bias.mul_(factor), None
        # Scales are 0 or more: it makes no difference whether the ReLU comes before them.
        out = self._product(data, weight, bias, step.relu)
        if factor is not None:
            assert scales is not None
            if chosen is None and scales.index is not None:
                out = out.contiguous().index_select(1, scales.index)
            out.mul_(factor.view(1, -1, 1, 1))
        return Value(out, None if scales is None else scales.index, step.weight.shape[0])

    def _natively(self, x: Value, scales: Value | None) -> Value:
        data = (x.data if self.ins else dense(x)).contiguous()
        index = x.index if self.ins else None
        if scales is None:
            out, means = self._native(data)(data, index, None, None)
            result = Value(out)
        else:
            out, means = self._native(data)(data, index, scales.index, scales.data.contiguous())
            result = Value(out, scales.index, self.step.weight.shape[0])
        result.means = means
        return result

    def _native(self, data: Tensor) -> NativeConvolution:
        """Laid out for maps of this size."""
        size = (data.shape[2], data.shape[3])
        if size not in self.native:
            step, library = self.step, native(data.dtype)
            assert library is not None
            where = layout(
                library, (self.kernel[0], self.kernel[1]), step.weight.shape[1], size, step.size,
                step.stride[0], step.padding, step.dilation, step.depthwise,
            )  # fmt: skip
            self.native[size] = NativeConvolution(
                library, self.weight, step.bias, where, relu=step.relu, depthwise=step.depthwise,
                threads=torch.get_num_threads(),
            )  # fmt: skip
        return self.native[size]

    def _following(self, x: Value, alive: Mask) -> Value:
        """Channels that came in silent are left out."""
        step, index = self.step, alive.index
        if index is not None and not len(index):
            first = torch.zeros(1, dtype=torch.long)  # one channel of zeros: no map is without any
            return Value(x.data.new_zeros(1, 1, *step.size), first, x.channels)
        if self.ins and index is not None:
            data = x.data
            if len(index) < x.active:
                data = data.contiguous().index_select(1, alive.at)
            if self.mode.how == "native":
                data = data.contiguous()
                out, means = self._native(data)(data, index, None, None)
                result = Value(out, index, x.channels)
                result.means = means
                return result
            weight, bias = step.weight.index_select(0, index), step.bias.index_select(0, index)
            out = self._product(data, weight, bias, step.relu)
        else:
            if self.mode.how == "native":
                data = dense(x).contiguous()
                out = self._native(data)(data, None, None, None)[0]
            else:
                out = self._product(dense(x), self.weight, step.bias, step.relu)
            if index is not None:
                out = out.contiguous().index_select(1, index)
        return Value(out, index, x.channels)

    def _weights(self, chosen: Tensor | None, index: Tensor | None) -> Tensor:
        """The part that is needed, (O', I', kh, kw) or (O', I'); a copy where any is left out."""
        taps = self.taps
        weight: Tensor = self.weight
        outs, ins = self.step.weight.shape[:2]
        if self.mode.gather == "in" and not self.step.depthwise:
            return (weight if index is None else weight.index_select(0, index)).transpose(0, 1)
        if self.mode.gather == "both":
            if taps == 1:
                weight = weight.view(outs, ins)
                if chosen is not None:
                    weight = weight.index_select(0, chosen)
                return weight if index is None else weight.index_select(1, index)
            if index is None:
                index = torch.arange(ins)
            if chosen is None:
                chosen = torch.arange(outs)
            flat = (chosen.unsqueeze(1) * ins + index).view(-1)
            rows = weight.index_select(0, flat)
            return rows.view(len(chosen), len(index), *self.kernel)
        return weight if chosen is None else weight.index_select(0, chosen)

    def _product(self, data: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        """(1, I', H, W) to (1, O', h, w), with the bias and the ReLU."""
        step, how = self.step, self.mode.how
        if how in ("mm", "unfold"):
            return self._matrix_product(data, weight, bias, relu)
        if how == "packed":
            out: Tensor = torch.ops.mkldnn._convolution_pointwise(
                data.contiguous(memory_format=CL), weight, bias, list(step.padding),
                list(step.stride), list(step.dilation), step.groups,
                "relu" if relu else "none", [], "",
            )  # fmt: skip
            return out
        data = data.contiguous(memory_format=CL) if how == "pixels" else data.contiguous()
        groups = data.shape[1] if step.depthwise else step.groups
        weight = weight.view(-1, weight.shape[1], *self.kernel)
        out = F.conv2d(data, weight, bias, step.stride, step.padding, step.dilation, groups)
        return out.relu_() if relu else out

    def _matrix_product(self, data: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        step = self.step
        if self.mode.how == "unfold":
            data = F.unfold(
                data.contiguous(), self.kernel, step.dilation, step.padding, step.stride
            ).unsqueeze(3)
        elif step.stride != (1, 1):
            form = torch.contiguous_format if data.is_contiguous() else CL
            data = data[:, :, :: step.stride[0], :: step.stride[1]].contiguous(memory_format=form)
        weight = weight.flatten(1)
        # As the input lies, so does the output: turning a matrix around costs more than it brings.
        rows = step.rows or data.is_contiguous()
        height, width = step.size
        if rows:
            out = raised(torch.mm(weight, matrix(data)), bias.unsqueeze(1), relu)
            return out.view(1, -1, height, width)
        out = raised(torch.mm(matrix(data).t(), weight.t()), bias, relu)
        return out.view(1, height, width, -1).permute(0, 3, 1, 2)


def _input_size(step: Conv) -> tuple[int, int]:
    """A size of input that gives the step's size of output."""
    pairs = zip(step.size, step.stride, step.padding, step.dilation, step.weight.shape[2:],
                strict=True)  # fmt: skip
    height, width = ((out - 1) * by - 2 * pad + gap * (taps - 1) + 1
                     for out, by, pad, gap, taps in pairs)  # fmt: skip
    return height, width


class Predict:
    """A gate: from a value to the scales of the channels that win, (K,), and which they are.

    In as few calls as can be: in a small network each costs as much as its arithmetic.
    """

    def __init__(self, step: Gate) -> None:
        self.step = step
        self.channels = len(step.bias)
        self.count = step.active // step.block
        self.start = torch.zeros(1, dtype=torch.long)
        # Of equals the first wins, as in compress.models.blocks.gates.best.
        self.order = 1 - TIE * torch.arange(self.channels // step.block).double()
        self.within = torch.arange(step.block)
        library = native(step.weight.dtype)
        self.native = library and NativeGate(
            library, step.weight, step.bias, step.active, step.block, TIE
        )

    def __call__(self, x: Value) -> Value:
        """Predict."""
        step, block = self.step, self.step.block
        means = saliency_of(x, step.positive)
        if self.native:
            scales, which = self.native(means.contiguous(), x.index)
            whole = len(which) == self.channels
            return Value(scales, None if whole else which, self.channels)
        if x.index is None:
            g = torch.addmv(step.bias, step.weight.t(), means)
        else:
            # Reads the rows of the active channels and copies none.
            bag = torch.embedding_bag(step.weight, x.index, self.start, False, 0, False, means)
            g = bag[0][0].add_(step.bias)
        if step.active >= self.channels:
            values, index = g, None
        elif block > 1:
            sums = g.relu_().view(-1, block).sum(1).double() * self.order
            blocks = sums.topk(self.count).indices
            index = (blocks.unsqueeze(1) * block + self.within).view(-1)
            values = g.index_select(0, index)
        else:
            # No ReLU before the choice: what it makes zero goes afterwards all the same.
            index = (g.double() * self.order).topk(self.count).indices
            values = g.index_select(0, index)
        if float(values.min()) <= 0:
            left = (values > 0).nonzero().view(-1)
            if not len(left):
                left = left.new_zeros(1)  # one channel of zeros: no layer is without any
            index = left if index is None else index.index_select(0, left)
            values = g.index_select(0, index).clamp_(min=0)
        return Value(values, index, self.channels)


def awake(x: Value) -> Mask:
    """Which of the channels held are not zero everywhere."""
    some = (matrix(x.data).abs().amax(1) if x.means is None else x.means) > 0
    if bool(some.all()):
        return Mask(x.data.new_ones(x.active), torch.arange(x.active), x.index, x.channels)
    at = some.nonzero().view(-1)
    index = at if x.index is None else x.index.index_select(0, at)
    return Mask(x.data.new_ones(len(at)), at, index, x.channels)
