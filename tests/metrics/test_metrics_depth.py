from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st

from compress.errors import CompressError
from compress.metrics import (
    CROPS,
    METRICS,
    MetricAccumulator,
    Protocol,
    crop_mask,
    depth_metrics,
    flip_average,
)


def rendered(seed: int, shape: tuple[int, ...] = (12, 16)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.5, 9.0, shape)
    return true * rng.uniform(0.6, 1.7, shape), true


def slow_metrics(pred: Any, true: Any, valid: Any) -> dict[str, float]:
    """The definitions, one pixel at a time."""
    sums = dict.fromkeys(METRICS, 0.0)
    n = 0
    for p, t, ok in zip(np.ravel(pred), np.ravel(true), np.ravel(valid), strict=True):
        if not ok:
            continue
        n += 1
        for k in (1, 2, 3):
            sums[f"delta{k}"] += max(p / t, t / p) < 1.25**k
        sums["abs_rel"] += abs(p - t) / t
        sums["sq_rel"] += (p - t) ** 2 / t
        sums["rmse"] += (p - t) ** 2
        sums["rmse_log"] += (math.log(p) - math.log(t)) ** 2
        sums["log10"] += abs(math.log10(p) - math.log10(t))
    means = {name: value / n for name, value in sums.items()}
    return means | {k: math.sqrt(means[k]) for k in ("rmse", "rmse_log")}


def test_hand_vector() -> None:
    scores = depth_metrics([2.0, 2.0, 1.0, 5.0], [2.0, 1.0, 2.0, 4.0])
    # Ratios 1, 2, 2, 1.25; the last is not below 1.25.
    assert list(scores) == list(METRICS)
    assert scores == pytest.approx(
        {
            "delta1": 0.25,
            "delta2": 0.5,
            "delta3": 0.5,
            "abs_rel": (0 + 1 + 0.5 + 0.25) / 4,
            "sq_rel": (0 + 1 + 0.5 + 0.25) / 4,
            "rmse": math.sqrt(3 / 4),
            "rmse_log": math.sqrt((2 * math.log(2) ** 2 + math.log(1.25) ** 2) / 4),
            "log10": (2 * math.log10(2) + math.log10(1.25)) / 4,
        }
    )


