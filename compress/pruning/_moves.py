"""Views, parts, concatenations and shuffles: what moves channels about, done to their labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from compress.pruning._atoms import Atoms, Labels, Mixed, along, array, core


def view(shadow: Tensor, shape: torch.Size, atoms: Atoms) -> Tensor:
    """The shadow of a view; ties what has to go together where it takes a channel axis apart."""
    small = core(shadow)
    for old, new in regrouped(list(shadow.shape), list(shape)):
        wide = [axis for axis in old if small.shape[axis] > 1]
        olds = [axis for axis in old if shadow.shape[axis] > 1]
        sizes = [shape[axis] for axis in new if shape[axis] > 1]
        if not wide or len(olds) == len(sizes) == 1:
            continue
        if len(olds) > 1 and len(sizes) > 1:
            raise Mixed("channels with other axes")
        labels = along(shadow, wide[0], atoms) if len(olds) == 1 else array(shadow)
        atoms.probe(labels)
        if len(olds) == 1:
            # Two axes out of one: the code that made them keeps the small one as it is (the
            # groups of a shuffle) and computes the other, whose slices then go together.
            largest = max(range(len(sizes)), key=lambda i: (sizes[i], i))
            table = np.moveaxis(labels.reshape(sizes), largest, 0)
            atoms.tie_rows(table.reshape(sizes[largest], -1))
    return shadow.reshape(shape)


def tie_parts(
    shadow: Tensor, axis: int, sizes: set[int], start: int, step: int, atoms: Atoms
) -> None:
    """Tie channels that a split or slice hands to parts: equal parts are to stay equal.

    Args:
        shadow: of what is taken apart.
        axis: along which.
        sizes: of the parts along it.
        start: of a slice.
        step: of a slice.
        atoms: where they are tied.
    """
    labels = along(shadow, axis, atoms)
    size = max(sizes)
    atoms.probe(labels)
    if step == 1 and len(sizes) == 1 and len(labels) % size == 0 and start % size == 0:
        atoms.tie_rows(labels.reshape(-1, size).T)
    elif step > 1 and len(labels) % step == 0:
        atoms.tie_rows(labels.reshape(-1, step))
    else:
        raise Mixed("channels, cutting them into parts that are not alike")


def cat(shadows: list[Tensor], axis: int, out: torch.Size) -> Tensor:
    """The shadow of a concatenation, made of the few values that differ."""
    small = [core(shadow) for shadow in shadows]
    shape = [max(part.shape[i] for part in small) for i in range(len(out))]
    for part, shadow in zip(small, shadows, strict=True):
        if part.ndim != len(out):
            raise Mixed
        shape[axis] = shadow.shape[axis]
    parts = []
    for part, shadow in zip(small, shadows, strict=True):
        full = [shadow.shape[i] if i == axis else n for i, n in enumerate(shape)]
        parts.append(part.expand(full))
    return torch.cat(parts, axis).expand(out)


def shuffle(name: str, labels: Labels, factor: int, atoms: Atoms) -> Labels:
    """What becomes of labels where pixels or channels are shuffled."""
    if name == "pixel_shuffle":
        table = labels.reshape(-1, factor**2)
        atoms.tie_rows(table)
        made = table.max(axis=1)
    elif name == "pixel_unshuffle":
        made = np.repeat(labels, factor**2)
    else:
        table = labels.reshape(factor, -1)
        atoms.tie_rows(table.T)
        made = table.T.flatten()
    return atoms.roots(made)


def regrouped(old: list[int], new: list[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes of a view become which: lists of axes of equal products, as small as may be.

    >>> regrouped([1, 6, 4, 5], [1, 2, 3, 20])
    [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    """
    found = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news = [], []
        if i < len(old):
            olds.append(i)
            i += 1
        if j < len(new):
            news.append(j)
            j += 1
        while (a := math.prod(old[k] for k in olds)) != (b := math.prod(new[k] for k in news)):
            if a < b and i < len(old):
                olds.append(i)
                i += 1
            elif j < len(new):
                news.append(j)
                j += 1
            else:
                raise Mixed
        found.append((olds, news))
    return found
