"""Rooms of random size, furnished with pieces of standard sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compress.data._bodies import Camera, Material, Vec
from compress.data._render import Scene
from compress.data._stage import Stage, dim, exposure, palette

INDOOR = Camera(height_m=1.4, pitch_rad=math.radians(8.0))
WOODS = palette("a57d58 8c6648 bd9d72 c6b190 725848")
PAINTS = palette("ddd8ce c6cec9 d5c6ab abbdc9 c9a599 b4bfa5 e4e1de 95a1ad")
CLOTHS = palette("ab5851 58729d 729072 b4a58c 8c8c90 c69751 5f9599")
_ROOM_HEIGHT_M = 2.6


def _floor(stage: Stage) -> Material:
    wood = stage.tint(stage.pick(WOODS))
    stone = stage.tint(stage.pick(PAINTS))
    style = int(stage.rng.integers(3))
    if style == 0:
        return Material(
            stone, dim(stone, 0.45), (0.5, 0.5), (0.012, 0.012), jitter=0.08, edge=0.25, foot=0.25
        )
    if style == 1:
        return Material(
            stone,
            dim(stone, 0.4),
            (0.5, 0.5),
            (0.006, 0.006),
            jitter=0.05,
            checker=0.5,
            edge=0.25,
            foot=0.25,
        )
    return Material(
        wood, dim(wood, 0.4), (0.2, 1.2), (0.005, 0.005), jitter=0.22, edge=0.25, foot=0.25
    )


def _wall(stage: Stage) -> Material:
    paint = stage.tint(stage.pick(PAINTS))
    style = int(stage.rng.integers(4))
    if style == 0:  # wallpaper strips
        return Material(paint, dim(paint, 0.8), (0.5, 2.6), (0.08, 0.0), edge=0.3)
    if style == 1:  # bricks
        return Material(paint, dim(paint, 0.6), (0.5, 0.25), (0.015, 0.015), 0.5, 0.12, edge=0.3)
    if style == 2:  # tiles
        return Material(paint, dim(paint, 0.65), (0.25, 0.25), (0.01, 0.01), 0.0, 0.1, edge=0.3)
    return Material(paint, dim(paint, 0.75), (1.0, 1.3), (0.04, 0.04), 0.0, 0.04, edge=0.3)


def _furnish_wall(stage: Stage, length: float) -> None:
    """Doors, windows and pictures on a wall that runs along the piece's x from 0."""
    x = stage.uniform(0.2, 1.2)
    while x < length - 1.4:
        what = stage.pick(("door", "window", "picture", "picture", "none"))
        axes: tuple[Vec, Vec, Vec] = ((1, 0, 0), (0, 1, 0), (0, 0, -1))
        stage.of(what if what in ("door", "window") else "wall")
        if what == "door":
            leaf = stage.tint(stage.pick((*WOODS, *PAINTS)))
            frame = Material(dim(leaf, 0.6))
            stage.face((x, 0, -0.02), *axes, (1.0, 2.05), frame)
            panel = Material(leaf, dim(leaf, 0.7), (0.9, 1.0), (0.12, 0.1))
            stage.face((x + 0.05, 0, -0.03), *axes, (0.9, 2.0), panel)
        elif what == "window":
            frame = Material((0.8, 0.8, 0.78))
            stage.face((x - 0.06, 0.84, -0.02), *axes, (1.32, 1.32), frame)
            sky = stage.tint((0.75, 0.85, 0.95), 0.1)
            pane = Material(sky, (0.7, 0.7, 0.68), (0.6, 0.6), (0.03, 0.03), foot=0.1, glow=0.9)
            stage.face((x, 0.9, -0.03), *axes, (1.2, 1.2), pane)
        elif what == "picture":
            art = stage.tint(stage.pick(CLOTHS))
            sheet = Material(
                art,
                stage.pick(((0.8, 0.8, 0.78), (0.05, 0.05, 0.05))),
                (0.8, 0.6),
                (0.06, 0.06),
                foot=0.0,
            )
            stage.face((x, 1.3, -0.02), *axes, (0.8, 0.6), sheet)
        x += 1.5 + stage.uniform(0.0, 1.5)


def _cupboard(stage: Stage, size: Vec, cell: tuple[float, float]) -> None:
    wood = stage.tint(stage.pick((*WOODS, *PAINTS)))
    body = Material(wood, dim(wood, 0.7), (10.0, 10.0))
    doors = Material(wood, dim(wood, 0.45), cell, (0.015, 0.015), jitter=0.05)
    stage.box(size, body, front=doors)


def _wardrobe(stage: Stage) -> None:
    _cupboard(stage, (1.0, 2.0, 0.6), (0.5, 2.0))


def _commode(stage: Stage) -> None:
    _cupboard(stage, (1.2, 0.9, 0.5), (0.6, 0.3))


