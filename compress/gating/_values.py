"""Feature maps of which only some channels are stored, and what adds or joins two of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compress.gating.native import native, native_sum

CL = torch.channels_last


class Value:
    """A tensor, or its active channels only.

    ``data`` (1, K, ...) holds the channels ``index`` (K,), in any order, of ``channels``; the
    others are zero. ``index`` None: all are held, in their order. ``room`` is memory for more
    channels, of which ``data`` is the beginning; ``parts`` says how many channels were
    put together here and what means are known of them.
    """

    __slots__ = ("channels", "data", "index", "means", "parts", "room")

    def __init__(self, data: Tensor, index: Tensor | None = None, channels: int = 0) -> None:
        self.data, self.index = data, index
        self.channels = channels if index is not None else data.shape[1] if data.dim() > 1 else 0
        self.means: Tensor | None = None
        self.room: Tensor | None = None
        self.parts: Sequence[tuple[int, Tensor | None]] = ()

    @property
    def active(self) -> int:
        """Number of channels held."""
        return self.data.shape[1]


class Mask(Value):
    """Which channels are not zero everywhere: ``data`` (K,) ones, ``at`` (K,) where they are held.

    K may be 0.
    """

    __slots__ = ("at",)

    def __init__(self, data: Tensor, at: Tensor, index: Tensor | None, channels: int) -> None:
        super().__init__(data, index, channels)
        self.channels, self.at = channels, at


def dense(value: Value) -> Tensor:
    """All channels, zeros where none are held: (1, C, ...)."""
    data, index = value.data, value.index
    if data.dim() == 1:
        data = data.unsqueeze(0)  # scales
    if index is None:
        return data
    if data.dim() == 4:
        data = data.contiguous()  # whole channels are copied
    out = data.new_zeros(data.shape[0], value.channels, *data.shape[2:])
    out[0].index_copy_(0, index, data[0])
    return out


def matrix(data: Tensor) -> Tensor:
    """(1, C, H, W) as (C, H W), which may be a transposed view."""
    _, channels, height, width = data.shape
    if not data.is_contiguous() and data.is_contiguous(memory_format=CL):
        return data.permute(0, 2, 3, 1).view(height * width, channels).t()
    return data.contiguous().view(channels, height * width)


def saliency_of(value: Value, positive: bool) -> Tensor:
    """Mean of |x| over the pixels of each channel that is held: (K,)."""
    if value.means is None:
        if value.parts:
            x, at, means = matrix(value.data), 0, []
            for count, known in value.parts:
                means.append(_means(x[at : at + count], positive) if known is None else known)
                at += count
            value.means = torch.cat(means)
        else:
            value.means = _means(matrix(value.data), positive)
    return value.means


def _means(x: Tensor, positive: bool) -> Tensor:
    """(K, H W), which may be a transposed view, to (K,)."""
    x = x if positive else x.abs()
    if x.stride(1) == 1:
        return x.mean(1)
    # Down the columns, which a product does faster than a sum.
    return torch.mm(x.new_full((1, x.shape[1]), 1 / x.shape[1]), x.t())[0]


def added(a: Value, b: Value, relu: bool, spent: tuple[bool, bool] = (False, False)) -> Value:
    """Sum of two maps of one size; its channels are the union of both.

    ``spent`` says which of the two nobody needs any more: its memory may be written to.
    """
    if a.index is None and b.index is None:
        return Value(_sum(a.data, b.data, relu))
    library = native(a.data.dtype)
    if library is not None:
        data, union, means = native_sum(
            library, a.data.contiguous(), a.index, b.data.contiguous(), b.index, a.channels, relu
        )
        out = Value(data, None if len(union) == a.channels else union, a.channels)
        out.means = means
        return out
    # The first takes the second up: the one that holds all, or has room, or is larger.
    rank = [
        (v.index is None, v.room is not None and may, v.active)
        for v, may in zip((a, b), spent, strict=True)
    ]
    if rank[1] > rank[0]:
        a, b, spent = b, a, spent[::-1]
    assert b.index is not None
    _, held, height, width = a.data.shape
    index, extra, at = a.index, 0, b.index
    if index is not None:
        position = index.new_full((a.channels,), -1)
        position.index_copy_(0, index, torch.arange(held))
        at = position.index_select(0, b.index)
        new = (at < 0).nonzero().view(-1)
        extra = len(new)
        if extra:
            at.index_copy_(0, new, torch.arange(held, held + extra))
            index = torch.cat((index, b.index.index_select(0, new)))
    room = a.room
    if not spent[0] or (room is None and (extra or not a.data.is_contiguous())):
        room = a.data.new_empty(1, a.channels, height, width)
        room[:, :held] = a.data
    data = a.data if room is None else room[:, : held + extra]
    if extra:
        data[:, held:].zero_()
    data[0].index_add_(0, at, b.data.contiguous()[0])
    out = Value(data.relu_() if relu else data, index, a.channels)
    out.room = room
    return out


def _sum(a: Tensor, b: Tensor, relu: bool) -> Tensor:
    """Sum in the layout of the first."""
    if a.shape == b.shape and a.dim() == 4:
        b = b.contiguous(memory_format=torch.contiguous_format if a.is_contiguous() else CL)
    total: Tensor = torch.ops.aten._add_relu.Tensor(a, b) if relu else a + b
    return total


def joined(values: Sequence[Value]) -> Value:
    """Maps of one size put beside one another: (1, sum of C, H, W)."""
    # Turning a map around takes longer than joining it: the larger share stays as it is.
    turned = sum(v.data.numel() * (1 if v.data.is_contiguous() else -1) for v in values)
    form = CL if turned < 0 and all(v.data.dim() == 4 for v in values) else torch.contiguous_format
    data = torch.cat([v.data.contiguous(memory_format=form) for v in values], 1)
    if all(v.index is None for v in values):
        out = Value(data)
    else:
        parts, offset = [], 0
        for v in values:
            own = torch.arange(v.channels) if v.index is None else v.index
            parts.append(own + offset)
            offset += v.channels
        out = Value(data, torch.cat(parts), offset)
    if any(v.means is not None for v in values):
        out.parts = [(v.active, v.means) for v in values]
    return out
