"""The families of networks that spaces are drawn from: adding one is one file and one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from compress.errors import unknown
from compress.space.densedepth import DenseDepthFamily
from compress.space.depthnet_nano import DepthNetNanoFamily
from compress.space.fastdepth import FastDepthFamily
from compress.space.light_shuffle import LightShuffleFamily
from compress.space.mobiledepth import MobileDepthFamily
from compress.space.operators import Operator
from compress.space.resnet_depth import ResNetDepthFamily
from compress.space.schema import Field, Values, shown
from compress.space.sparse_mobile import SparseMobileFamily


class Family(Protocol):
    """What a family must answer: its parameters, its networks and their operators."""

    name: str
    schema: dict[str, Field]

    def decode(self, values: Values) -> dict[str, Any]:
        """Turn one choice per parameter into a spec."""

    def read_spec(self, spec: object, source: str) -> dict[str, Any]:
        """Read a reference point as a TOML writes it, and check it."""

    def check_spec(self, spec: object, source: str) -> None:
        """Raise ``CompressError`` unless the spec is one of this family."""

    def operators(self, spec: Mapping[str, Any], size: tuple[int, int]) -> list[Operator]:
        """List what runs for one image of ``size``, in closed form."""


FAMILIES: dict[str, Family] = {
    "densedepth": DenseDepthFamily(),
    "depthnet-nano": DepthNetNanoFamily(),
    "fastdepth": FastDepthFamily(),
    "light-shuffle": LightShuffleFamily(),
    "mobiledepth": MobileDepthFamily(),
    "resnet-depth": ResNetDepthFamily(),
    "sparse-mobile": SparseMobileFamily(),
}


def family(name: object) -> Family:
    """Look a family up by name; an unknown name offers the nearest."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise unknown("family", name if isinstance(name, str) else shown(name), FAMILIES)
    return FAMILIES[name]
