"""Data sets: what a user names with ``--data``, as splits of frames and as resized arrays."""

from compress.data.arrays import Arrays, resized
from compress.data.sources import cut_validation, open_data
from compress.data.types import NO_CLASS, Dataset, Frames, Pairs, Sample, Subset

__all__ = [
    "NO_CLASS",
    "Arrays",
    "Dataset",
    "Frames",
    "Pairs",
    "Sample",
    "Subset",
    "cut_validation",
    "open_data",
    "resized",
]
