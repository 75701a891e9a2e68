"""Training losses: pure functions of predictions and truth, most of them on masked maps.

Those a recipe can name are in `LOSSES`.
"""

from compress.losses._pixels import Loss
from compress.losses.dense import (
    am,
    berhu,
    bmix,
    densedepth,
    edge,
    l1,
    l2,
    log_gradient,
    log_l1,
    log_l1_gradient,
    mix,
    rmse,
    silog,
    ssim_loss,
    xl_log_berhu,
)
from compress.losses.distill import (
    Discriminator,
    critic_loss,
    generator_loss,
    pairwise,
    pixel_rmse,
)
from compress.losses.named import LOSSES, make_loss
from compress.losses.rebalance import Rebalancer, rebalanced
from compress.losses.relative import (
    edge_aware_smoothness,
    ranking,
    relative_loss,
    sample_pairs,
    scale_invariant_mse,
)
from compress.losses.segmentation import segmentation_loss
from compress.losses.targets import (
    INVERSE_RANGE,
    LOG_FLOOR_M,
    NORM_FLOOR,
    densedepth_target,
    depth_from_densedepth,
    depth_from_inverse,
    inverse_depth,
    xl_log_depth,
)

__all__ = [
    "INVERSE_RANGE",
    "LOG_FLOOR_M",
    "LOSSES",
    "NORM_FLOOR",
    "Discriminator",
    "Loss",
    "Rebalancer",
    "am",
    "berhu",
    "bmix",
    "critic_loss",
    "densedepth",
    "densedepth_target",
    "depth_from_densedepth",
    "depth_from_inverse",
    "edge",
    "edge_aware_smoothness",
    "generator_loss",
    "inverse_depth",
    "l1",
    "l2",
    "log_gradient",
    "log_l1",
    "log_l1_gradient",
    "make_loss",
    "mix",
    "pairwise",
    "pixel_rmse",
    "ranking",
    "rebalanced",
    "relative_loss",
    "rmse",
    "sample_pairs",
    "scale_invariant_mse",
    "segmentation_loss",
    "silog",
    "ssim_loss",
    "xl_log_berhu",
    "xl_log_depth",
]
