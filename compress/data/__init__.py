"""Data sets: what a user names with ``--data``, as splits of frames and as resized arrays."""

from compress.data.arrays import Arrays, resized
from compress.data.sources import cut_validation, open_data
from compress.data.types import Dataset, Frames, Sample, Subset

__all__ = [
    "Arrays",
    "Dataset",
    "Frames",
    "Sample",
    "Subset",
    "cut_validation",
    "open_data",
    "resized",
]
