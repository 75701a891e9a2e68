"""Ray casting of simple scenes in NumPy: what each ray meets first, and its exact z-depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from compress.data._bodies import F32, Bounds, Camera, Grid, Surface, Vec


@dataclass(frozen=True)
class Shadow:
    """A soft dark patch on level ground around a footprint of half sides ``half`` (m)."""

    x: float
    y: float
    z: float
    half: tuple[float, float]
    turn: tuple[float, float]  # cosine and sine of the footprint's yaw
    depth: float = 0.6
    reach_m: float = 0.2


@dataclass
class Scene:
    """Bodies before a camera, and the light they stand in."""

    camera: Camera
    sky: tuple[Vec, Vec] = ((0.55, 0.7, 0.95), (0.85, 0.9, 1.0))  # zenith, horizon
    haze_m: float = 1e6  # distance at which half the light is lost
    gain: Vec = (1.0, 1.0, 1.0)
    noise: float = 0.008  # standard deviation, of full scale
    surfaces: list[Surface] = field(default_factory=list)
    shadows: list[Shadow] = field(default_factory=list)


class Placed(NamedTuple):
    """A surface, its number in the scene, and the part of the image it can touch."""

    bounds: Bounds
    number: int
    surface: Surface


class Buffers(NamedTuple):
    """What each ray met: depth (m, inf for nothing), surface (-1: none), coordinates, light."""

    t: F32
    face: npt.NDArray[np.int32]
    u: F32
    v: F32
    light: F32


def visible(scene: Scene) -> list[Placed]:
    """The surfaces in view, near ones first: what they hide is then dropped early."""
    placed = []
    for number, surface in enumerate(scene.surfaces):
        bounds = scene.camera.bounds(*surface.corners())
        if bounds is not None:
            placed.append(Placed(bounds, number, surface))
    placed.sort(key=lambda p: (p.bounds.nearest, p.number))
    return placed


def cast(placed: Sequence[Placed], grid: Grid, depth_only: bool = False) -> Buffers:
    """Find the first surface that each ray of ``grid`` meets; fill only ``t`` if ``depth_only``."""
    shape = (grid.y.shape[0], grid.x.shape[1])
    face = np.full(shape, -1, np.int32)
    t = np.full(shape, np.inf, np.float32)
    u, v, light = (np.zeros(shape, np.float32) for _ in range(3))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for bounds, number, surface in placed:
            window = grid.window(bounds)
            if window is None:
                continue
            rows, cols = window
            limit = t[window]
            if bounds.nearest > limit.max():
                continue
            hit = surface.hit(grid.x[:, cols], grid.y[rows], grid.z[rows], limit)
            if hit is None:
                continue
            np.copyto(limit, hit.t, where=hit.ok)
            if depth_only:
                continue
            np.copyto(face[window], number, where=hit.ok)
            np.copyto(u[window], hit.u, where=hit.ok)
            np.copyto(v[window], hit.v, where=hit.ok)
            np.copyto(light[window], hit.light, where=hit.ok)
    return Buffers(t, face, u, v, light)


def depth_image(scene: Scene, placed: Sequence[Placed], size: tuple[int, int], cap_m: float) -> F32:
    """Z-depth in metres through each pixel's centre, (H, W); 0 for sky and beyond ``cap_m``."""
    t = cast(placed, scene.camera.grid(size), depth_only=True).t
    return np.where(t <= cap_m, t, np.float32(0))


def class_image(
    scene: Scene, placed: Sequence[Placed], size: tuple[int, int], sky: int
) -> npt.NDArray[np.uint8]:
    """Class of what each pixel's centre ray meets, (H, W) uint8, ``sky`` where it meets nothing."""
    face = cast(placed, scene.camera.grid(size)).face
    of_face = np.array([*(s.label for s in scene.surfaces), sky], np.uint8)
    return of_face[face]  # -1, nothing met, is the last
