"""Ray casting against depths worked out by hand, and against a slow independent caster."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data._bodies import Camera, Cylinder, Material, Rect, Sphere, Surface
from compress.data._render import Scene, cast, depth_image, visible
from compress.data._stage import Stage
from compress.data._textures import picture

GREY = Material((0.5, 0.5, 0.5))
LEVEL = Camera(height_m=1.5, pitch_rad=0.0, focal=0.8)
SIZE = (97, 129)  # odd: the middle pixel's centre lies on the optical axis
MIDDLE = (48, 64)


def depth(camera: Camera, *surfaces: Surface, cap_m: float = 1e4) -> np.ndarray:
    scene = Scene(camera, surfaces=list(surfaces))
    return depth_image(scene, visible(scene), SIZE, cap_m)


def floor(camera: Camera) -> Rect:
    corner = (-500.0, -camera.height_m, -500.0)
    return Rect(corner, (1, 0, 0), (0, 0, 1), (0, 1, 0), (1000.0, 1000.0), GREY)


@pytest.mark.parametrize("row", [60, 80, 96])
@pytest.mark.parametrize("column", [0, 64, 128])
def test_level_floor_is_height_times_focal_over_rows_below_horizon(row: int, column: int) -> None:
    focal = 0.8 * SIZE[1]
    assert depth(LEVEL, floor(LEVEL))[row, column] == pytest.approx(1.5 * focal / (row - 48))


@pytest.mark.parametrize("row", [45, 60, 96])
def test_pitched_floor(row: int) -> None:
    camera = Camera(height_m=1.4, pitch_rad=math.radians(8))
    down = (row - 48) / (0.8 * SIZE[1])  # tangent below the optical axis
    # A point at z-depth t lies t * (down * cos + sin) below the camera.
    expected = 1.4 / (down * math.cos(camera.pitch_rad) + math.sin(camera.pitch_rad))
    assert depth(camera, floor(camera))[row, 20] == pytest.approx(expected, rel=1e-5)


def test_sky_and_beyond_the_cap_are_not_measured() -> None:
    image = depth(LEVEL, floor(LEVEL), cap_m=20.0)
    assert (image[:49] == 0).all()
    assert image.max() <= 20.0
    assert (image[60:] > 0).all()


def test_wall_facing_the_camera_has_one_depth() -> None:
    wall = Rect((-50.0, -50.0, 4.0), (1, 0, 0), (0, 1, 0), (0, 0, -1), (100.0, 100.0), GREY)
    np.testing.assert_allclose(depth(LEVEL, wall), 4.0, rtol=1e-6)


def test_sphere_and_cylinder_on_the_axis() -> None:
    ball = Sphere((0.0, 0.0, 5.0), 0.75, GREY)
    assert depth(LEVEL, ball)[MIDDLE] == pytest.approx(4.25)
    tube = Cylinder(0.0, 3.0, 0.5, -1.0, 1.0, GREY)
    assert depth(LEVEL, tube)[MIDDLE] == pytest.approx(2.5)
    thin = Cylinder(0.0, 79.0, 0.45, -9.0, 9.0, GREY)
    assert depth(LEVEL, thin)[MIDDLE] == pytest.approx(78.55, rel=1e-6)


def test_sphere_outline_is_its_tangent_cone() -> None:
    image = depth(LEVEL, Sphere((0.0, 0.0, 5.0), 1.0, GREY))
    reach = math.tan(math.asin(1 / 5)) * 0.8 * SIZE[1]
    assert (image[48] > 0).sum() == 2 * math.floor(reach) + 1


def test_box_front_and_top() -> None:
    scene = Scene(LEVEL)
    stage = Stage(scene, np.random.default_rng(0), 0.0, (0.0, 1.0, 0.0))
    stage.at(0.0, 4.0)
    stage.box((2.0, 0.5, 1.0), GREY)
    image = depth_image(scene, visible(scene), SIZE, 1e4)
    focal = 0.8 * SIZE[1]
    # The top lies 1.0 m below the camera from 3.5 m to 4.5 m, the front reaches down to 1.5 m.
    assert image[48 + 25, 64] == pytest.approx(focal / 25, rel=1e-5)  # 4.13 m: on the top
    assert image[48 + 35, 64] == pytest.approx(3.5, rel=1e-6)  # tangent 0.34: on the front
    assert image[48 + 20, 64] == 0  # over its far edge
    assert image[96, 64] == 0  # below it


def test_turned_box_shows_its_edge() -> None:
    scene = Scene(LEVEL)
    stage = Stage(scene, np.random.default_rng(0), math.radians(15), (0.0, 1.0, 0.0))
    stage.at(0.0, 0.0)
    stage.at(-5 * math.sin(math.radians(15)), 5 * math.cos(math.radians(15)), math.radians(30))
    stage.box((1.0, 3.0, 1.0), GREY)
    image = depth_image(scene, visible(scene), SIZE, 1e4)
    # 45 degrees to the camera in all: the nearest edge is half a diagonal before the centre.
    assert image[MIDDLE] == pytest.approx(5 - math.sqrt(0.5), rel=1e-4)


def test_nearer_surface_wins_in_any_order() -> None:
    ball, wall = (
        Sphere((0.0, 0.0, 3.0), 0.5, GREY),
        Rect((-9.0, -9.0, 6.0), (1, 0, 0), (0, 1, 0), (0, 0, -1), (18.0, 18.0), GREY),
    )
    np.testing.assert_array_equal(depth(LEVEL, ball, wall), depth(LEVEL, wall, ball))
    assert depth(LEVEL, wall, ball)[MIDDLE] == pytest.approx(2.5)


numbers = st.floats(-2.0, 2.0)


@settings(max_examples=40)
@given(x=numbers, y=numbers, z=st.floats(-0.5, 9.0), radius=st.floats(0.1, 1.0))
def test_screen_bounds_cut_nothing_off(x: float, y: float, z: float, radius: float) -> None:
    if x * x + y * y + z * z < (radius + 0.1) ** 2:
        return  # the camera must stay outside
    camera = Camera(1.5, math.radians(8))
    grid = camera.grid((24, 32))
    bodies: list[Surface] = [
        Sphere((x, y, z), radius, GREY),
        Rect((x, y, z), (1, 0, 0), (0, 1, 0), (0, 0, -1), (2 * radius, radius), GREY),
    ]
    if math.hypot(x, z) > radius + 0.1:
        bodies.append(Cylinder(x, z, radius, y, y + 1, GREY))
    for body in bodies:
        scene = Scene(camera, surfaces=[body])
        with np.errstate(all="ignore"):
            hit = body.hit(grid.x, grid.y, grid.z, np.full((24, 32), np.inf, np.float32))
        every = np.zeros((24, 32), bool) if hit is None else np.broadcast_to(hit.ok, (24, 32))
        np.testing.assert_array_equal(np.isfinite(cast(visible(scene), grid).t), every)


def test_picture_filters_far_tiles_to_their_mean() -> None:
    tiles = Material((0.8, 0.8, 0.8), cell=(0.1, 0.1), checker=0.5, foot=0.0)
    corner = (-500.0, -1.5, -500.0)
    ground = Rect(corner, (1, 0, 0), (0, 0, 1), (0, 1, 0), (1000.0, 1000.0), tiles)
    scene = Scene(LEVEL, noise=0.0, surfaces=[ground])
    rgb = picture(scene, visible(scene), SIZE, np.random.default_rng(0))
    assert np.ptp(rgb[51:53].astype(int)) <= 2  # 40 m away: even
    assert np.ptp(rgb[96].astype(int)) > 20  # 3 m away: tiles
    assert rgb[52, 64, 0] == pytest.approx(math.sqrt(0.8 * 0.75) * 255, abs=2)


def test_edges_are_antialiased() -> None:
    white = Material((1.0, 1.0, 1.0), glow=1.0, foot=0.0)
    half = Rect((-9.0, -9.0, 2.0), (0.8, 0.6, 0), (-0.6, 0.8, 0), (0, 0, -1), (40.0, 1.8), white)
    black = (0.0, 0.0, 0.0)
    scene = Scene(LEVEL, sky=(black, black), noise=0.0, surfaces=[half])
    levels = picture(scene, visible(scene), SIZE, np.random.default_rng(0))[..., 0].astype(int)
    shares = np.array([round(255 * math.sqrt(q / 4)) for q in range(5)])
    away = np.abs(levels[..., None] - shares)
    assert away.min(-1).max() <= 1  # no other level
    assert (away <= 1).any((0, 1)).all()  # each of them somewhere
