"""Building blocks, one family of them a file."""

from compress.models.blocks.bilinear import BilinearUp, DoubleUp
from compress.models.blocks.fbnet import FBNetUp
from compress.models.blocks.inverted import InvertedResidual, SqueezeExcite
from compress.models.blocks.nnconv import NNConv
from compress.models.blocks.pbep import EP, PBEP, DenseStage
from compress.models.blocks.pixel_shuffle import Bottleneck, ShuffleUp
from compress.models.blocks.separable import DenseSeparable, ResidualSeparable, Separable
from compress.models.blocks.shuffle import SplitShuffle

BLOCKS = {
    "pbep": PBEP,
    "ep": EP,
    "bilinear-up": BilinearUp,
    "double-up": DoubleUp,
    "ds": Separable,
    "res-ds": ResidualSeparable,
    "dense-ds": DenseSeparable,
    "inv-res": InvertedResidual,
    "split-shuffle": SplitShuffle,
    "nnconv": NNConv,
    "squeeze-excite": SqueezeExcite,
    "bottleneck": Bottleneck,
    "shuffle-up": ShuffleUp,
    "fbnet-up": FBNetUp,
}

__all__ = [
    "BLOCKS",
    "EP",
    "PBEP",
    "BilinearUp",
    "Bottleneck",
    "DenseSeparable",
    "DenseStage",
    "DoubleUp",
    "FBNetUp",
    "InvertedResidual",
    "NNConv",
    "ResidualSeparable",
    "Separable",
    "ShuffleUp",
    "SplitShuffle",
    "SqueezeExcite",
]
