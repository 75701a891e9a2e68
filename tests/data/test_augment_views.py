"""Views: what is known of a pixel goes where the pixel goes, and old recipes draw as before."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.augment import Augment, PointPairs
from compress.data.types import NO_CLASS
from compress.errors import CompressError

PLAIN = {"flip": 0.0, "zoom": 1.0, "brightness": 0.0, "colour": 0.0}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(count: int = 4, height: int = 24, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.rand(count, 3, height, width, generator=seeded(1)) * 2 - 1
    return image, torch.rand(count, 1, height, width, generator=seeded(2)) * 9 + 1


def points(*rows: tuple[float, float, float, float], order: int = 1) -> PointPairs:
    coordinates = torch.tensor(rows)[None]
    count = len(rows)
    full = torch.full((1, count), order, dtype=torch.int8)
    return PointPairs(coordinates, full, torch.ones(1, count, dtype=torch.bool))


def test_older_recipes_draw_as_before() -> None:
    """Neutral new fields take nothing from the generator, and switched on they draw last."""
    image, depth_m = frames()
    old = Augment(flip=0.5, zoom=0.6, rotation_deg=10)
    new = dataclasses.replace(
        old, contrast=0.5, saturation=0.5, gamma=0.5, channel_swap=0.5, colour_centre=0.95
    )
    first, second = seeded(0), seeded(0)
    _, before = old(image, depth_m, first)
    _, after = new(image, depth_m, second)
    torch.testing.assert_close(before, after, rtol=0, atol=0)  # the same views
    # Per image: mirror, share, angle, shift x 2, gain, gain per channel x 3, offset.
    counted = seeded(0)
    for shape in ((4,), (4,), (4,), (4, 2), (4, 1, 1, 1), (4, 3, 1, 1), (4, 1, 1, 1)):
        torch.rand(*shape, generator=counted)
    assert torch.equal(counted.get_state(), first.get_state())
    assert not torch.equal(first.get_state(), second.get_state())


def test_a_view_is_the_call_and_more() -> None:
    image, depth_m = frames()
    augment = Augment(rotation_deg=20)
    labels = torch.zeros(4, 24, 32, dtype=torch.uint8)
    pairs = PointPairs(torch.rand(4, 2, 4), torch.ones(4, 2), torch.ones(4, 2, dtype=torch.bool))
    called = augment(image, depth_m, seeded(3))
    assert type(called) is tuple and len(called) == 2
    for extra in ((), (labels,), (None, pairs), (labels, pairs)):
        view = augment.view(image, depth_m, seeded(3), *extra)
        torch.testing.assert_close(view[:2], called, rtol=0, atol=0)
    assert augment.view(image, depth_m, seeded(3)).labels is None


def test_flip_takes_labels_and_points_along() -> None:
    image, depth_m = frames(1)
    labels = torch.randint(0, 9, (1, 24, 32), generator=seeded(4)).to(torch.uint8)
    augment = Augment(**PLAIN | {"flip": 1.0})
    pairs = points((0.1, 0.2, 0.6, 0.75), order=-1)
    view = augment.view(image, depth_m, seeded(0), labels, pairs)
    assert view.labels is not None and view.pairs is not None
    assert view.labels.dtype == torch.uint8 and view.pairs.order.tolist() == [[-1]]
    torch.testing.assert_close(view.labels, labels.flip(-1))
    torch.testing.assert_close(
        view.pairs.coordinates, torch.tensor([[[0.1, 0.8, 0.6, 0.25]]]), atol=1e-6, rtol=0
    )
    assert view.pairs.valid.all()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    zoom=st.floats(0.3, 1),
    rotation=st.floats(0, 60),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    where=st.tuples(*[st.floats(0.12, 0.88)] * 4),
)
def test_points_go_where_a_bright_spot_goes(seed, zoom, rotation, flip, where) -> None:
    height, width = 60, 80
    # A soft spot at each point, so that its centre of mass is measured finer than a pixel.
    y = ((torch.arange(height) + 0.5) / height)[:, None]
    x = ((torch.arange(width) + 0.5) / width)[None]
    spots = [
        torch.exp(-(((y - v) * height) ** 2 + ((x - u) * width) ** 2) / 8)
        for v, u in (where[:2], where[2:])
    ]
    image = torch.stack([*spots, torch.ones(height, width)])[None]
    augment = Augment(flip=flip, zoom=zoom, rotation_deg=rotation, brightness=0, colour=0)
    pairs = points(where)
    view = augment.view(image, torch.ones(1, 1, height, width), seeded(seed), pairs=pairs)
    assert view.pairs is not None
    got = view.pairs.coordinates[0, 0].reshape(2, 2)
    for channel, (v, u) in zip(view.image[0], got, strict=False):
        if not view.pairs.valid.all():
            continue
        border = min(v, u, 1 - v, 1 - u) * min(height, width)
        if border < 7 / zoom:  # part of the spot is cut off, and its centre moves
            continue
        mass = channel.sum()
        assert float((channel * y).sum() / mass) == pytest.approx(float(v), abs=0.01)
        assert float((channel * x).sum() / mass) == pytest.approx(float(u), abs=0.01)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    zoom=st.floats(0.2, 1),
    rotation=st.floats(0, 90),
    where=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_points_that_leave_the_view_are_no_longer_valid(seed, zoom, rotation, where) -> None:
    """A view of an image of coordinates tells what it shows."""
    height, width = 30, 40
    ys = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    xs = ((torch.arange(width) + 0.5) / width)[None].expand(height, width)
    image = torch.stack([ys, xs, torch.ones(height, width)])[None]  # tells where it came from
    augment = Augment(flip=0.5, zoom=zoom, rotation_deg=rotation, brightness=0, colour=0)
    view = augment.view(image, image[:, :1], seeded(seed), pairs=points(where))
    assert view.pairs is not None
    shown_y, shown_x, inside = view.image[0]
    sure = inside > 0.999
    nearest = [
        float(((shown_y - v) ** 2 * height**2 + (shown_x - u) ** 2 * width**2)[sure].min()) ** 0.5
        for v, u in (where[:2], where[2:])
    ]
    coordinates = view.pairs.coordinates[0, 0]
    assert ((coordinates >= 0) & (coordinates <= 1)).all()
    in_view = bool(view.pairs.valid)
    if all(0.05 < v < 0.95 for v in where):  # at the image's own border views are half black
        assert max(nearest) < 1.0 or not in_view  # what is valid is shown
        assert max(nearest) > 0.08 or in_view  # and what is shown is valid


def test_pairs_that_were_not_valid_stay_so() -> None:
    image, depth_m = frames(1)
    pairs = points((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.6, 0.6))
    pairs = pairs._replace(valid=torch.tensor([[True, False]]))
    view = Augment(**PLAIN).view(image, depth_m, seeded(0), pairs=pairs)
    assert view.pairs is not None and view.pairs.valid.tolist() == [[True, False]]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    zoom=st.floats(0.2, 1),
    rotation=st.floats(0, 60),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
)
def test_labels_follow_depth_and_are_none_outside(seed, zoom, rotation, height, width) -> None:
    labels = torch.randint(0, 19, (2, height, width), generator=seeded(seed)).to(torch.uint8)
    depth_m = labels[:, None] + 1.0  # depth that tells the class
    augment = Augment(zoom=zoom, rotation_deg=rotation)
    view = augment.view(torch.zeros(2, 3, height, width), depth_m, seeded(seed), labels)
    assert view.labels is not None and view.labels.dtype == torch.uint8
    for found, depth in zip(view.labels, view.depth_m[:, 0], strict=True):
        assert torch.equal(found == NO_CLASS, depth == 0)
        known = found != NO_CLASS
        share = depth[known] / (found[known] + 1.0)
        assert not len(share) or float(share.max() - share.min()) < 1e-4


def test_zoom_of_a_half_is_a_scale_of_one_to_two() -> None:
    """Depth is divided by the scale by which the image has grown."""
    image, depth_m = torch.zeros(200, 3, 8, 8), torch.full((200, 1, 8, 8), 10.0)
    _, out = Augment(**PLAIN | {"zoom": 0.5})(image, depth_m, seeded(0))
    scale = 10 / out[:, 0, 0, 0]
    assert 1 <= scale.min() < 1.1 and 1.9 < scale.max() <= 2


def test_colour_may_be_lopsided() -> None:
    image, depth_m = torch.ones(400, 3, 2, 2), torch.ones(400, 1, 2, 2)
    gain, _ = Augment(**PLAIN | {"colour": 0.25, "colour_centre": 0.95})(image, depth_m, seeded(0))
    assert 0.7 <= gain.min() < 0.72 and 1.18 < gain.max() <= 1.2
    assert (gain.amax((1, 2, 3)) - gain.amin((1, 2, 3))).mean() > 0.1  # channels apart


def test_contrast_turns_about_the_mean_grey() -> None:
    image, depth_m = frames(32)
    out, _ = Augment(**PLAIN | {"contrast": 0.5})(image, depth_m, seeded(0))
    ratio = (out.amax((1, 2, 3)) - out.amin((1, 2, 3))) / (
        image.amax((1, 2, 3)) - image.amin((1, 2, 3))
    )
    assert 0.5 <= ratio.min() < 0.7 and 1.3 < ratio.max() <= 1.5
    weights = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(
        out.mean((2, 3)) @ weights, image.mean((2, 3)) @ weights, atol=1e-5, rtol=0
    )


def test_saturation_leaves_each_pixels_grey() -> None:
    image, depth_m = frames(32)
    out, _ = Augment(**PLAIN | {"saturation": 1.0})(image, depth_m, seeded(0))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((out * weights).sum(1), (image * weights).sum(1), atol=1e-5, rtol=0)
    change = (out - out.mean(1, keepdim=True)).std((1, 2, 3)) / (
        image - image.mean(1, keepdim=True)
    ).std((1, 2, 3))
    assert change.min() < 0.4 and change.max() > 1.6


def test_gamma_bends_between_fixed_ends() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0]).expand(300, 3, 3, 3)
    out, _ = Augment(**PLAIN | {"gamma": 1.0})(image, image[:, :1], seeded(0))
    low, middle, high = out[:, 0, 0].T
    assert (low == -1).all() and (high == 1).all()
    power = torch.log2((middle + 1) / 2).neg()
    assert 0.5 <= power.min() < 0.55 and 1.85 < power.max() <= 2.01
    assert 0.4 < (power > 1).float().mean() < 0.6  # as often darker as brighter


def test_channels_swap_as_often_as_asked() -> None:
    image = torch.tensor([-0.5, 0.0, 0.5])[None, :, None, None].expand(1200, 3, 2, 2)
    out, _ = Augment(**PLAIN | {"channel_swap": 0.25})(image, image[:, :1], seeded(0))
    assert torch.equal(out.sort(1).values, image)  # nothing but the order changes
    changed = (out != image).any(1).any(1).any(1)
    assert 0.17 < changed.float().mean() < 0.25  # one order in six is their own
    assert len(torch.unique(out[:, :, 0, 0], dim=0)) == 6


def test_everything_at_once_stays_finite_and_repeats() -> None:
    image, depth_m = frames()
    augment = Augment(
        flip=0.6, zoom=0.5, rotation_deg=15, brightness=0.5, colour=0.25, colour_centre=0.95,
        contrast=0.5, saturation=0.5, gamma=0.2, channel_swap=0.25,
    )  # fmt: skip
    first, second = (augment(image, depth_m, seeded(5)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first[0].isfinite().all() and first[0].shape == image.shape


@pytest.mark.parametrize(
    "wrong",
    [
        {"contrast": 2},
        {"saturation": -1},
        {"gamma": 3},
        {"channel_swap": 1.5},
        {"colour_centre": 0},
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(CompressError, match=f"augment {next(iter(wrong))} = "):
        Augment(**wrong)
