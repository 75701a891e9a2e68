"""Random views of a batch that keep its depth metric."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.data.types import NO_CLASS
from compress.errors import CompressError

Draw = Callable[..., Tensor]
_GREY = (0.299, 0.587, 0.114)  # weights of red, green, blue in brightness


class PointPairs(NamedTuple):
    """``compress.data.types.Pairs`` of N images as tensors: (N, P, 4), (N, P) and (N, P)."""

    coordinates: Tensor
    order: Tensor
    valid: Tensor


class View(NamedTuple):
    """One view of each image, with what is known of its pixels; shapes as they were given."""

    image: Tensor
    depth_m: Tensor
    labels: Tensor | None = None
    pairs: PointPairs | None = None


@dataclass(frozen=True)
class Augment:
    """How far views may stray from the images.

    ``flip``: probability of a left-right mirror image. ``zoom``: the smallest share of the image
    that a view may show; a view of share s has a focal length 1/s times the camera's, so that at
    the camera's own focal length things stand s times as far, and depth is multiplied by s. This
    is a random crop brought back to size, and what others call a scale of 1 to 1/zoom.
    ``rotation_deg``: about the optical axis, which changes no z-depth. ``brightness``, ``colour``:
    largest change of gain and offset of the whole image, of gain per channel, whose middle is
    ``colour_centre`` (0.95 with ``colour`` 0.25 is 0.7 to 1.2).

    What follows is off by default and comes after these, in this order. ``contrast``,
    ``saturation``: largest change of the distance to the image's mean grey, to each pixel's own
    grey. ``gamma``: exponents from 1 / (1 + gamma) to 1 + gamma, on the image cut to its range.
    ``channel_swap``: probability that the channels change places, in any of the six orders.

    Source: Alhashim and Wonka, arXiv 1812.11941 (mirror, channel swap); Eigen et al., NeurIPS 2014
    (scale with depth divided by it, rotation, colour).
    """

    flip: float = 0.5
    zoom: float = 0.6
    rotation_deg: float = 0.0
    brightness: float = 0.2
    colour: float = 0.1
    colour_centre: float = 1.0
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0
    channel_swap: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("flip", 0, 1), ("zoom", 0.1, 1), ("rotation_deg", 0, 90), ("brightness", 0, 1),
            ("colour", 0, 1), ("colour_centre", 0.1, 2), ("contrast", 0, 1), ("saturation", 0, 1),
            ("gamma", 0, 2), ("channel_swap", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise CompressError(f"augment {name} = {value!r}; allowed: {low} to {high}")

    def __call__(
        self, image: Tensor, depth_m: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one view of each image: ``view`` where only image and depth are wanted."""
        view = self.view(image, depth_m, generator)
        return view.image, view.depth_m

    def view(
        self,
        image: Tensor,
        depth_m: Tensor,
        generator: torch.Generator,
        labels: Tensor | None = None,
        pairs: PointPairs | None = None,
    ) -> View:
        """Draw one view of each image.

        Args:
            image: (N, 3, H, W) float, -1 to 1.
            depth_m: (N, 1, H, W) metres, 0 = no measurement.
            generator: on the CPU; the same state draws the same views on any device, with and
                without ``labels`` and ``pairs``.
            labels: (N, H, W) uint8 class maps, ``NO_CLASS`` = none.
            pairs: pairs of points.

        Returns:
            The views, same shapes and types; pixels that a rotation brings in from outside are
            mid-grey before brightness, without depth and class. Pairs of which a point has left
            the view are no longer valid; the order of the others is what it was.
        """
        count, _, height, width = image.shape

        def draw(*shape: int) -> Tensor:  # -1..1
            return (torch.rand(*shape, generator=generator) * 2 - 1).to(image.device)

        mirror = torch.where((draw(count) + 1) / 2 < self.flip, -1.0, 1.0)
        share = 1 - (1 - self.zoom) * (draw(count) + 1) / 2
        angle = draw(count) * math.radians(self.rotation_deg)
        shift = draw(count, 2) * (1 - share)[:, None]
        aspect = width / height  # affine grids are in units of half the height and half the width
        matrix = torch.zeros(count, 2, 3, device=image.device)
        matrix[:, 0, 0] = share * mirror * angle.cos()
        matrix[:, 0, 1] = -share * angle.sin() / aspect
        matrix[:, 1, 0] = share * mirror * angle.sin() * aspect
        matrix[:, 1, 1] = share * angle.cos()
        matrix[:, :, 2] = shift
        grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=False)
        image = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
        # Nearest: a depth between two surfaces exists on neither, nor does a class.
        depth_m = F.grid_sample(depth_m, grid, mode="nearest", align_corners=False)
        depth_m = depth_m * share[:, None, None, None]
        if labels is not None:  # what comes in from outside is 0, so 0 must be what has no class
            other = labels[:, None].float() - NO_CLASS
            other = F.grid_sample(other, grid, mode="nearest", align_corners=False)
            labels = (other[:, 0] + NO_CLASS).to(labels.dtype)
        if pairs is not None:
            pairs = _moved(pairs, matrix)
        gain = 1 + self.brightness * draw(count, 1, 1, 1)
        gain = gain * (self.colour_centre + self.colour * draw(count, 3, 1, 1))
        image = image * gain + self.brightness * draw(count, 1, 1, 1)
        return View(self._recoloured(image, draw), depth_m, labels, pairs)

    def _recoloured(self, image: Tensor, draw: Draw) -> Tensor:
        """Draw only for what is switched on: else the views of older recipes would change."""
        count = len(image)
        if self.contrast or self.saturation:
            weights = torch.tensor(_GREY, device=image.device, dtype=image.dtype)
            if self.contrast:
                grey = (image.mean((2, 3)) @ weights)[:, None, None, None]
                image = grey + (image - grey) * (1 + self.contrast * draw(count, 1, 1, 1))
            if self.saturation:
                grey = (image * weights[:, None, None]).sum(1, keepdim=True)
                image = grey + (image - grey) * (1 + self.saturation * draw(count, 1, 1, 1))
        if self.gamma:
            power = (math.log1p(self.gamma) * draw(count, 1, 1, 1)).exp()
            image = ((image + 1) / 2).clamp(0, 1) ** power * 2 - 1
        if self.channel_swap:
            orders = torch.tensor(list(permutations(range(3))), device=image.device)
            chosen = ((draw(count) + 1) / 2 * len(orders)).long().clamp(max=len(orders) - 1)
            swapped = (draw(count) + 1) / 2 < self.channel_swap
            order = orders[torch.where(swapped, chosen, 0)]  # the first order is their own
            image = image.gather(1, order[:, :, None, None].expand_as(image))
        return image


def _moved(pairs: PointPairs, matrix: Tensor) -> PointPairs:
    """Where points of the images lie in views that show ``matrix`` (N, 2, 3) of them."""
    count, most, _ = pairs.coordinates.shape
    points = pairs.coordinates.reshape(count, most * 2, 2).flip(-1) * 2 - 1  # x, y in -1..1
    inverse = torch.linalg.inv(matrix[:, :, :2])
    points = (points - matrix[:, None, :, 2]) @ inverse.transpose(1, 2)
    coordinates = ((points + 1) / 2).flip(-1).reshape(count, most, 4)
    inside = ((coordinates >= 0) & (coordinates <= 1)).all(-1)
    return PointPairs(coordinates.clamp(0, 1), pairs.order, pairs.valid & inside)