def _bookcase(stage: Stage) -> None:
    wood = stage.tint(stage.pick(WOODS))
    books = Material(
        dim(stage.tint(stage.pick(CLOTHS)), 1.1), wood, (0.1, 0.36), (0.008, 0.03), jitter=0.6
    )
    stage.box((0.9, 1.8, 0.3), Material(wood), front=books)


def _sofa(stage: Stage) -> None:
    cloth = stage.tint(stage.pick(CLOTHS))
    seat = Material(cloth, dim(cloth, 0.55), (0.7, 0.45), (0.015, 0.01))
    body = Material(dim(cloth, 0.85))
    stage.box((1.4, 0.45, 0.65), seat, (0, 0, -0.1))
    stage.box((1.8, 0.85, 0.2), seat, (0, 0, 0.325))
    for side in (-0.8, 0.8):
        stage.box((0.2, 0.6, 0.65), body, (side, 0, -0.1))


def _bed(stage: Stage) -> None:
    wood, cloth = stage.tint(stage.pick(WOODS)), stage.tint(stage.pick((*CLOTHS, *PAINTS)))
    sheet = Material(cloth, dim(cloth, 0.8), (0.5, 0.5), (0.03, 0.03), foot=0.1)
    stage.box((1.4, 0.3, 2.0), Material(wood))
    stage.box((1.36, 0.2, 1.96), sheet, (0, 0.3, 0))
    stage.box((1.4, 1.0, 0.08), Material(wood), (0, 0, 0.97))
    pillow = Material((0.8, 0.8, 0.78))
    for side in (-0.34, 0.34):
        stage.box((0.55, 0.12, 0.4), pillow, (side, 0.5, 0.68))


def _legs(stage: Stage, wood: Material, x: float, z: float, high: float) -> None:
    for side in (-x, x):
        for end in (-z, z):
            stage.box((0.06, high, 0.06), wood, (side, 0, end))


def _table(stage: Stage) -> None:
    wood = stage.tint(stage.pick((*WOODS, (0.75, 0.75, 0.72))))
    plain = Material(wood, foot=0.15)
    planks = Material(wood, dim(wood, 0.7), (1.4, 0.2), (0.0, 0.005), jitter=0.08, foot=0.0)
    stage.box((1.4, 0.05, 0.8), plain, (0, 0.7, 0), top=planks)
    _legs(stage, plain, 0.64, 0.34, 0.7)


def _chair(stage: Stage) -> None:
    wood = Material(stage.tint(stage.pick((*WOODS, *CLOTHS))), foot=0.15)
    stage.box((0.45, 0.06, 0.45), wood, (0, 0.42, 0))
    stage.box((0.45, 0.45, 0.05), wood, (0, 0.48, 0.2))
    _legs(stage, wood, 0.19, 0.19, 0.42)


def _carton(stage: Stage) -> None:
    card = stage.tint((0.5, 0.36, 0.22))
    tape = Material(card, dim(card, 1.35), (0.5, 0.5), (0.0, 0.22))
    lid = Material(card, dim(card, 0.6), (0.5, 0.25), (0.0, 0.006), foot=0.0)
    stage.box((0.5, 0.5, 0.5), replace(tape, joint=(0.0, 0.04)), top=lid)
    if stage.chance(0.35):
        stage.box((0.4, 0.4, 0.4), Material(stage.tint(card), foot=0.2), (0.03, 0.5, 0.02))


def _plant(stage: Stage) -> None:
    leaf = stage.tint((0.1, 0.3, 0.08))
    stage.tube(0.18, 0, 0.35, Material(stage.tint((0.5, 0.22, 0.12))))
    stage.tube(0.03, 0.35, 0.75, Material((0.2, 0.12, 0.06)), lid=False)
    foliage = Material(leaf, cell=(0.08, 0.08), bond=0.5, jitter=0.4, foot=0.4)
    stage.ball(0.35, (0, 0.95, 0), foliage)


def _lamp(stage: Stage) -> None:
    stage.tube(0.15, 0, 0.03, Material((0.08, 0.08, 0.08)))
    stage.tube(0.02, 0.03, 1.4, Material((0.15, 0.15, 0.15)), lid=False)
    stage.tube(0.2, 1.3, 1.6, Material(stage.tint((0.95, 0.85, 0.6)), glow=0.7, foot=0.0))


def _stool(stage: Stage) -> None:
    cloth = stage.tint(stage.pick(CLOTHS))
    stage.tube(0.25, 0, 0.45, Material(cloth, dim(cloth, 0.7), (0.1, 0.45), (0.008, 0.0)))


