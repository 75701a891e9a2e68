"""Puts bodies of known size into a scene: the hand that furnishes rooms and streets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from compress.data._bodies import Colour, Cylinder, Material, Rect, Sphere, Vec
from compress.data._classes import NUMBER
from compress.data._render import Scene, Shadow
from compress.data.types import NO_CLASS

T = TypeVar("T")


class Stage:
    """Puts bodies of known size into a scene.

    Positions are in the frame of the room or street: the camera stands at (0, 0), x points right,
    y up from the floor and z ahead. ``at`` moves on to the frame of one piece.
    """

    def __init__(self, scene: Scene, rng: np.random.Generator, yaw: float, sun: Vec) -> None:
        self.scene, self.rng, self.sun = scene, rng, sun
        self.ambient, self.direct = 0.6, 0.4
        self.taken: list[tuple[float, float, float, float]] = []
        self._home = self._pose = (0.0, 0.0, math.cos(yaw), math.sin(yaw))
        self._label = NO_CLASS

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[int(self.rng.integers(len(options)))]

    def uniform(self, low: float, high: float) -> float:
        """A number between two bounds."""
        return low + (high - low) * float(self.rng.random())

    def chance(self, share: float) -> bool:
        """True in this share of cases."""
        return float(self.rng.random()) < share

    def tint(self, colour: Colour, spread: float = 0.25) -> Colour:
        """A variation of a colour."""
        level = self.uniform(1 - spread, 1 + spread)
        r, g, b = (min(1.0, c * level * self.uniform(0.88, 1.12)) for c in colour)
        return r, g, b

    def claim(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Reserve a piece of ground, if it is still free."""
        for a, b, c, d in self.taken:
            if abs(x - a) < half_x + c and abs(z - b) < half_z + d:
                return False
        self.taken.append((x, z, half_x, half_z))
        return True

    def of(self, name: str) -> Stage:
        """Go on with bodies of this class."""
        self._label = NUMBER[name]
        return self

    def at(self, x: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Stage:
        """Go on in the frame of a piece that stands at (x, z), turned by ``yaw``."""
        cos, sin = self._home[2:]
        c, s = math.cos(yaw), math.sin(yaw)
        self._pose = (cos * x + sin * z, cos * z - sin * x, cos * c - sin * s, sin * c + cos * s)
        return self

    def _point(self, x: float, y: float, z: float) -> Vec:
        x0, z0, cos, sin = self._pose
        return x0 + cos * x + sin * z, y - self.scene.camera.height_m, z0 + cos * z - sin * x

    def _turn(self, v: Vec) -> Vec:
        _, _, cos, sin = self._pose
        return cos * v[0] + sin * v[2], v[1], cos * v[2] - sin * v[0]

    def face(
        self,
        corner: Vec,
        along: Vec,
        up: Vec,
        normal: Vec,
        extent: tuple[float, float],
        material: Material,
        disc: bool = False,
    ) -> None:
        """One flat face, left out if it turns its back on the camera."""
        at, n = self._point(*corner), self._turn(normal)
        if n[0] * at[0] + n[1] * at[1] + n[2] * at[2] >= -1e-6:
            return
        half_lambert = 0.5 + 0.5 * sum(a * b for a, b in zip(n, self.sun, strict=True))
        light = self.ambient + self.direct * half_lambert
        self.scene.surfaces.append(
            Rect(
                *(at, self._turn(along), self._turn(up), n, extent, material, light, disc),
                label=self._label,
            )
        )

    def box(
        self,
        size: Vec,
        material: Material,
        at: Vec = (0.0, 0.0, 0.0),
        top: Material | None = None,
        front: Material | None = None,
    ) -> None:
        """A box of width, height and depth ``size``; ``at`` is the middle of its bottom."""
        (w, h, d), (x, y, z) = size, at
        left, right, near, far = x - w / 2, x + w / 2, z - d / 2, z + d / 2
        up = (0.0, 1.0, 0.0)
        self.face((left, y, near), (1, 0, 0), up, (0, 0, -1), (w, h), front or material)
        self.face((right, y, far), (-1, 0, 0), up, (0, 0, 1), (w, h), material)
        self.face((left, y, far), (0, 0, -1), up, (-1, 0, 0), (d, h), material)
        self.face((right, y, near), (0, 0, 1), up, (1, 0, 0), (d, h), material)
        flat = top or replace(material, foot=0.0, edge=0.0)
        self.face((left, y + h, near), (1, 0, 0), (0, 0, 1), up, (w, d), flat)
        if y > 0.3:
            under = replace(flat, foot=0.2)
            self.face((left, y, near), (1, 0, 0), (0, 0, 1), (0, -1, 0), (w, d), under)

    def tube(
        self,
        radius: float,
        low: float,
        high: float,
        material: Material,
        at: Vec = (0, 0, 0),
        lid: bool = True,
    ) -> None:
        """An upright cylinder, closed above unless something else stands on it."""
        x, _, z = self._point(*at)
        shift = self.scene.camera.height_m
        sun = tuple(self.direct * 0.5 * s for s in self.sun)
        self.scene.surfaces.append(
            Cylinder(
                x,
                z,
                radius,
                low - shift,
                high - shift,
                material,
                (sun[0], sun[1], sun[2], self.ambient + self.direct * 0.5),
                self._label,
            )
        )
        if lid:
            corner = (at[0] - radius, high, at[2] - radius)
            flat = replace(material, foot=0.0, edge=0.0)
            self.face(corner, (1, 0, 0), (0, 0, 1), (0, 1, 0), (2 * radius, 2 * radius), flat, True)

    def ball(self, radius: float, at: Vec, material: Material) -> None:
        """A ball with its centre at ``at``."""
        sun = tuple(self.direct * 0.5 * s for s in self.sun)
        light = (sun[0], sun[1], sun[2], self.ambient + self.direct * 0.5)
        ball = Sphere(self._point(*at), radius, material, light, self._label)
        self.scene.surfaces.append(ball)

    def shadow(self, half_x: float, half_z: float, floor: float = 0.0, depth: float = 0.6) -> None:
        """Contact shadow of a footprint around the piece's place."""
        x, y, z = self._point(0.0, floor, 0.0)
        turn = self._pose[2:]
        self.scene.shadows.append(Shadow(x, y, z, (half_x, half_z), turn, depth))


def palette(codes: str) -> tuple[Colour, ...]:
    """Linear colours from hexadecimal ones, with the display's gamma of 2."""
    parts = [[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in codes.split()]
    return tuple(((r / 255) ** 2, (g / 255) ** 2, (b / 255) ** 2) for r, g, b in parts)


def exposure(stage: Stage) -> Vec:
    """Brightness and white balance of one picture."""
    level = stage.uniform(0.75, 1.2)
    r, g, b = (level * stage.uniform(0.93, 1.07) for _ in range(3))
    return r, g, b


def dim(colour: Colour, by: float) -> Colour:
    """A colour, ``by`` times as bright."""
    return colour[0] * by, colour[1] * by, colour[2] * by