def test_abs_rel_and_sq_rel_divide_by_the_truth() -> None:
    scores = depth_metrics([4.0], [2.0])
    assert (scores["abs_rel"], scores["sq_rel"]) == (1.0, 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_against_torchmetrics(seed: int) -> None:
    pred, true = rendered(seed)
    p, t = torch.from_numpy(pred), torch.from_numpy(true)
    scores = depth_metrics(pred, true)
    rmse = torchmetrics.MeanSquaredError(squared=False).double()
    assert scores["abs_rel"] == pytest.approx(
        float(torchmetrics.functional.mean_absolute_percentage_error(p, t))
    )
    assert scores["rmse"] == pytest.approx(float(rmse(p, t)), rel=1e-6)
    assert scores["rmse_log"] == pytest.approx(float(rmse(p.log(), t.log())), rel=1e-6)
    assert scores["log10"] == pytest.approx(
        float(torchmetrics.functional.mean_absolute_error(p.log10(), t.log10())), rel=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_masked_against_the_slow_loop(seed: int) -> None:
    pred, true = rendered(seed)
    mask = np.random.default_rng(seed + 10).random(true.shape) < 0.6
    true[0] = [0.0, -1.0, math.nan, math.inf] * 4
    pred[~mask] = math.nan
    pred[0] = math.inf
    valid = mask & np.isfinite(true) & (true > 0)
    assert depth_metrics(pred, true, mask) == pytest.approx(slow_metrics(pred, true, valid))


def test_tensors_of_any_kind() -> None:
    pred, true = rendered(0, (2, 1, 4, 5))
    p, t = torch.from_numpy(pred).requires_grad_(), torch.from_numpy(true)
    mask = t > 3
    assert depth_metrics(p, t, mask) == depth_metrics(pred, true, mask.numpy())
    half = depth_metrics(p.bfloat16(), t.bfloat16())
    assert half["rmse"] == pytest.approx(depth_metrics(pred, true)["rmse"], rel=0.05)


depths = st.floats(0.01, 80.0)
pairs = st.lists(st.tuples(depths, depths), min_size=1, max_size=20)


@given(pairs)
def test_deltas_are_monotone_and_all_is_finite(values: list[tuple[float, float]]) -> None:
    pred, true = np.array(values).T
    scores = depth_metrics(pred, true)
    assert 0 <= scores["delta1"] <= scores["delta2"] <= scores["delta3"] <= 1
    assert all(math.isfinite(v) and v >= 0 for v in scores.values())


@given(pairs, st.randoms(use_true_random=False))
def test_order_of_pixels_does_not_matter(values: list[tuple[float, float]], rnd: Any) -> None:
    before = depth_metrics(*np.array(values).T)
    rnd.shuffle(values)
    assert depth_metrics(*np.array(values).T) == pytest.approx(before)


@given(pairs, st.sampled_from([0.0, -3.0, math.nan, math.inf]), st.sampled_from([math.nan, 5.0]))
def test_invalid_pixels_do_not_matter(
    values: list[tuple[float, float]], bad_true: float, at_bad: float
) -> None:
    pred, true = np.array(values).T
    scores = depth_metrics(np.append(pred, at_bad), np.append(true, bad_true))
    assert scores == depth_metrics(pred, true)


@given(pairs, st.floats(0.5, 2.0))
def test_relative_metrics_ignore_scale(values: list[tuple[float, float]], scale: float) -> None:
    pred, true = np.array(values).T
    before, after = depth_metrics(pred, true), depth_metrics(scale * pred, scale * true)
    for name in ("abs_rel", "rmse_log", "log10"):
        assert after[name] == pytest.approx(before[name], abs=1e-9)
    assert after["rmse"] == pytest.approx(scale * before["rmse"], abs=1e-9)


def test_perfect() -> None:
    assert depth_metrics([1.0, 2.0], [1.0, 2.0]) == dict.fromkeys(METRICS, 0.0) | {
        "delta1": 1.0,
        "delta2": 1.0,
        "delta3": 1.0,
    }


def test_predictions_at_or_below_zero_count_as_a_millimetre() -> None:
    assert depth_metrics([0.0, -5.0], [1.0, 1.0]) == depth_metrics([1e-3, 1e-3], [1.0, 1.0])


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(CompressError, match=r"\(2,\) but the ground truth has \(3,\)"):
        depth_metrics([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(CompressError, match=r"mask has shape \(1,\)"):
        depth_metrics([1.0, 2.0], [1.0, 2.0], [True])
    with pytest.raises(CompressError, match="2 of 3 predictions"):
        depth_metrics([math.nan, math.inf, 1.0], [1.0, 1.0, 1.0])
    with pytest.raises(CompressError, match="none of the 2 pixels"):
        depth_metrics([1.0, 1.0], [0.0, math.nan])
    with pytest.raises(CompressError, match="none of the 1 pixels"):
        depth_metrics([1.0], [1.0], [False])


@pytest.mark.parametrize(
    ("name", "size", "box"),
    [
        ("none", (7, 9), (0, 7, 0, 9)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
        ("nyu", (240, 320), (23, 236, 21, 301)),  # 22.5, 235.5, 20.5, 300.5: halves go up
        ("eigen-nyu", (480, 640), (20, 460, 24, 616)),
        ("eigen-nyu", (240, 320), (10, 230, 12, 308)),
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        # 366.9999993 and 43.999997 before cutting, so one less than the exact fractions give.
        ("garg", (370, 1224), (151, 366, 43, 1180)),
        ("eigen-kitti", (375, 1242), (124, 342, 44, 1197)),
    ],
)
def test_crops(name: str, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert CROPS[name](*size) == box
    rows, cols = np.nonzero(crop_mask(name, size))
    assert (rows.min(), rows.max() + 1, cols.min(), cols.max() + 1) == box
    assert len(rows) == (box[1] - box[0]) * (box[3] - box[2])


@pytest.mark.parametrize("name", CROPS)
@given(height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_crops_stay_inside(name: str, height: int, width: int) -> None:
    row0, row1, col0, col1 = CROPS[name](height, width)
    assert 0 <= row0 <= row1 <= height
    assert 0 <= col0 <= col1 <= width


def test_unknown_crop() -> None:
    with pytest.raises(CompressError, match="did you mean garg"):
        crop_mask("grag", (4, 4))


def protocol(**changes: Any) -> Protocol:
    values: dict[str, Any] = {
        "dataset": "nyu",
        "split": "heldout",
        "split_hash": "3fa9",
        "images": 654,
        "size": (480, 640),
    }
    return Protocol(**(values | changes))


def test_protocol_round_trip_through_json() -> None:
    original = protocol(crop="garg", cap_m=80, flip_average=True, averaging="pooled")
    text = json.dumps(original.to_dict())
    assert json.loads(text) == original.to_dict()
    assert Protocol.from_dict(json.loads(text)) == original
    assert hash(Protocol.from_dict(original.to_dict())) == hash(original)


def test_protocol_describes_itself() -> None:
    assert protocol(crop="nyu").describe() == (
        "nyu heldout, 654 images (split 3fa9), input 480x640, crop nyu, 0.001 < depth < 10 m, "
        "no alignment, no flip average, per-image mean"
    )
    other = protocol(alignment="median", flip_average=True, averaging="pooled").describe()
    assert other.endswith("median alignment, flip average, pooled pixels")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", ""),
        ("dataset", 3),
        ("split", "test"),
        ("split_hash", ""),
        ("images", 0),
        ("images", 6.0),
        ("images", True),
        ("size", (480,)),
        ("size", (480, 0)),
        ("size", "480x640"),
        ("crop", "gargg"),
        ("crop", ["garg"]),
        ("min_depth_m", 0.0),
        ("min_depth_m", "0"),
        ("cap_m", math.inf),
        ("cap_m", math.nan),
        ("cap_m", 1e-4),
        ("alignment", "mean"),
        ("flip_average", 1),
        ("averaging", "both"),
    ],
)
def test_protocol_refuses(name: str, value: object) -> None:
    with pytest.raises(CompressError, match=f"protocol {name}"):
        protocol(**{name: value})
    with pytest.raises(CompressError, match=f"protocol {name}"):
        Protocol.from_dict(protocol().to_dict() | {name: value})


def test_protocol_keys_are_strict() -> None:
    with pytest.raises(CompressError, match=r"unknown protocol key 'cap'.*cap_m"):
        Protocol.from_dict(protocol().to_dict() | {"cap": 10.0})
    with pytest.raises(CompressError, match="protocol lacks split, images"):
        Protocol.from_dict({"dataset": "nyu", "split_hash": "a", "size": [4, 4]})


def test_protocol_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol().cap_m = 20.0  # type: ignore[misc]


def test_per_image_and_pooled_differ() -> None:
    # One pixel off by 2 m, and three exact ones.
    images = [
        (np.array([[4.0, 0.0, 0.0]]), np.array([[2.0, 0.0, 0.0]])),
        (np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 3.0]])),
    ]
    results = {}
    for averaging in ("per-image", "pooled"):
        accumulator = MetricAccumulator(protocol(averaging=averaging))
        for pred, true in images:
            accumulator.add(pred, true)
        results[averaging] = accumulator.result()
    assert results["per-image"]["delta1"] == pytest.approx(1 / 2)
    assert results["pooled"]["delta1"] == pytest.approx(3 / 4)
    assert results["per-image"]["rmse"] == pytest.approx((2 + 0) / 2)
    assert results["pooled"]["rmse"] == pytest.approx(math.sqrt(4 / 4))
    assert results["per-image"]["abs_rel"] == pytest.approx(1 / 2)
    assert results["pooled"]["abs_rel"] == pytest.approx(1 / 4)
    assert results["per-image"]["rmse_log"] == pytest.approx(math.log(2) / 2)
    assert results["pooled"]["rmse_log"] == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("crop", CROPS)
def test_accumulator_against_the_functional_core(crop: str) -> None:
    rng = np.random.default_rng(1)
    images = [rendered(seed, (48, 64)) for seed in range(3)]
    both = {a: MetricAccumulator(protocol(crop=crop, averaging=a)) for a in ("per-image", "pooled")}
    singles, preds, trues = [], [], []
    for pred, true in images:
        true[rng.random(true.shape) < 0.3] = 0.0
        inside = crop_mask(crop, (48, 64))
        for accumulator in both.values():
            accumulator.add(torch.from_numpy(pred), true)
        pred = pred.clip(1e-3, 10.0)
        singles.append(depth_metrics(pred, true, inside))
        preds.append(pred[inside])
        trues.append(true[inside])
    mean = {name: np.mean([s[name] for s in singles]) for name in METRICS}
    assert both["per-image"].result() == pytest.approx(mean)
    pooled = depth_metrics(np.concatenate(preds), np.concatenate(trues))
    assert both["pooled"].result() == pytest.approx(pooled)
    assert list(both["pooled"].result()) == list(METRICS)


def test_truth_at_the_limits_is_excluded_and_predictions_are_clamped() -> None:
    accumulator = MetricAccumulator(protocol(min_depth_m=1.0, cap_m=10.0))
    nan = math.nan
    true = np.array([[10.0, 1.0, 11.0, nan, 8.0, 2.0]])
    accumulator.add(np.array([[nan, nan, nan, nan, 50.0, -3.0]]), true)
    expected = depth_metrics([10.0, 1.0], [8.0, 2.0])
    assert accumulator.result() == pytest.approx(expected)


def test_median_alignment() -> None:
    true = np.array([[1.0, 2.0, 4.0]])
    aligned = MetricAccumulator(protocol(alignment="median"))
    aligned.add(3 * true, true)
    assert aligned.result()["abs_rel"] == pytest.approx(0)
    plain = MetricAccumulator(protocol())
    plain.add(2 * true, true)
    assert plain.result()["abs_rel"] == pytest.approx(1)
    with pytest.raises(CompressError, match="median is -1 m"):
        aligned.add(np.full((1, 3), -1.0), true)


def test_images_without_truth_are_skipped_and_counted() -> None:
    accumulator = MetricAccumulator(protocol())
    with pytest.raises(CompressError, match="no image was scored"):
        accumulator.result()
    accumulator.add(np.full((2, 2), math.nan), np.zeros((2, 2)))
    with pytest.raises(CompressError, match="1 skipped"):
        accumulator.result()
    accumulator.add(np.ones((2, 2)), np.ones((2, 2)))
    assert (accumulator.images, accumulator.skipped) == (1, 1)
    assert accumulator.result()["delta1"] == 1.0


def test_accumulator_errors_leave_it_as_it_was() -> None:
    accumulator = MetricAccumulator(protocol())
    with pytest.raises(CompressError, match="1 of 4 predictions"):
        accumulator.add([[1.0, 1.0], [1.0, math.inf]], np.ones((2, 2)))
    with pytest.raises(CompressError, match=r"shape \(2, 3\)"):
        accumulator.add(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(CompressError, match=r"as \(H, W\)"):
        accumulator.add(np.ones((1, 2, 2)), np.ones((1, 2, 2)))
    assert (accumulator.images, accumulator.skipped) == (0, 0)


def test_flip_average() -> None:
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[5.0, 4.0, 1.0]])
    expected = np.array([[1.0, 3.0, 4.0]])
    np.testing.assert_array_equal(flip_average(a, b), expected)
    tensor = flip_average(torch.from_numpy(a), torch.from_numpy(b))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    with pytest.raises(CompressError, match=r"\(1, 3\) and \(1, 2\)"):
        flip_average(a, b[:, :2])
