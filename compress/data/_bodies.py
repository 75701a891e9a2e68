"""A pinhole camera and the bodies its rays can meet.

Frame of reference: the camera is the origin; x points right, y up, z forward and level. Only the
camera's pitch is inside the rays, so a ray is ``(x[column], y[row], z[row])`` and every
intersection is an outer sum of two short vectors. Rays are scaled to advance one metre along the
optical axis, which makes the ray parameter ``t`` the z-depth itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from compress.data.types import NO_CLASS

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Vec = tuple[float, float, float]
Colour = tuple[float, float, float]

NEAR_M = 0.05  # nothing nearer than this is drawn
SLACK_M = 2e-4  # faces overlap by this much, so that rounding opens no gap between them


@dataclass(frozen=True)
class Material:
    """Colours in linear light, 0 to 1; lengths in metres.

    Args:
        inner: colour inside the cell's rectangle.
        outer: colour of the joints around it.
        cell: width and height of a cell.
        joint: distance from the cell's edge to its rectangle, across and up.
        bond: sideways shift of odd rows, in cells (0.5 for bricks).
        jitter: how much the brightness differs from cell to cell.
        checker: how much darker every other cell is.
        edge: contact shade along the left, right and upper edge of the face.
        foot: contact shade along the lower edge.
        glow: share of the colour that needs no light.
    """

    inner: Colour
    outer: Colour = (0.0, 0.0, 0.0)
    cell: tuple[float, float] = (0.5, 0.5)
    joint: tuple[float, float] = (0.0, 0.0)
    bond: float = 0.0
    jitter: float = 0.0
    checker: float = 0.0
    edge: float = 0.0
    foot: float = 0.3
    glow: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks forward and slightly down.

    ``focal`` is in image widths, so that the same camera serves every image size.
    """

    height_m: float
    pitch_rad: float
    focal: float = 0.8

    def grid(self, size: tuple[int, int], sub: int = 1) -> Grid:
        """Rays through the centres of ``sub`` x ``sub`` cells of each pixel of an (H, W) image."""
        height, width = size
        focal = self.focal * width
        x = ((np.arange(width * sub) + 0.5) / sub - width / 2) / focal
        down = ((np.arange(height * sub) + 0.5) / sub - height / 2) / focal
        sin, cos = math.sin(self.pitch_rad), math.cos(self.pitch_rad)
        return Grid(
            x=x[None, :].astype(np.float32),
            y=(-down * cos - sin)[:, None].astype(np.float32),
            z=(cos - down * sin)[:, None].astype(np.float32),
            scale=focal * sub,
        )

    def bounds(self, points: Sequence[Vec], edges: Sequence[tuple[int, int]]) -> Bounds | None:
        """The image rectangle around a body's corners, cut at the near plane; None if unseen."""
        sin, cos = math.sin(self.pitch_rad), math.cos(self.pitch_rad)
        seen = [(x, -y * cos - z * sin, z * cos - y * sin) for x, y, z in points]
        front = [p for p in seen if p[2] >= NEAR_M]
        if not front:
            return None
        nearest = NEAR_M if len(front) < len(seen) else min(p[2] for p in front)
        if len(front) < len(seen):
            for i, j in edges:
                a, b = seen[i], seen[j]
                if (a[2] < NEAR_M) != (b[2] < NEAR_M):
                    q = (NEAR_M - a[2]) / (b[2] - a[2])
                    front.append((a[0] + q * (b[0] - a[0]), a[1] + q * (b[1] - a[1]), NEAR_M))
        across = [p[0] / p[2] for p in front]
        down = [p[1] / p[2] for p in front]
        return Bounds(min(across), max(across), min(down), max(down), nearest)


class Bounds(NamedTuple):
    """Part of the image in tangent units (x / z), and the least depth in it."""

    left: float
    right: float
    top: float
    bottom: float
    nearest: float


@dataclass(frozen=True)
class Grid:
    """Rays of one image: ``x`` (1, W), ``y`` and ``z`` (H, 1); ``scale`` is samples per tangent."""

    x: F32
    y: F32
    z: F32
    scale: float

    def window(self, b: Bounds) -> tuple[slice, slice] | None:
        """Rows and columns that a body within ``b`` can touch."""
        rows, cols = self.y.shape[0], self.x.shape[1]
        c0 = max(0, math.ceil(max(b.left, -9.0) * self.scale + cols / 2 - 0.51))
        c1 = min(cols, math.floor(min(b.right, 9.0) * self.scale + cols / 2 + 0.51))
        r0 = max(0, math.ceil(max(b.top, -9.0) * self.scale + rows / 2 - 0.51))
        r1 = min(rows, math.floor(min(b.bottom, 9.0) * self.scale + rows / 2 + 0.51))
        return (slice(r0, r1), slice(c0, c1)) if r0 < r1 and c0 < c1 else None


class Hit(NamedTuple):
    """Where rays meet a body: depth (m), surface coordinates (m), light, and which rays do."""

    t: F32
    u: F32
    v: F32
    light: F32 | float
    ok: Mask


def dot(a: Vec, b: Vec) -> float:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _along(axis: Vec, x: F32, y: F32, z: F32) -> F32:
    rows = np.float32(axis[1]) * y + np.float32(axis[2]) * z
    return rows if axis[0] == 0 else np.float32(axis[0]) * x + rows  # one column if it can


