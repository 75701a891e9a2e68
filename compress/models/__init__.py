"""Networks: building them from genotypes, and their one-file format."""

from compress.models.base import DepthNet, normalised
from compress.models.build import build
from compress.models.files import load, save

__all__ = ["DepthNet", "build", "load", "normalised", "save"]
