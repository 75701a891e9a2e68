"""Depth as losses see it: logarithms, inverse depth, and back to metres."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compress.losses._pixels import full

# No data set here holds truth nearer than this. Below it the logarithm goes on as its tangent,
# so that a network whose output starts at 0 or below still receives a gradient, and a bounded one.
LOG_FLOOR_M = 0.1
# MobileDepth clamps normalised depth to [0.01, 1]; its inverse then lies in [1, 100], and
# DenseDepth, whose target spans the same, gives SSIM a range of 100.
NORM_FLOOR = 0.01
INVERSE_RANGE = 100.0


def inverse_depth(depth_m: Tensor, max_m: float) -> Tensor:
    """MobileDepth's target: 1 / clamp(depth / max_m, 0.01, 1), between 1 (far) and 100 (near).

    >>> inverse_depth(torch.tensor([0.05, 0.1, 2.0, 10.0, 20.0]), max_m=10.0).tolist()
    [100.0, 100.0, 5.0, 1.0, 1.0]

    Source: Y. Wang, "MobileDepth" (target).
    """
    return 1 / (full(depth_m) / max_m).clamp(NORM_FLOOR, 1.0)


def depth_from_inverse(inverse: Tensor, max_m: float) -> Tensor:
    """Undo `inverse_depth`: values (outside [1, 100] clamped) -> depth in metres."""
    return max_m / full(inverse).clamp(1.0, 1 / NORM_FLOOR)


def densedepth_target(depth_m: Tensor, max_m: float = 10.0) -> Tensor:
    """DenseDepth's target: 1000 / depth in centimetres, depth clamped to 10 cm .. `max_m` first.

    >>> densedepth_target(torch.tensor([0.0, 0.5, 10.0, 12.0])).tolist()
    [100.0, 20.0, 1.0, 1.0]

    Source: Alhashim and Wonka, "DenseDepth", arXiv 1812.11941.
    """
    return 1000 / (100 * full(depth_m).clamp(0.1, max_m))


def depth_from_densedepth(target: Tensor, max_m: float = 10.0) -> Tensor:
    """Undo `densedepth_target`: values (outside its range clamped) -> depth in metres."""
    return 10 / full(target).clamp(10 / max_m, 100.0)


def reciprocal(x: Tensor, floor: float) -> Tensor:
    """1/x, below `floor` its tangent: a clamp would leave a prediction there no gradient."""
    return torch.where(x < floor, (2 * floor - x) / floor**2, 1 / x.clamp(min=floor))


def log(depth_m: Tensor, floor: float = LOG_FLOOR_M) -> Tensor:
    """Natural logarithm, below `floor` its tangent."""
    below = math.log(floor) + depth_m / floor - 1
    return torch.where(depth_m < floor, below, depth_m.clamp(min=floor).log())


def xl_log_depth(d_m: Tensor, m: float = 4.0, M: float = 80.0) -> Tensor:
    """Map depth in metres to (log d - log m) M / (log M - log m): 0 at m, M at M.

    >>> [round(v, 2) for v in xl_log_depth(torch.tensor([1.0, 4.0, 8.0, 80.0])).tolist()]
    [-37.02, 0.0, 18.51, 80.0]

    Source: Chiu et al., "Real-time Monocular Depth Estimation with Extremely Light-Weight
    Neural Network".
    """
    return (log(full(d_m)) - math.log(m)) * (M / (math.log(M) - math.log(m)))
