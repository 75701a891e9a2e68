"""Metrics of depth, relative depth and class maps, and the protocol a figure is taken under."""

from compress.metrics._arrays import PREDICTION_FLOOR_M, BoolArray, FloatArray
from compress.metrics.crops import CROPS, Box, Crop, crop_mask
from compress.metrics.depth import METRICS, depth_metrics, flip_average
from compress.metrics.protocol import MetricAccumulator, Protocol
from compress.metrics.relative import si_rmse, whdr
from compress.metrics.segmentation import (
    class_iou,
    confusion,
    mean_iou,
    pixel_accuracy,
    segmentation_scores,
)

__all__ = [
    "CROPS",
    "METRICS",
    "PREDICTION_FLOOR_M",
    "BoolArray",
    "Box",
    "Crop",
    "FloatArray",
    "MetricAccumulator",
    "Protocol",
    "class_iou",
    "confusion",
    "crop_mask",
    "depth_metrics",
    "flip_average",
    "mean_iou",
    "pixel_accuracy",
    "segmentation_scores",
    "si_rmse",
    "whdr",
]