# How it is built, its class, its width and depth in metres.
Piece = tuple[Callable[[Stage], None], str, float, float]
_AT_WALL: tuple[Piece, ...] = (
    (_wardrobe, "cupboard", 1.0, 0.6),
    (_commode, "cupboard", 1.2, 0.5),
    (_bookcase, "cupboard", 0.9, 0.3),
    (_sofa, "seat", 1.8, 0.85),
    (_bed, "bed", 1.4, 2.0),
    (_plant, "plant", 0.7, 0.7),
    (_lamp, "lamp", 0.4, 0.4),
)
_FREE: tuple[Piece, ...] = (
    (_table, "table", 1.4, 0.8),
    (_chair, "seat", 0.45, 0.45),
    (_chair, "seat", 0.45, 0.45),
    (_carton, "box", 0.5, 0.5),
    (_stool, "seat", 0.5, 0.5),
    (_sofa, "seat", 1.8, 0.85),
    (_bookcase, "cupboard", 0.9, 0.3),
)


def indoor(rng: np.random.Generator) -> Scene:
    """A furnished room, the camera somewhere in it."""
    scene = Scene(INDOOR, haze_m=1e6)
    sun = (float(rng.uniform(-0.6, 0.6)), 0.6, float(rng.uniform(-0.7, -0.1)))
    stage = Stage(scene, rng, math.radians(float(rng.uniform(-20, 20))), sun)
    left, right = -stage.uniform(1.1, 3.5), stage.uniform(1.1, 3.5)
    near, far = -1.0, 2.2 + 5.8 * stage.uniform(0, 1)
    high = _ROOM_HEIGHT_M
    wide, long = right - left, far - near
    up: Vec = (0, 1, 0)
    wall = _wall(stage)
    walls = [replace(wall, inner=stage.tint(wall.inner, 0.06)) for _ in range(3)]
    if stage.chance(0.3):
        walls[1] = _wall(stage)
    white = stage.tint((0.8, 0.8, 0.78), 0.1)
    skirting = Material(stage.pick((white, stage.tint(stage.pick(WOODS)))))
    ceiling = Material(white, dim(white, 0.75), (0.6, 0.6), (0.015, 0.015), edge=0.2, foot=0.2)
    scene.gain = exposure(stage)
    stage.at().of("floor")
    stage.face((left, 0, near), (1, 0, 0), (0, 0, 1), up, (wide, long), _floor(stage))
    stage.of("ceiling")
    stage.face((left, high, near), (1, 0, 0), (0, 0, 1), (0, -1, 0), (wide, long), ceiling)
    for z in (1.5, 3.5, 5.5):
        if z + 0.5 < far:
            lamp = Material((0.95, 0.93, 0.88), glow=1.0, foot=0.0)
            stage.face((-0.6, high - 0.02, z), (1, 0, 0), (0, 0, 1), (0, -1, 0), (1.2, 0.3), lamp)
    poses = (
        (left, near, -math.pi / 2, long),
        (left, far, 0.0, wide),
        (right, far, math.pi / 2, long),
    )
    for material, (x, z, yaw, length) in zip(walls, poses, strict=True):
        stage.at(x, z, yaw).of("wall")
        stage.face((0, 0, 0), (1, 0, 0), up, (0, 0, -1), (length, high), material)
        stage.face((0, 0, -0.01), (1, 0, 0), up, (0, 0, -1), (length, 0.1), skirting)
        _furnish_wall(stage, length)
    if stage.chance(0.35):
        cloth = stage.tint(stage.pick(CLOTHS))
        rug = Material(cloth, dim(cloth, 1.6), (2.0, 1.4), (0.12, 0.12), foot=0.0)
        stage.at(stage.uniform(left + 1, right - 1), stage.uniform(2.0, far)).of("floor")
        stage.face((-1, 0.01, -0.7), (1, 0, 0), (0, 0, 1), up, (2.0, 1.4), rug)
    stage.claim(0, 0, 0.7, 1.0)
    for _ in range(int(rng.integers(2, 7))):
        build, name, w, d = stage.pick(_AT_WALL)
        x, z, yaw, length = stage.pick(poses)
        along = stage.uniform(w / 2 + 0.05, length - w / 2 - 0.05)
        c, s = math.cos(yaw), math.sin(yaw)
        deep = -d / 2 - 0.02
        x, z = x + c * along + s * deep, z + c * deep - s * along
        reach = (abs(c) * w + abs(s) * d) / 2, (abs(s) * w + abs(c) * d) / 2
        if stage.claim(x, z, *reach):
            build(stage.at(x, z, yaw).of(name))
            stage.shadow(w / 2, d / 2)
    for _ in range(int(rng.integers(1, 7))):
        build, name, w, d = stage.pick(_FREE)
        x, z = stage.uniform(left + 0.6, right - 0.6), stage.uniform(1.3, max(far - 0.5, 1.4))
        yaw = stage.uniform(-math.pi, math.pi)
        half = math.hypot(w, d) / 2
        if (
            x - half > left
            and x + half < right
            and z + half < far
            and stage.claim(x, z, half, half)
        ):
            build(stage.at(x, z, yaw).of(name))
            stage.shadow(w / 2 * 0.95, d / 2 * 0.95, depth=0.35 if build is _table else 0.5)
    return scene
