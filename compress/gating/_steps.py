"""The steps of a compiled network, and what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Ref:
    """The value that an earlier step left in this slot."""

    slot: int


@dataclass
class Conv:
    """A convolution with its norm folded in; ``scales`` is the slot of its gate or mask."""

    out: int
    x: int
    weight: Tensor  # (O, I / groups, kh, kw)
    bias: Tensor  # (O,)
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    path: str
    size: tuple[int, int]  # of the output
    scales: int | None = None
    follows: bool = False  # scales are a mask of the input's channels that are not all zero
    relu: bool = False
    rows: bool = False  # the output is wanted channel by channel, not pixel by pixel
    positive: bool = False  # no value of the input is below 0

    @property
    def pointwise(self) -> bool:
        """Whether it is a matrix product, of every so many pixels."""
        plain = self.padding == (0, 0) and self.groups == 1
        return plain and self.weight.shape[2:] == (1, 1)

    @property
    def depthwise(self) -> bool:
        """Whether every channel has its own filter."""
        return self.groups == self.weight.shape[0] and self.weight.shape[1] == 1

    @property
    def channels(self) -> tuple[int, int]:
        """In and out."""
        return self.weight.shape[1] * self.groups, self.weight.shape[0]

    @property
    def macs(self) -> int:
        """Multiply-adds over all channels."""
        return self.weight.numel() * self.size[0] * self.size[1]


@dataclass
class Gate:
    """Scales of a convolution's channels; ``convs`` has one entry a convolution it scales."""

    out: int
    x: int
    weight: Tensor  # (I, O): the predictor's, transposed
    bias: Tensor
    active: int
    block: int
    positive: bool
    pixels: int  # of the input


@dataclass
class Alive:
    """Which channels are not zero everywhere."""

    out: int
    x: int


@dataclass
class Op:
    """Any other operator; ``args`` hold ``Ref`` where a step's value goes."""

    out: int
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    relu: bool = False
    linear_macs: int = 0
    spent: frozenset[int] = frozenset()  # slots whose memory may be written to


Step = Conv | Gate | Alive | Op


@dataclass
class Graph:
    """Steps in the order in which they run; slot 0 is the image, ``out`` the result's slot."""

    steps: list[Step] = field(default_factory=list)
    slots: int = 1
    out: int = 0
    last: list[list[int]] = field(default_factory=list)  # slots not needed after each step


def sources(step: Step) -> list[int]:
    """Slots that a step reads."""
    if isinstance(step, Op):
        found: list[int] = []
        filled((step.args, step.kwargs), lambda ref: found.append(ref.slot))
        return found
    if isinstance(step, Conv) and step.scales is not None:
        return [step.x, step.scales]
    return [step.x]


def filled(held: Any, put: Callable[[Ref], Any]) -> Any:
    """The same lists, tuples and dicts with something in the place of every ``Ref``."""
    if isinstance(held, Ref):
        return put(held)
    if isinstance(held, list | tuple):
        return [filled(one, put) for one in held]
    if isinstance(held, dict):
        return {key: filled(one, put) for key, one in held.items()}
    return held