@dataclass(frozen=True)
class Rect:
    """A flat face: ``corner`` + u * ``along`` + v * ``up`` for u, v within ``extent``.

    ``normal`` points to the side it is seen from. ``disc`` keeps only the inscribed ellipse.
    ``label`` is its class (``_classes.SCENE_CLASSES``), as of every body.
    """

    corner: Vec
    along: Vec
    up: Vec
    normal: Vec
    extent: tuple[float, float]
    material: Material
    light: float = 1.0
    disc: bool = False
    label: int = NO_CLASS

    def corners(self) -> tuple[list[Vec], list[tuple[int, int]]]:
        """Corner points and the edges between them."""
        (w, h), c, a, b = self.extent, self.corner, self.along, self.up
        points = [
            (c[0] + p * a[0] + q * b[0], c[1] + p * a[1] + q * b[1], c[2] + p * a[2] + q * b[2])
            for p, q in ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h))
        ]
        return points, [(0, 1), (1, 2), (2, 3), (3, 0)]

    def hit(self, x: F32, y: F32, z: F32, limit: F32) -> Hit | None:
        """Meet rays with the face, where nearer than ``limit``."""
        w, h = self.extent
        t = np.float32(dot(self.normal, self.corner)) / _along(self.normal, x, y, z)
        ok = (t > NEAR_M) & (t < limit)
        if not ok.any():
            return None
        u = _along(self.along, x, y, z) * t - np.float32(dot(self.along, self.corner))
        v = _along(self.up, x, y, z) * t - np.float32(dot(self.up, self.corner))
        if self.disc:
            ok &= (u * (2 / w) - 1) ** 2 + (v * (2 / h) - 1) ** 2 <= 1
        else:
            half_u, half_v = np.float32(w / 2), np.float32(h / 2)
            ok &= np.abs(u - half_u) <= half_u + np.float32(SLACK_M)
            ok &= np.abs(v - half_v) <= half_v + np.float32(SLACK_M)
        return Hit(t, u, v, self.light, ok)


BOX_EDGES = [(i, i ^ bit) for i in range(8) for bit in (1, 2, 4) if i < i ^ bit]


def box_points(low: Vec, high: Vec) -> list[Vec]:
    """Corners of an upright box; ``BOX_EDGES`` joins them."""
    ends = (low, high)
    return [(ends[i & 1][0], ends[i >> 1 & 1][1], ends[i >> 2][2]) for i in range(8)]


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder wall from ``bottom`` to ``top``; close it with a ``Rect`` disc."""

    x: float
    z: float
    radius: float
    bottom: float
    top: float
    material: Material
    sun: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    label: int = NO_CLASS

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the face in metres."""
        return 2 * self.radius, self.top - self.bottom

    def corners(self) -> tuple[list[Vec], list[tuple[int, int]]]:
        """Corners of the box around it."""
        r = self.radius
        low = (self.x - r, self.bottom, self.z - r)
        return box_points(low, (self.x + r, self.top, self.z + r)), BOX_EDGES

    def hit(self, x: F32, y: F32, z: F32, limit: F32) -> Hit | None:
        """Meet rays with the wall, where nearer than ``limit``."""
        a = x * x + z * z
        b = np.float32(self.x) * x + np.float32(self.z) * z
        miss = np.float32(self.z) * x - np.float32(self.x) * z  # no difference of large squares
        root = a * np.float32(self.radius**2) - miss * miss
        t: F32 = (b - np.sqrt(np.maximum(root, 0))) / a
        v = t * y - np.float32(self.bottom)
        ok = (root > 0) & (t > NEAR_M) & (t < limit) & (v >= 0) & (v <= self.top - self.bottom)
        if not ok.any():
            return None
        u = t * x - np.float32(self.x)
        w = t * z - np.float32(self.z)
        light = _along((self.sun[0], 0.0, self.sun[2]), u, v, w)
        light = light / np.float32(self.radius) + np.float32(self.sun[3])
        return Hit(t, u + np.float32(self.radius), v, light, ok)


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Vec
    radius: float
    material: Material
    sun: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    label: int = NO_CLASS

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the face in metres."""
        return 2 * self.radius, 2 * self.radius

    def corners(self) -> tuple[list[Vec], list[tuple[int, int]]]:
        """Corners of the box around it."""
        (x, y, z), r = self.centre, self.radius
        return box_points((x - r, y - r, z - r), (x + r, y + r, z + r)), BOX_EDGES

    def hit(self, x: F32, y: F32, z: F32, limit: F32) -> Hit | None:
        """Meet rays with the ball, where nearer than ``limit``."""
        a = x * x + (y * y + z * z)
        b = _along(self.centre, x, y, z)
        root = b * b - a * np.float32(dot(self.centre, self.centre) - self.radius**2)
        t: F32 = (b - np.sqrt(np.maximum(root, 0))) / a
        ok = (root > 0) & (t > NEAR_M) & (t < limit)
        if not ok.any():
            return None
        size = np.float32(self.radius)
        inverse = np.float32(1 / self.radius)
        u = (t * x - np.float32(self.centre[0])) * inverse
        v = (t * y - np.float32(self.centre[1])) * inverse
        w = (t * z - np.float32(self.centre[2])) * inverse
        light = _along(self.sun[:3], u, v, w) + np.float32(self.sun[3])
        one = np.float32(1)
        return Hit(t, (u + one) * size, (v + one) * size, light, ok)


Surface = Rect | Cylinder | Sphere
