"""Which channels are one: labels of channels, and what ties them together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.int64]


class Mixed(Exception):
    """An operator that mixes channels or is not known: they must all stay."""


class Atoms:
    """Labels of single channels (from 1; 0 says "no channel"), tied by union and find.

    ``reasons`` says of a label why its channel must stay, ``probed`` holds the labels that passed
    an operator whose split points a network's code may have written down as numbers.
    """

    def __init__(self) -> None:
        self.parent = [0]
        self.reasons: list[tuple[int, str]] = []
        self.probed: set[int] = set()

    def fresh(self, count: int) -> Labels:
        """Labels of ``count`` channels met for the first time."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, label: int) -> int:
        """The label that stands for all those tied to this one."""
        parent = self.parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def roots(self, labels: Labels) -> Labels:
        """``root`` of each."""
        unique, inverse = np.unique(labels, return_inverse=True)
        found = np.array([self.root(int(label)) for label in unique], dtype=np.int64)
        return found[inverse].reshape(labels.shape)

    def tie(self, labels: Iterable[int]) -> None:
        """Cut these channels together or not at all."""
        first = 0
        for label in labels:
            if not label:
                continue
            root = self.root(int(label))
            if first and root != first:
                low, high = sorted((first, root))
                self.parent[high] = first = low
            first = first or root

    def tie_rows(self, table: Labels) -> None:
        """Tie the labels within each row of a (rows, n) table."""
        for row in table.reshape(len(table), -1):
            self.tie(np.unique(row).tolist())

    def freeze(self, labels: Labels, why: str) -> None:
        """Say that these channels must stay, and why."""
        self.reasons.extend((int(label), why) for label in np.unique(labels) if label)

    def probe(self, labels: Labels) -> None:
        """Remember that a cut of these channels is to be tried before it is promised."""
        self.probed.update(int(label) for label in np.unique(labels) if label)


def core(shadow: Tensor) -> Tensor:
    """A shadow reduced to one cell along every axis on which its labels do not change."""
    for axis, count in enumerate(shadow.shape):
        if count > 1:
            first = shadow.narrow(axis, 0, 1)
            if shadow.stride(axis) == 0 or bool((shadow == first).all()):
                shadow = first
    return shadow


def array(shadow: Tensor) -> Labels:
    """A shadow's labels as numpy."""
    found: Labels = core(shadow).contiguous().numpy()
    return found


def along(shadow: Tensor, axis: int, atoms: Atoms) -> Labels:
    """Labels of a shadow's channels along ``axis``; a channel that has several ties them."""
    table = np.moveaxis(array(shadow), axis, 0)
    table = atoms.roots(table.reshape(len(table), -1))
    if table.shape[1] > 1:
        # Of places without a label ("no channel") the channel itself is the stronger word.
        atoms.tie_rows(table)
        table = atoms.roots(table.max(axis=1, keepdims=True))
    return np.broadcast_to(table[:, 0], (shadow.shape[axis],))


def spread(labels: Labels, axis: int, shape: Iterable[int]) -> Tensor:
    """A shadow of this shape whose labels change along one axis alone; it takes no memory."""
    full = tuple(shape)
    small = [1] * len(full)
    small[axis] = len(labels)
    return torch.from_numpy(np.array(labels)).reshape(small).expand(full)
