"""Losses that know no metres: order of pairs of points, ratios of depths, smoothness.

Depth is positive and grows with distance; its unit is anyone's. What is not valid, whatever it
holds, adds nothing to value or gradient, and where nothing is valid a loss is 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from compress.errors import CompressError
from compress.losses._pixels import clean, full, mean
from compress.losses.dense import log_gradient
from compress.losses.targets import log

# Depth without a unit is stored with a median of 1, and its nearest points lie well below
# `LOG_FLOOR_M`; from here on down the logarithm goes on as its tangent.
RELATIVE_FLOOR = 0.01


def _check_pairs(z: Tensor, pairs: Tensor, order: Tensor, valid: Tensor) -> None:
    fits = z.ndim == 4 and z.shape[1] == 1 and pairs.ndim == 3 and pairs.shape[-1] == 4
    fits = fits and len(z) == len(pairs) and pairs.shape[:-1] == order.shape == valid.shape
    if not fits:
        raise CompressError(
            "pairs of points go with a map (N, 1, H, W) as (N, P, 4), their order and validity as "
            f"(N, P); got a map {tuple(z.shape)}, pairs {tuple(pairs.shape)}, order "
            f"{tuple(order.shape)}, validity {tuple(valid.shape)}"
        )


def _at(z: Tensor, points: Tensor) -> Tensor:
    """The nearest pixels of (N, 1, H, W) to (N, P, 2) points y, x from 0 to 1: (N, P)."""
    height, width = z.shape[-2:]
    # A point at 1 lies on the far border of the last pixel.
    rows = (points[..., 0] * height).long().clamp(0, height - 1)
    columns = (points[..., 1] * width).long().clamp(0, width - 1)
    return z.flatten(1).gather(1, rows * width + columns)


def ranking(z: Tensor, pairs: Tensor, order: Tensor, valid: Tensor) -> Tensor:
    """log(1 + exp(-r (z_A - z_B))) for ordered pairs, (z_A - z_B)^2 for equal ones; their mean.

    On logarithms of depth the loss asks for a ratio, on metres for a distance.

    >>> z = torch.tensor([[[[1.0, 3.0]]]])
    >>> pairs = torch.tensor([[[0.5, 0.75, 0.5, 0.25]]])  # A is the right pixel, B the left
    >>> valid = torch.tensor([[True]])
    >>> [round(float(ranking(z, pairs, torch.tensor([[r]]), valid)), 4) for r in (1, -1, 0)]
    [0.1269, 2.1269, 4.0]

    Args:
        z: a map (N, 1, H, W) that is larger where things are farther.
        pairs: (N, P, 4) y and x of point A, then of point B, from 0 to 1 across the image: the
            centre of pixel i of n is at (i + 0.5) / n. The nearest pixel is taken.
        order: (N, P), +1 where A is farther, -1 where A is closer, 0 where both are equally far.
        valid: (N, P), true where a pair counts; one with a point outside the image never does.

    Source: Chen, Fu, Yang and Deng, "Single-Image Depth Perception in the Wild", NeurIPS 2016,
    equation 2.
    """
    _check_pairs(z, pairs, order, valid)
    ok = valid.bool() & ((pairs >= 0) & (pairs <= 1)).all(dim=-1)  # false for NaN
    pairs = torch.where(ok[..., None], pairs, 0.0)
    a, b = _at(z, pairs[..., :2]), _at(z, pairs[..., 2:])
    # Replaced before any arithmetic, for the backward pass too.
    a, b = torch.where(ok, full(a), 0.0), torch.where(ok, full(b), 0.0)
    apart = a - b  # (N, P)
    r = order.to(apart.dtype)
    return mean(torch.where(r == 0, apart**2, F.softplus(-r * apart)), ok)


def sample_pairs(
    depth_m: Tensor,
    valid: Tensor,
    count: int,
    generator: torch.Generator,
    tolerance: float = 0.02,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pairs of points for `ranking` from dense depth, metric or relative.

    Points are drawn evenly over valid pixels (true, and depth finite and above 0), with
    replacement. They depend on the generator alone, not on the maps' device.

    Args:
        depth_m: depth (N, 1, H, W).
        valid: true where it may be used, same shape.
        count: pairs drawn from each image.
        generator: source of randomness, of any device.
        tolerance: two depths are equal where their ratio is at most 1 + this.

    Returns:
        Coordinates (N, count, 4) float32 and order (N, count) int8 as `ranking` takes them, and
        validity (N, count): false for a pair of one point with itself, and where an image has
        no valid pixel.

    Source: Xian et al., "Monocular Relative Depth Perception with Web Stereo Data Supervision",
    CVPR 2018 (random pairs, equal within 2 %).
    """
    if depth_m.ndim != 4 or depth_m.shape[1] != 1 or depth_m.shape != valid.shape:
        raise CompressError(
            "pairs are drawn from depth and a mask of one shape (N, 1, H, W), got "
            f"{tuple(depth_m.shape)} and {tuple(valid.shape)}"
        )
    if count < 1 or not tolerance >= 0:
        raise CompressError(
            f"count must be at least 1 and tolerance at least 0, got {count} and {tolerance}"
        )
    n, _, height, width = depth_m.shape
    ok = (valid.bool() & torch.isfinite(depth_m) & (depth_m > 0)).flatten(1)  # (N, H W)
    seen = ok.cumsum(1)
    total = seen[:, -1:]  # (N, 1)
    # Whole numbers far above any pixel count: what the remainder prefers is beyond notice.
    drawn = torch.randint(2**62, (n, 2 * count), generator=generator, device=generator.device)
    nth = drawn.to(depth_m.device) % total.clamp(min=1)
    pixel = torch.searchsorted(seen, nth + 1).clamp(max=height * width - 1)  # the nth valid one
    depth = torch.where(ok, depth_m.flatten(1), 1.0).gather(1, pixel)
    (a, b), (depth_a, depth_b) = pixel.chunk(2, dim=1), depth.chunk(2, dim=1)
    order = (depth_a > depth_b * (1 + tolerance)).char()
    order -= (depth_b > depth_a * (1 + tolerance)).char()
    points = [((p // width + 0.5) / height, (p % width + 0.5) / width) for p in (a, b)]
    pairs = torch.stack([axis for point in points for axis in point], dim=-1)  # (N, count, 4)
    return pairs.float(), order, (total > 0) & (a != b)


def scale_invariant_mse(pred_m: Tensor, true_m: Tensor, mask: Tensor) -> Tensor:
    """Variance of log p - log t per image, averaged over images with truth.

    A prediction may be off by any factor of its own in each image: `silog` with lam = 1.

    Source: Eigen, Puhrsch and Fergus, NIPS 2014, equation 1.
    """
    p, t, ok = clean(pred_m, true_m, mask)
    g = log(p, RELATIVE_FLOOR) - log(t, RELATIVE_FLOOR)  # 0 where not valid
    count = ok.sum(dim=(1, 2, 3), keepdim=True)
    n = count.clamp(min=1)
    # Around the mean, since a large common factor would swallow the digits of E[g^2] - E[g]^2.
    g = torch.where(ok, g - g.sum(dim=(1, 2, 3), keepdim=True) / n, 0.0)
    return mean((g**2).sum(dim=(1, 2, 3), keepdim=True) / n, count > 0)


def edge_aware_smoothness(pred_m: Tensor, image: Tensor) -> Tensor:
    """Mean |d log p| exp(-|d image|) over vertical plus over horizontal pairs of neighbours.

    Depth may change where the image does.

    Args:
        pred_m: predicted depth (N, 1, H, W), any unit.
        image: what it was predicted from, (N, 3, H, W), -1..1; differences are averaged over
            channels.

    Source: Godard, Mac Aodha and Brostow, "Unsupervised Monocular Depth Estimation with Left-Right
    Consistency", CVPR 2017, equation 3; here on log depth, so that the scale does not matter.
    """
    fits = pred_m.ndim == image.ndim == 4 and pred_m.shape[1] == 1
    if not fits or len(pred_m) != len(image) or pred_m.shape[-2:] != image.shape[-2:]:
        raise CompressError(
            "smoothness takes depth (N, 1, H, W) and its image (N, 3, H, W) at one size, got "
            f"{tuple(pred_m.shape)} and {tuple(image.shape)}; resize the image"
        )
    z, colour = log(full(pred_m), RELATIVE_FLOOR), full(image)
    terms = []
    for dim in (-2, -1):
        step = z.diff(dim=dim).abs()
        weight = torch.exp(-colour.diff(dim=dim).abs().mean(dim=1, keepdim=True))
        # The mean over no pair, in an image one pixel high or wide, would be NaN.
        terms.append((step * weight).sum() / max(step.numel(), 1))
    return torch.stack(terms).sum()


def relative_loss(
    pred_m: Tensor, true_m: Tensor, mask: Tensor, image: Tensor | None = None
) -> Tensor:
    """`scale_invariant_mse` + 0.5 `log_gradient`, + 0.1 `edge_aware_smoothness` given the image.

    Source: Li and Snavely, "MegaDepth", CVPR 2018 (the first two terms and their weights).
    """
    gradient = log_gradient(pred_m, true_m, mask, floor=RELATIVE_FLOOR)
    loss = scale_invariant_mse(pred_m, true_m, mask) + 0.5 * gradient
    return loss if image is None else loss + 0.1 * edge_aware_smoothness(pred_m, image)
