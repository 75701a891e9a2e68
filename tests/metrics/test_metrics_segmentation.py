from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from compress.errors import CompressError
from compress.metrics import (
    class_iou,
    confusion,
    mean_iou,
    pixel_accuracy,
    segmentation_scores,
)


def maps(seed: int, classes: int = 6, used: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, used, (3, 9, 11)).astype(np.uint8)
    pred = np.where(rng.random(true.shape) < 0.6, true, rng.integers(0, used, true.shape))
    true[rng.random(true.shape) < 0.2] = 255
    return pred, true


def test_hand_vector() -> None:
    true, pred = [[0, 0, 1, 2, 255]], [[0, 1, 1, 1, 7]]
    counts = confusion(pred, true, classes=4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    iou = class_iou(counts)
    assert iou[:3].tolist() == pytest.approx([1 / 2, 1 / 3, 0.0])
    assert math.isnan(iou[3])  # never occurs
    assert mean_iou(pred, true, 4) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert pixel_accuracy(pred, true, 4) == pytest.approx(2 / 4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("used", [6, 4])
def test_against_torchmetrics(seed: int, used: int) -> None:
    pred, true = maps(seed, used=used)
    p, t = torch.from_numpy(pred.astype(np.int64)), torch.from_numpy(true.astype(np.int64))
    jaccard = MulticlassJaccardIndex(6, average="macro", ignore_index=255)(p, t)
    accuracy = MulticlassAccuracy(6, average="micro", ignore_index=255)(p, t)
    assert mean_iou(pred, true, 6) == pytest.approx(float(jaccard))
    assert pixel_accuracy(pred, true, 6) == pytest.approx(float(accuracy))
    assert mean_iou(p, t, 6) == mean_iou(pred, true, 6)


def test_counts_of_images_add_up() -> None:
    pred, true = maps(4)
    counts = sum(confusion(p, t, 6) for p, t in zip(pred, true, strict=True))
    assert isinstance(counts, np.ndarray)
    assert (counts == confusion(pred, true, 6)).all()
    scores = segmentation_scores(counts)
    assert scores == {
        "mean_iou": mean_iou(pred, true, 6),
        "pixel_accuracy": pixel_accuracy(pred, true, 6),
    }


def test_perfect_and_other_marks_for_no_class() -> None:
    pred, true = maps(5)
    assert mean_iou(np.where(true == 255, 0, true), true, 6) == 1.0
    assert pixel_accuracy(true, true, 6) == 1.0  # a prediction may hold anything there
    swapped = np.where(true == 255, -1, true.astype(np.int64))
    assert mean_iou(pred, swapped, 6, ignore=-1) == mean_iou(pred, true, 6)


def test_refuses() -> None:
    with pytest.raises(CompressError, match="a true label is 5, but there are 3 classes"):
        confusion([0, 1], [5, 1], 3)
    with pytest.raises(CompressError, match="a predicted label is -1"):
        confusion([0, -1], [0, 1], 3)
    with pytest.raises(CompressError, match="ground truth has"):
        confusion([0, 1], [0], 3)
    with pytest.raises(CompressError, match="no pixel has a true class"):
        mean_iou([0, 1], [255, 255], 3)
