"""Class maps against the truth.

Custom is to count over a whole data set before dividing: add up `confusion` over images, then
take `segmentation_scores` of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from compress.errors import CompressError
from compress.metrics._arrays import FloatArray, array, same_shape

IGNORE = 255
Counts = npt.NDArray[np.int64]


def confusion(pred_labels: Any, labels: Any, classes: int, ignore: int = IGNORE) -> Counts:
    """Count pixels by true class (rows) and predicted class (columns): (classes, classes).

    >>> confusion([0, 1, 1, 0], [0, 1, 0, 255], classes=2).tolist()
    [[1, 1], [0, 1]]

    Args:
        pred_labels: predicted classes, array or tensor of whole numbers, any shape.
        labels: true classes, same shape.
        classes: how many classes there are.
        ignore: stands for no class in `labels`; such a pixel is not counted.

    Raises:
        CompressError: shapes differ, or a number at a counted pixel is not a class.
    """
    pred, true = array(pred_labels), array(labels)
    same_shape("the prediction", pred.shape, true.shape)
    ok = true != ignore
    kept = [x[ok].astype(np.int64) for x in (true, pred)]
    for what, x in zip(("true", "predicted"), kept, strict=True):
        wrong = x[(x < 0) | (x >= classes)]
        if wrong.size:
            raise CompressError(
                f"a {what} label is {wrong[0]}, but there are {classes} classes (0 to "
                f"{classes - 1}, {ignore} = none in the truth)"
            )
    counts = np.bincount(classes * kept[0] + kept[1], minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


def class_iou(counts: Counts) -> FloatArray:
    """Return each class's intersection over union (classes,), NaN for one that never occurs.

    A class occurs where it is the truth or the prediction.
    """
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    iou: FloatArray = np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)
    return iou


def segmentation_scores(counts: Counts) -> dict[str, float]:
    """Return `mean_iou`, over the classes that occur, and `pixel_accuracy`, from `confusion`.

    Raises:
        CompressError: no pixel was counted.
    """
    total = int(counts.sum())
    if not total:
        raise CompressError("no pixel has a true class; there is nothing to score")
    return {
        "mean_iou": float(np.nanmean(class_iou(counts))),
        "pixel_accuracy": float(np.trace(counts)) / total,
    }


def mean_iou(pred_labels: Any, labels: Any, classes: int, ignore: int = IGNORE) -> float:
    """Return the mean intersection over union of the classes that occur; see `confusion`.

    >>> mean_iou([0, 1, 1, 0], [0, 1, 0, 255], classes=3)  # class 2 does not occur
    0.5
    """
    return segmentation_scores(confusion(pred_labels, labels, classes, ignore))["mean_iou"]


def pixel_accuracy(pred_labels: Any, labels: Any, classes: int, ignore: int = IGNORE) -> float:
    """Return the share of pixels with a true class whose prediction is right; see `confusion`.

    >>> round(pixel_accuracy([0, 1, 1, 0], [0, 1, 0, 255], classes=2), 4)
    0.6667
    """
    return segmentation_scores(confusion(pred_labels, labels, classes, ignore))["pixel_accuracy"]
