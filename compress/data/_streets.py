"""Streets of fixed width between houses, with cars, trees and people of standard sizes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from compress.data._bodies import Camera, Colour, Material, Vec
from compress.data._render import Scene
from compress.data._rooms import CLOTHS, WOODS
from compress.data._stage import Stage, dim, exposure, palette

OUTDOOR = Camera(height_m=1.6, pitch_rad=math.radians(4.0))
_FACADES = palette("c6b49d bd8772 d5d2c9 a5a9b1 cfc699 b49987 a1b1b4")
_CARS = palette("b43939 3e5897 d5d5d5 39393e 8c9095 518063 c6ab51")
_ROAD_M, _PAVEMENT_M, _KERB_M, _STOREY_M = 7.0, 2.5, 0.15, 3.0
_GLASS: Colour = (0.1, 0.13, 0.17)


def _house(stage: Stage, wide: float, storeys: int, deep: float) -> None:
    stage.of("building")
    wall = stage.tint(stage.pick(_FACADES))
    glass = Material(_GLASS, wall, (3.0, _STOREY_M), (0.9, 0.75), jitter=0.5, foot=0.15)
    roof = Material(dim(wall, 0.5), foot=0.0)
    stage.box((wide, _STOREY_M * storeys, deep), glass, top=roof)
    stage.box(
        (wide + 0.4, 0.3, deep + 0.4),
        Material(dim(wall, 0.7), foot=0.0),
        (0, _STOREY_M * storeys, 0),
    )
    door = Material(stage.tint(stage.pick((*WOODS, *_CARS))), foot=0.1)
    x = -wide / 2 + 1.0 + 3.0 * int(stage.rng.integers(int(wide) // 3))
    stage.of("door")
    stage.face((x, 0, -deep / 2 - 0.03), (1, 0, 0), (0, 1, 0), (0, 0, -1), (1.0, 2.3), door)


def _car(stage: Stage) -> None:
    coat = stage.tint(stage.pick(_CARS))
    body = Material(coat, foot=0.2)
    stage.box((1.8, 0.55, 4.4), body, (0, 0.3, 0))
    end = Material(_GLASS, coat, (1.56, 0.6), (0.1, 0.08), foot=0.0)
    side = Material(_GLASS, coat, (1.15, 0.6), (0.06, 0.08), foot=0.0)
    stage.box((1.56, 0.6, 2.3), side, (0, 0.85, -0.2), top=body, front=end)
    for z, glow in ((-2.21, (0.6, 0.03, 0.03)), (2.21, (0.9, 0.9, 0.8))):
        for x in (-0.85, 0.5):
            n = (0.0, 0.0, math.copysign(1, z))
            light = Material(glow, glow=0.4, foot=0.0)
            stage.face((x, 0.6, z), (1, 0, 0), (0, 1, 0), n, (0.35, 0.15), light)
    tyre = Material((0.16, 0.16, 0.17), (0.015, 0.015, 0.015), (0.64, 0.64), (0.16, 0.16), foot=0.0)
    for x in (-0.91, 0.91):
        n = (math.copysign(1, x), 0.0, 0.0)
        for z in (-1.72, 1.08):
            stage.face((x, 0.0, z), (0, 0, 1), (0, 1, 0), n, (0.64, 0.64), tyre, True)
    stage.shadow(0.85, 2.15, depth=0.75)


def _van(stage: Stage) -> None:
    coat = stage.tint(stage.pick(_CARS))
    stage.box(
        (2.0, 2.0, 5.0), Material(coat, dim(coat, 0.7), (5.0, 1.0), (0.0, 0.02)), (0, 0.35, 0)
    )
    for z in (-2.52, 2.52):
        n = (0.0, 0.0, math.copysign(1, z))
        glass = Material(_GLASS, coat, (0.85, 0.7), (0.04, 0.04), foot=0.0)
        stage.face((-0.85, 1.45, z), (1, 0, 0), (0, 1, 0), n, (1.7, 0.7), glass)
    tyre = Material((0.16, 0.16, 0.17), (0.015, 0.015, 0.015), (0.7, 0.7), (0.18, 0.18), foot=0.0)
    for x in (-1.01, 1.01):
        n = (math.copysign(1, x), 0.0, 0.0)
        for z in (-1.9, 1.2):
            stage.face((x, 0.0, z), (0, 0, 1), (0, 1, 0), n, (0.7, 0.7), tyre, True)
    stage.shadow(0.95, 2.45, depth=0.75)


def _tree(stage: Stage) -> None:
    leaf = stage.tint(stage.pick(((0.12, 0.26, 0.06), (0.2, 0.3, 0.06), (0.3, 0.24, 0.05))))
    bark = stage.tint((0.2, 0.14, 0.09))
    stage.tube(
        0.15, 0, 2.6, Material(bark, dim(bark, 0.6), (0.1, 0.5), (0.015, 0.0), 0.5, 0.2), lid=False
    )
    crown = Material(leaf, cell=(0.25, 0.25), bond=0.5, jitter=0.4, foot=0.5)
    stage.ball(1.3, (0.0, 3.4, 0.0), crown)
    stage.ball(0.9, (0.5, 4.4, 0.3), crown)
    stage.shadow(0.1, 0.1, _KERB_M, 0.6)


def _street_lamp(stage: Stage) -> None:
    steel = Material((0.14, 0.16, 0.16), foot=0.1)
    stage.tube(0.08, 0, 6.0, steel, lid=False)
    stage.box((1.2, 0.08, 0.15), steel, (-0.5, 6.0, 0))
    stage.tube(0.14, 0, 0.9, steel)
    stage.shadow(0.08, 0.08, _KERB_M, 0.5)


def _person(stage: Stage) -> None:
    cloth, legs = stage.tint(stage.pick(CLOTHS)), stage.tint((0.1, 0.12, 0.18), 0.5)
    for side in (-0.1, 0.1):
        stage.tube(0.09, _KERB_M, 0.95, Material(legs, foot=0.1), (side, 0, 0), False)
    stage.tube(0.22, 0.9, 1.55, Material(cloth, foot=0.2), lid=False)
    stage.ball(0.13, (0, 1.7, 0), Material(stage.tint((0.55, 0.36, 0.25))))
    stage.shadow(0.15, 0.15, _KERB_M, 0.6)


def _hedge(stage: Stage, wide: float) -> None:
    leaf = Material(stage.tint((0.1, 0.22, 0.06)), cell=(0.2, 0.2), bond=0.5, jitter=0.35)
    stage.box((wide, 1.2, 0.6), leaf)


def _row(stage: Stage, side: int, kerb_x: float, end: float) -> None:
    """Houses, gardens, lamps and trees along one side; ``kerb_x`` is where its pavement starts."""
    turn = side * math.pi / 2  # fronts look at the road
    lawn = stage.pick((0.0, 0.0, 3.0))
    front = kerb_x + side * (_PAVEMENT_M + lawn)
    z = -12.0 + stage.uniform(0, 6)
    while z < end - 6:
        wide = min(stage.pick((9.0, 12.0, 15.0)), math.ceil((end - z) / 3) * 3.0)
        if stage.chance(0.22):
            gap = stage.pick((4.0, 7.0))
            stage.at(kerb_x + side * (_PAVEMENT_M + 0.4), z + gap / 2, turn)
            _hedge(stage.of("plant"), gap)
            z += gap
            continue
        stage.at(front + side * 4.5, z + wide / 2, turn)
        _house(stage, wide, int(stage.rng.integers(2, 6)), 9.0)
        z += wide + stage.pick((0.0, 0.0, 2.0))
    trees = stage.chance(0.5)
    z = stage.uniform(3.0, 11.0)
    while z < min(end, 70.0):
        stage.at(kerb_x + side * 0.5, z, 0.0 if side > 0 else math.pi)
        (_tree if trees else _street_lamp)(stage.of("plant" if trees else "lamp"))
        z += 8.0 if trees else 20.0
    for _ in range(int(stage.rng.integers(0, 4))):
        stage.at(kerb_x + side * stage.uniform(0.9, 2.2), stage.uniform(3.0, min(end, 30.0)))
        _person(stage.of("person"))


def outdoor(rng: np.random.Generator) -> Scene:
    """A street, the camera on the road or on a pavement."""
    overcast = float(rng.random())
    sky = (0.32 + 0.4 * overcast, 0.5 + 0.28 * overcast, 0.85 - 0.05 * overcast)
    pale = (0.75 + 0.1 * overcast, 0.82 + 0.05 * overcast, 0.9)
    scene = Scene(OUTDOOR, (sky, pale), haze_m=float(rng.uniform(150, 400)))
    sun = (float(rng.uniform(-0.75, 0.75)), 0.6, float(rng.uniform(-0.7, 0.2)))
    stage = Stage(scene, rng, math.radians(float(rng.uniform(-20, 20))), sun)
    stage.ambient, stage.direct = 0.4 + 0.2 * overcast, 0.65 - 0.35 * overcast
    up: Vec = (0, 1, 0)
    place = stage.pick((-1.75, 1.75, 1.75, -1.75, -4.6, 4.6)) + stage.uniform(-0.3, 0.3)
    middle = -place
    end = stage.uniform(10.0, 60.0) if stage.chance(0.6) else 130.0
    tar = stage.tint((0.17, 0.17, 0.18))
    grass = Material(stage.tint((0.16, 0.26, 0.08)), cell=(0.5, 0.5), jitter=0.2, foot=0.0)
    slab = stage.tint((0.46, 0.44, 0.42))
    flags = Material(slab, dim(slab, 0.6), (0.5, 0.5), (0.015, 0.015), jitter=0.1, foot=0.0)
    road = Material((0.75, 0.75, 0.72), tar, (_ROAD_M, 6.0), (_ROAD_M / 2 - 0.08, 1.5), foot=0.0)
    ahead: Vec = (0, 0, 1)
    scene.gain = exposure(stage)
    stage.at().of("grass")
    stage.face((-150, -0.02, -20), (1, 0, 0), ahead, up, (300, 250), grass)
    stage.of("road")
    stage.face(
        (middle - 3.5, 0, -6.0 + stage.uniform(0, 6)), (1, 0, 0), ahead, up, (_ROAD_M, 150.0), road
    )
    for side in (-1, 1):
        stage.at(middle + side * (3.5 + _PAVEMENT_M / 2), 60.0).of("pavement")
        stage.box((_PAVEMENT_M, _KERB_M, 150.0), replace(flags, joint=(0.03, 0.0)), top=flags)
        _row(stage, side, middle + side * 3.5, end)
    if end < 100:  # the street ends in a crossing with a house behind it
        stage.at(0.0, end + 3.5, -math.pi / 2).of("road")
        stage.face((-3.5, 0.01, -80), (1, 0, 0), ahead, up, (_ROAD_M, 160.0), road)
        stage.at(middle + stage.uniform(-6, 6), end + 14.0)
        _house(stage, 36.0, int(rng.integers(2, 6)), 9.0)
    stage.claim(0.0, 0.0, 1.2, 3.5)
    for _ in range(int(rng.integers(2, 9))):
        lane = stage.pick((-2.55, -1.75, 1.75, 2.55))
        z = stage.uniform(5.0, min(end + 2, 45.0))
        if stage.claim(middle + lane, z, 1.0, 3.2):
            stage.at(middle + lane, z, 0.0 if lane * (1 if place > 0 else -1) > 0 else math.pi)
            (_van if stage.chance(0.2) else _car)(stage.of("vehicle"))
    return scene
