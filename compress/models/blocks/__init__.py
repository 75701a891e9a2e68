"""Building blocks, one family of them a file."""

from compress.models.blocks.pbep import EP, PBEP, DenseStage

BLOCKS = {"pbep": PBEP, "ep": EP}

__all__ = ["BLOCKS", "EP", "PBEP", "DenseStage"]
