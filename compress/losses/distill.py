"""What a student learns from a teacher: depth, resemblance of features, a critic's opinion.

The teacher's side is a constant to the gradient, everywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from compress.errors import CompressError
from compress.losses._pixels import full
from compress.losses.dense import rmse


def pixel_rmse(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Root mean square difference of two maps (N, 1, H, W), in their unit.

    Pixels count where the mask, if there is one, is true and the teacher's map is finite.
    """
    teacher = teacher.detach()
    return rmse(
        student, teacher, torch.ones_like(teacher, dtype=torch.bool) if mask is None else mask
    )


def _similarity(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cosines between the max-pooled nodes of (N, C, H, W): (N, nodes, nodes)."""
    nodes = F.adaptive_max_pool2d(full(features), grid).flatten(2)  # (N, C, nodes)
    # Lengths are constants, as published: no gradient flows through them.
    unit = nodes / (torch.linalg.vector_norm(nodes.detach(), dim=1, keepdim=True) + 1e-8)
    # Autocast would multiply in bfloat16, where differences of cosines are mostly rounding.
    with torch.autocast(unit.device.type, enabled=False):
        cosines: Tensor = unit.transpose(1, 2) @ unit
    return cosines


def pairwise(student_features: Tensor, teacher_features: Tensor, grid: int = 2) -> Tensor:
    """Mean squared difference between the two networks' cosines of all pairs of nodes.

    Both maps are max-pooled to `grid` x `grid` nodes (fewer where a map is smaller than that), so
    widths and sizes may differ. The published code pools with half the map's height and width,
    which is a grid of 2.

    >>> parallel = torch.tensor([1.0, 1.0]).view(1, 1, 1, 2)  # one channel, two nodes
    >>> float(pairwise(torch.eye(2).view(1, 2, 1, 2), parallel))
    0.5

    Args:
        student_features: (N, C, H, W).
        teacher_features: (N, C', H', W') of the same images.
        grid: nodes on a side.

    Source: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019,
    equation 2.
    """
    s, t = student_features, teacher_features.detach()
    if s.ndim != 4 or t.ndim != 4 or len(s) != len(t) or grid < 1:
        raise CompressError(
            "pairwise distillation takes features (N, C, H, W) of the same N images and a grid of "
            f"at least 1, got {tuple(s.shape)}, {tuple(t.shape)} and {grid}"
        )
    rows, columns = (min(grid, s.shape[d], t.shape[d]) for d in (-2, -1))
    difference = _similarity(t, (rows, columns)) - _similarity(s, (rows, columns))
    return (difference**2).mean()


class Discriminator(nn.Module):
    """A small fully convolutional critic: does this log depth, for this image, look a teacher's?

    Three strided convolutions of 4x4 and one of 3x3, all under a spectral norm: each output judges
    a patch of 38x38 pixels. It has no batch statistics, through which it could compare maps of a
    batch instead of judging each.

    Args:
        width: channels of the first layer; each further one doubles them.

    Source: Isola et al., "pix2pix", CVPR 2017 (patches); Miyato et al., "Spectral Normalization
    for Generative Adversarial Networks", ICLR 2018.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise CompressError(f"width must be at least 1, got {width}")
        layers: list[nn.Module] = []
        channels = 4
        for out in (width, 2 * width, 4 * width):
            layers.append(spectral_norm(nn.Conv2d(channels, out, 4, stride=2, padding=1)))
            layers.append(nn.LeakyReLU(0.2))
            channels = out
        layers.append(spectral_norm(nn.Conv2d(channels, 1, 3, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor, log_depth: Tensor) -> Tensor:
        """Judge (N, 3, H, W) images with (N, 1, H, W) log depth: (N, 1, H // 8, W // 8) scores."""
        if image.ndim != 4 or image.shape[-2:] != log_depth.shape[-2:] or min(image.shape[-2:]) < 8:
            raise CompressError(
                "the critic takes an image (N, 3, H, W) and log depth (N, 1, H, W) of one size, at "
                f"least 8x8, got {tuple(image.shape)} and {tuple(log_depth.shape)}"
            )
        scores: Tensor = self.layers(torch.cat([full(image), full(log_depth)], dim=1))
        return scores


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What the critic minimises: mean max(0, 1 - real) + mean max(0, 1 + fake).

    Structured distillation trains its critic as a WGAN with a gradient penalty. A hinge under a
    spectral norm bounds the slopes too, without a second backward pass.

    Args:
        real: the critic's scores of the teacher's depth, any shape.
        fake: its scores of the student's, which must not carry the student's graph.

    Source: Lim and Ye, "Geometric GAN", 2017; Miyato et al., ICLR 2018, equations 16 and 17.
    """
    return F.relu(1 - full(real)).mean() + F.relu(1 + full(fake)).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """What the student minimises: minus the mean score; it may be of either sign.

    Source: as `critic_loss`.
    """
    return -full(fake).mean()
