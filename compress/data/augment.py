"""Random views of a batch that keep its depth metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.errors import CompressError


@dataclass(frozen=True)
class Augment:
    """How far views may stray from the images.

    ``flip``: probability of a left-right mirror image. ``zoom``: the smallest share of the image
    that a view may show; a view of share s has a focal length 1/s times the camera's, so that at
    the camera's own focal length things stand s times as far, and depth is multiplied by s.
    ``rotation_deg``: about the optical axis, which changes no z-depth. ``brightness``, ``colour``:
    largest change of gain and offset of the whole image, of gain per channel.
    """

    flip: float = 0.5
    zoom: float = 0.6
    rotation_deg: float = 0.0
    brightness: float = 0.2
    colour: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("flip", 0, 1), ("zoom", 0.1, 1), ("rotation_deg", 0, 90), ("brightness", 0, 1),
            ("colour", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise CompressError(f"augment {name} = {value!r}; allowed: {low} to {high}")

    def __call__(
        self, image: Tensor, depth_m: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one view of each image.

        Args:
            image: (N, 3, H, W) float, normalised.
            depth_m: (N, 1, H, W) metres, 0 = no measurement.
            generator: on the CPU; the same state draws the same views on any device.

        Returns:
            image and depth of the views, same shapes; pixels that a rotation brings in from
            outside are black and without depth.
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
        # Nearest: a depth between two surfaces exists on neither.
        depth_m = F.grid_sample(depth_m, grid, mode="nearest", align_corners=False)
        depth_m = depth_m * share[:, None, None, None]
        gain = 1 + self.brightness * draw(count, 1, 1, 1)
        gain = gain * (1 + self.colour * draw(count, 3, 1, 1))
        return image * gain + self.brightness * draw(count, 1, 1, 1), depth_m
