"""Writing down the operators of a network in the order its ``forward`` runs them."""

from __future__ import annotations

from typing import NamedTuple

from compress.space.operators import (
    ACTIVATION,
    ADD,
    CONCAT,
    CONV,
    NORM,
    POOL,
    UPSAMPLE,
    Operator,
)


class Shape(NamedTuple):
    """A map that flows through a network: channels, height, width."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


class Draft:
    """An operator list in the making; each method takes and gives the shapes of maps.

    A family's closed form then reads as its network's ``forward`` does, without torch.

    >>> draft = Draft((32, 48))
    >>> x = draft.conv(draft.image, 8, kernel=3, stride=2)
    >>> x, draft.operators[0].macs
    (Shape(channels=8, height=16, width=24), 82944)
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.image = Shape(3, *size)
        self.operators: list[Operator] = []
        self.prefix = ""  # of the names of the operators that follow, as in "decoder.1."

    def conv(
        self,
        x: Shape,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        name: str = "conv",
    ) -> Shape:
        """A "same" convolution of an odd kernel: sides are divided by the stride, rounded up."""
        out = Shape(channels, -(-x.height // stride), -(-x.width // stride))
        self.operators.append(
            Operator(self.prefix + name, CONV, x.channels, *out, kernel, stride, groups, bias)
        )
        return out

    def depthwise(
        self, x: Shape, kernel: int = 3, stride: int = 1, name: str = "depthwise"
    ) -> Shape:
        """A bias-free depthwise convolution."""
        return self.conv(x, x.channels, kernel, stride, x.channels, name=name)

    def norm(self, x: Shape, name: str = "norm") -> Shape:
        """An affine batch norm."""
        self.operators.append(Operator(self.prefix + name, NORM, x.channels, *x, detail="batch"))
        return x

    def act(self, x: Shape, kind: str, name: str = "act") -> Shape:
        """An activation; ``kind`` is aten's name of it ("relu", "hardtanh" for ReLU6)."""
        self.operators.append(Operator(self.prefix + name, ACTIVATION, x.channels, *x, detail=kind))
        return x

    def pool(
        self, x: Shape, kernel: int = 2, stride: int = 2, kind: str = "avg", name: str = "pool"
    ) -> Shape:
        """A pooling that divides sides by the stride, rounded up."""
        out = Shape(x.channels, -(-x.height // stride), -(-x.width // stride))
        self.operators.append(
            Operator(self.prefix + name, POOL, x.channels, *out, kernel, stride, detail=kind)
        )
        return out

    def mean(self, x: Shape, name: str = "mean") -> Shape:
        """The mean over all positions, kept as a 1x1 map."""
        out = Shape(x.channels, 1, 1)
        self.operators.append(Operator(self.prefix + name, POOL, x.channels, *out, detail="mean"))
        return out

    def upsample(
        self, x: Shape, size: tuple[int, int], kind: str = "nearest", name: str = "upsample"
    ) -> Shape:
        """Interpolation to ``size`` (height, width); ``kind`` is "nearest" or "bilinear"."""
        out = Shape(x.channels, *size)
        self.operators.append(Operator(self.prefix + name, UPSAMPLE, x.channels, *out, detail=kind))
        return out

    def concat(self, *maps: Shape, name: str = "concat") -> Shape:
        """Maps of one size side by side."""
        channels = sum(x.channels for x in maps)
        out = Shape(channels, *maps[0].size)
        self.operators.append(Operator(self.prefix + name, CONCAT, channels, *out))
        return out

    def add(self, x: Shape, y: Shape, name: str = "add") -> Shape:
        """The sum of two maps of one shape."""
        assert x == y, f"{self.prefix}{name}: {x} and {y} cannot be added"
        self.operators.append(Operator(self.prefix + name, ADD, x.channels, *x))
        return x

    def depth(self, raw: Shape, target: str) -> None:
        """End a network: the head's map, brought to the image's size, becomes depth in metres.

        The counterpart of ``compress.models.base.to_depth``.
        """
        self.prefix = ""
        if raw.size != self.image.size:
            raw = self.upsample(raw, self.image.size, "bilinear", name="head.upsample")
        if target != "log":
            self.act(raw, "softplus", name="head.softplus")
        self.act(raw, "clamp", name="head.clamp")
