"""The only place where names become modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from compress.models.base import DepthNet
from compress.models.densedepth import DenseDepth
from compress.models.depthnet_nano import DepthNetNano
from compress.models.fastdepth import FastDepth
from compress.models.light_shuffle import LightShuffle
from compress.models.mobiledepth import MobileDepth
from compress.models.resnet_depth import ResNetDepth
from compress.models.sparse_mobile import SparseMobile
from compress.space import Genotype

NETWORKS: dict[str, Callable[[Mapping[str, Any]], DepthNet]] = {
    "densedepth": DenseDepth,
    "depthnet-nano": DepthNetNano,
    "fastdepth": FastDepth,
    "light-shuffle": LightShuffle,
    "mobiledepth": MobileDepth,
    "resnet-depth": ResNetDepth,
    "sparse-mobile": SparseMobile,
}


def build(genotype: Genotype, seed: int | None = None) -> DepthNet:
    """Build the network of a genotype, with fresh weights.

    Args:
        genotype: from a space (``sample``, ``reference``, ``genotype``) or a file.
        seed: draws the same weights for the same seed and leaves torch's own generator alone;
            None uses torch's generator.

    Returns:
        a ``DepthNet``: (N, 3, H, W) normalised RGB to (N, 1, H, W) depth in metres.
    """
    if seed is None:
        model = NETWORKS[genotype.family](genotype.spec)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = NETWORKS[genotype.family](genotype.spec)
    model.genotype, model.size, model.info = genotype, genotype.size, {}
    return model
