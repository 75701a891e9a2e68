"""What a training minimises: named terms, their weights, and how these move."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data.augment import PointPairs
from compress.errors import CompressError
from compress.losses import (
    Rebalancer,
    edge_aware_smoothness,
    make_loss,
    pairwise,
    pixel_rmse,
    ranking,
    sample_pairs,
    segmentation_loss,
)
from compress.models import Outputs
from compress.train.recipe import TAUGHT, Recipe


class Facts(NamedTuple):
    """What a data set can teach: depth in metres or without a unit, pairs of points, class maps."""

    depth: bool = True
    relative: bool = False
    pairs: bool = False
    labels: bool = False


class Batch(NamedTuple):
    """Views of some images, on the device that trains.

    ``image`` (N, 3, H, W) normalised; ``depth_m`` (N, 1, H, W), 0 = none; ``labels`` (N, H, W)
    classes, 255 = none; ``pairs`` of points of which it is known which one is farther.
    """

    image: Tensor
    depth_m: Tensor
    labels: Tensor | None = None
    pairs: PointPairs | None = None


def default_terms(facts: Facts, joint: bool, taught: bool) -> dict[str, float]:
    """Weights of the terms, where a recipe does not say.

    Joint training weighs depth .25 and class maps .75 (Chiu et al., section "loss"). A teacher adds
    its depth and the resemblance of its features with weight 1 each (Yucel et al.).
    """
    terms: dict[str, float] = {}
    if facts.depth:
        terms["depth"] = 0.25 if joint else 1.0
    if facts.pairs or facts.relative:
        terms["ranking"] = 1.0
    if joint:
        terms["segmentation"] = 0.75
    if taught:
        terms |= {"pixel": 1.0, "pairwise": 1.0}
    return terms


class Objective:
    """The sum of a training's terms.

    Raises:
        CompressError: a term is asked for that data, network or teacher cannot give, or none is
            left.
    """

    def __init__(
        self, recipe: Recipe, cap_m: float, facts: Facts, *, joint: bool, taught: bool
    ) -> None:
        self.recipe = recipe
        self.cap_m = cap_m
        self.facts = facts
        self.loss = make_loss(recipe.loss, cap_m)
        asked = default_terms(facts, joint, taught) | dict(recipe.terms)
        weights = {name: float(weight) for name, weight in asked.items() if weight > 0}
        for name in weights:
            lacks = _lacking(name, facts, joint, taught)
            if lacks:
                raise CompressError(f"the loss term {name!r} needs {lacks}; leave it out (0)")
        if not weights:
            raise CompressError("every term of the loss weighs 0; give one a weight above 0")
        self.rebalancer = (
            None
            if recipe.rebalance == "none"
            else Rebalancer(dict.fromkeys(weights, 1 / len(weights)), recipe.rebalance)
        )
        self._weights = weights

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term at present."""
        return self.rebalancer.weights if self.rebalancer else self._weights

    def __call__(
        self, out: Outputs, batch: Batch, generator: torch.Generator, taught: Outputs | None
    ) -> dict[str, Tensor]:
        """The terms of a batch, unweighted; the critic's, which has weights of its own, is not in.

        Args:
            out: what the network says, with its intermediate heads.
            batch: the views it was shown, and their truth.
            generator: draws pairs of points from relative depth.
            taught: what the teacher says of the same views.
        """
        weights = self.weights
        terms: dict[str, Tensor] = {}
        valid = batch.depth_m > 0
        if not self.facts.relative:
            valid = valid & (batch.depth_m < self.cap_m)
        if "depth" in weights:
            terms["depth"] = self._over_heads(out, batch.depth_m, valid)
        if "ranking" in weights:
            pairs: Any = batch.pairs
            if pairs is None:
                pairs = sample_pairs(batch.depth_m, valid, self.recipe.pairs, generator)
            terms["ranking"] = ranking(out.depth_m.log(), *pairs)
        if "smooth" in weights:
            terms["smooth"] = edge_aware_smoothness(out.depth_m, batch.image)
        if "segmentation" in weights and batch.labels is not None:
            terms["segmentation"] = self._over_logits(out, batch.labels)
        if taught is not None and "pixel" in weights:
            # Logarithms: a teacher's far metres would drown its near ones.
            terms["pixel"] = pixel_rmse(out.depth_m.log(), taught.depth_m.log())
        if taught is not None and "pairwise" in weights:
            assert out.features is not None and taught.features is not None
            terms["pairwise"] = pairwise(out.features, taught.features)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        weights = self.weights
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def _over_heads(self, out: Outputs, depth_m: Tensor, valid: Tensor) -> Tensor:
        """The depth loss of the head and its share of the intermediate ones."""
        loss = self.loss(out.depth_m, depth_m, valid)
        if not out.auxiliary_m:
            return loss
        share = self.recipe.auxiliary
        # A small map is judged at the size of the truth, whose holes it then needs no rule for.
        others = [self.loss(_grown(m, depth_m), depth_m, valid) for m in out.auxiliary_m]
        return (1 - share) * loss + share * torch.stack(others).mean()

    def _over_logits(self, out: Outputs, labels: Tensor) -> Tensor:
        assert out.segmentation is not None
        loss = segmentation_loss(out.segmentation, labels)
        if not out.auxiliary_segmentation:
            return loss
        share = self.recipe.auxiliary
        others = [segmentation_loss(_grown(m, labels), labels) for m in out.auxiliary_segmentation]
        return (1 - share) * loss + share * torch.stack(others).mean()


def _grown(map_: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(map_, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _lacking(name: str, facts: Facts, joint: bool, taught: bool) -> str:
    """What a term needs and does not have; empty where it has it all."""
    if name == "depth" and not facts.depth:
        return "depth maps, which this data set has none of"
    if name == "ranking" and not (facts.pairs or facts.depth):
        return "pairs of points or depth maps"
    if name == "segmentation":
        if not joint:
            return "a network with a segmentation head"
        if not facts.labels:
            return "class maps, which this data set has none of"
    if name in TAUGHT and not taught:
        return "a teacher (compress distill STUDENT --teacher MODEL)"
    return ""
