"""Networks: building them from genotypes, and their one-file format."""

from compress.models.base import DepthNet, Outputs, normalised
from compress.models.build import build
from compress.models.files import load, save
from compress.models.weights import detachable, take_weights

__all__ = [
    "DepthNet",
    "Outputs",
    "build",
    "detachable",
    "load",
    "normalised",
    "save",
    "take_weights",
]
