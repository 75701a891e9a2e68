"""Materials with a metric pattern, and how their colour is worked out.

One pattern serves tiles, bricks, planks, window grids and lane dashes: a lattice of cells of
known size, each with an inner rectangle. It is filtered over the footprint of a sample, so that
far surfaces turn to their mean colour and do not glitter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compress.data._bodies import BOX_EDGES, F32, Colour, Grid, Rect, Surface, box_points
from compress.data._render import Buffers, Placed, Scene, cast

_BATCH = 6144  # samples painted at a time: what they need stays in the cache
_REACH_M = 0.25  # of the contact shade


def _table(surfaces: Sequence[Surface], row: tuple[float, float]) -> F32:
    """One column of numbers for each surface, and a last one of sky."""
    columns = []
    for s in surfaces:
        m = s.material
        along_x, along_row, up_x, up_row = 1.0, 0.0, 0.0, 1.0
        tilt_x, tilt_row, u0, v0 = 0.0, 0.0, 0.0, 0.0
        if isinstance(s, Rect):  # flat: how u and v run across the image is known exactly
            n, a, b, c = s.normal, s.along, s.up, s.corner
            k = n[0] * c[0] + n[1] * c[1] + n[2] * c[2]
            along_x, along_row = a[0], a[1] * row[0] + a[2] * row[1]
            up_x, up_row = b[0], b[1] * row[0] + b[2] * row[1]
            tilt_x, tilt_row = n[0] / k, (n[1] * row[0] + n[2] * row[1]) / k
            u0 = a[0] * c[0] + a[1] * c[1] + a[2] * c[2]
            v0 = b[0] * c[0] + b[1] * c[1] + b[2] * c[2]
        columns.append(
            (
                *(along_x, along_row, up_x, up_row, tilt_x, tilt_row, u0, v0),
                *(*m.cell, m.cell[0] / 2 - m.joint[0], m.cell[1] / 2 - m.joint[1]),
                *(m.bond, m.jitter, m.checker, m.edge, m.foot, m.glow, *s.extent),
                *(*m.inner, *m.outer),
            )
        )
    columns.append((0.0,) * 8 + (1.0, 1.0, 0.5, 0.5) + (0.0,) * 6 + (1.0, 1.0) + (0.0,) * 6)
    table: F32 = np.asarray(columns, np.float32).T.copy()
    return table


def _covered(x: F32, cell: F32, half: F32, print_m: F32) -> F32:
    """Share of a sample's footprint that lies in the inner intervals; ``x`` counts from the cell.

    A box filter, worked out from the length of inner interval up to either end of the footprint.
    """
    first, inner = cell * np.float32(0.5) - half, half * np.float32(2)

    def length(end: F32) -> F32:
        whole: F32 = np.floor(end / cell)
        rest: F32 = np.clip(end - whole * cell - first, 0, inner)
        return whole * inner + rest

    spread = print_m * np.float32(0.5)
    share: F32 = (length(x + spread) - length(x - spread)) / print_m
    return share


def _scatter(
    i: npt.NDArray[np.int32], j: npt.NDArray[np.int32], face: npt.NDArray[np.int32]
) -> F32:
    """A number in -1 .. 1 for each cell, the same on every machine."""
    h = i.view(np.uint32) * np.uint32(374761393)
    h += j.view(np.uint32) * np.uint32(668265263)
    h += face.view(np.uint32) * np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(1274126177)
    h ^= h >> np.uint32(16)
    return (h & np.uint32(1023)).astype(np.float32) * np.float32(2 / 1023) - np.float32(1)


def paint(
    surfaces: Sequence[Surface],
    seen: Buffers,
    scale: float,
    row: tuple[float, float],
    haze_m: float,
    haze: Colour,
) -> F32:
    """Colour of every sample.

    Args:
        surfaces: the bodies that ``seen.face`` counts.
        seen: what the rays met, (H, W) each.
        scale: samples per unit of tangent.
        row: y and z of the step from one image row to the next, in tangents.
        haze_m: distance at which half the light is lost to haze.
        haze: its colour.

    Returns:
        (3, H, W) in linear light.
    """
    table = _table(surfaces, row)
    out = np.empty((3, seen.t.size), np.float32)
    t, u, v, light = (b.ravel() for b in (seen.t, seen.u, seen.v, seen.light))
    face = seen.face.ravel()
    for start in range(0, t.size, _BATCH):
        p = slice(start, start + _BATCH)
        part = Buffers(t[p], face[p], u[p], v[p], light[p])
        _paint(table, part, scale, haze_m, haze, out[:, p])
    return out.reshape(3, *seen.t.shape)


def _paint(
    columns: F32, seen: Buffers, scale: float, haze_m: float, haze: Colour, out: F32
) -> None:
    """Work out a batch of samples, (N,) each, into ``out`` (3, N)."""
    face, u, v, light = seen.face, seen.u, seen.v, seen.light
    table = np.take(columns, face, axis=1, mode="wrap")
    ax, ar, bx, br, nx, nr, u0, v0, cell_u, cell_v, half_u, half_v = table[:12]
    bond, jitter, checker, edge, foot, glow, wide, high = table[12:20]
    t = np.minimum(seen.t, np.float32(1e4))
    step = t * np.float32(1 / scale)
    print_u = step * (np.abs(ax - (u + u0) * nx) + np.abs(ar - (u + u0) * nr)) + np.float32(1e-4)
    print_v = step * (np.abs(bx - (v + v0) * nx) + np.abs(br - (v + v0) * nr)) + np.float32(1e-4)

    j = np.floor(v / cell_v)
    in_v = v - j * cell_v
    rows = j.astype(np.int32)
    odd = (rows & 1).astype(np.float32)
    shifted = u + odd * bond * cell_u
    i = np.floor(shifted / cell_u)
    in_u = shifted - i * cell_u
    cells = i.astype(np.int32)
    inner = _covered(in_u, cell_u, half_u, print_u) * _covered(in_v, cell_v, half_v, print_v)
    detail = np.clip(np.float32(1.5) - np.maximum(print_u / cell_u, print_v / cell_v), 0, 1)
    dark = checker * ((((rows + cells) & 1).astype(np.float32) - 0.5) * detail + 0.5)
    tone = (1 + jitter * _scatter(cells, rows, face) * detail) * (1 - dark)

    reach = np.float32(_REACH_M)
    side = reach / (reach + np.maximum(np.minimum(u, wide - u), 0))
    top = reach / (reach + np.maximum(high - v, 0))
    low = reach / (reach + np.maximum(v, 0))
    shade = light * (1 - edge * (side * side + top * top) - foot * low * low)
    shade = np.maximum(shade, np.float32(0.03))
    shade += glow * (1 - shade)
    lost = t / (t + np.float32(haze_m))
    for channel in range(3):
        a, b = table[20 + channel] * tone, table[23 + channel]
        colour = (b + (a - b) * inner) * shade
        out[channel] = colour + (np.float32(haze[channel]) - colour) * lost


def _shade_ground(scene: Scene, grid: Grid, seen: Buffers) -> None:
    for s in scene.shadows:
        reach = 3 * s.reach_m + math.hypot(*s.half)
        low, high = (s.x - reach, s.y, s.z - reach), (s.x + reach, s.y, s.z + reach)
        bounds = scene.camera.bounds(box_points(low, high), BOX_EDGES)
        if bounds is None or (window := grid.window(bounds)) is None:
            continue
        rows, cols = window
        t = seen.t[rows, cols]
        with np.errstate(invalid="ignore"):
            ground = np.abs(t * grid.y[rows] - np.float32(s.y)) < 0.03
        if not ground.any():
            continue
        t = np.where(ground, t, 0)
        x, z = t * grid.x[:, cols] - np.float32(s.x), t * grid.z[rows] - np.float32(s.z)
        a = np.maximum(np.abs(x * s.turn[0] - z * s.turn[1]) - s.half[0], 0)
        b = np.maximum(np.abs(x * s.turn[1] + z * s.turn[0]) - s.half[1], 0)
        near = (s.reach_m / (s.reach_m + np.sqrt(a * a + b * b))) ** 2 * s.depth
        seen.light[rows, cols] *= np.where(ground, 1 - near, 1)


def picture(
    scene: Scene, placed: Sequence[Placed], size: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Draw the scene, (H, W, 3) uint8: the mean of four samples a pixel, then sensor noise."""
    height, width = size
    grid = scene.camera.grid(size, sub=2)
    seen = cast(placed, grid)
    _shade_ground(scene, grid, seen)
    sin, cos = math.sin(scene.camera.pitch_rad), math.cos(scene.camera.pitch_rad)
    rgb = paint(scene.surfaces, seen, grid.scale, (-cos, -sin), scene.haze_m, scene.sky[1])
    empty = seen.face < 0
    if empty.any():
        rise = np.clip(grid.y * 1.6, 0, 1)[:, 0]
        for channel, (zenith, horizon) in enumerate(zip(*scene.sky, strict=True)):
            column = (horizon + (zenith - horizon) * rise).astype(np.float32)
            np.copyto(rgb[channel], column[:, None], where=empty)
    cells = rgb.reshape(3, height, 2, width, 2)
    mean = (cells[:, :, 0, :, 0] + cells[:, :, 0, :, 1]) + (
        cells[:, :, 1, :, 0] + cells[:, :, 1, :, 1]
    )
    mean *= np.asarray(scene.gain, np.float32)[:, None, None] * np.float32(0.25)
    out = np.sqrt(np.clip(mean, 0, 1)) * 255  # a gamma of 2 stands in for the display curve
    grain = rng.integers(-128, 128, (2, 3, height, width), np.int16).sum(0)  # triangular
    out += grain * np.float32(scene.noise * 255 / 104.5)
    np.rint(out, out=out)
    image: npt.NDArray[np.uint8] = np.ascontiguousarray(
        np.clip(out, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    )
    return image
