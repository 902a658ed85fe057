"""Where everything is in the synthetic street: endless, made chunk by chunk from the seed alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from rt_segmentation.data import street_textures as textures
from rt_segmentation.data import street_things as things
from rt_segmentation.data.street_painter import Colour, Painter
from rt_segmentation.data.street_textures import StreetClass

_CHUNK = 36.0  # metres of street made at a time
_CHUNKS_KEPT = 12
_SIGHT = 120.0  # metres within which houses are drawn
_DETAIL_SIGHT = 72.0  # metres within which everything else is


class Item(NamedTuple):
    """A thing: how far along the street it reaches [m], what paints it, where (x, z) it shades the road."""

    far: float
    draw: Callable[[Painter], None]
    shade: tuple[float, float] | None = None


_CAR_PAINTS = (
    (206.0, 208.0, 210.0), (228.0, 228.0, 224.0), (38.0, 40.0, 44.0), (120.0, 124.0, 130.0),
    (150.0, 30.0, 32.0), (34.0, 62.0, 124.0),
    (70.0, 96.0, 82.0), (168.0, 160.0, 140.0), (60.0, 116.0, 156.0), (196.0, 160.0, 50.0),
)  # fmt: skip
_CLOTHES = (
    (40.0, 42.0, 52.0), (150.0, 40.0, 44.0), (70.0, 86.0, 120.0), (196.0, 188.0, 170.0),
    (58.0, 96.0, 66.0), (110.0, 82.0, 62.0), (222.0, 222.0, 224.0), (92.0, 62.0, 104.0), (214.0, 150.0, 60.0),
)  # fmt: skip
_TROUSERS = (
    (36.0, 38.0, 48.0),
    (52.0, 66.0, 100.0),
    (92.0, 84.0, 74.0),
    (28.0, 28.0, 30.0),
    (140.0, 128.0, 108.0),
)
_SKINS = ((224.0, 182.0, 152.0), (190.0, 140.0, 108.0), (126.0, 86.0, 62.0))
_HAIRS = ((46.0, 34.0, 28.0), (120.0, 88.0, 52.0), (26.0, 24.0, 24.0), (164.0, 160.0, 156.0))
_HELMETS = (
    (220.0, 60.0, 50.0),
    (236.0, 236.0, 232.0),
    (40.0, 90.0, 190.0),
    (30.0, 30.0, 34.0),
    (220.0, 210.0, 60.0),
)
_JACKETS = (
    (214.0, 230.0, 60.0),
    (240.0, 120.0, 40.0),
    (170.0, 40.0, 60.0),
    (50.0, 110.0, 180.0),
    (60.0, 62.0, 70.0),
)
_SIGN_PAINTS = (
    (196.0, 34.0, 40.0),
    (30.0, 84.0, 168.0),
    (196.0, 34.0, 40.0),
    (24.0, 106.0, 74.0),
    (226.0, 180.0, 40.0),
)


@lru_cache(maxsize=8192)
def unit(*key: int) -> float:
    """A number in [0, 1) that depends on the key alone (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for part in key:
        state = (state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return (state >> 11) / float(1 << 53)


class StreetLayout:
    """The things of one street.

    Args:
        seed: The street's seed.
        rng: Chooses the street's measures and textures.
        sun: The side the sun is on, -1 or 1.
        sunny: How much the sun shines, 0 to 1.
    """

    def __init__(self, seed: int, rng: np.random.Generator, sun: float, sunny: float) -> None:
        self._seed, self._sun, self._sunny = seed, sun, sunny
        self._chunks: dict[int, tuple[list[Item], list[Item]]] = {}
        self.road = float(rng.uniform(4.7, 5.5))
        self.pavement = self.road + float(rng.uniform(3.2, 4.6))
        self.side = float(rng.choice([-1.0, 1.0]))  # which side one drives on
        self._lead = float(rng.uniform(13, 26))
        self._greenery = float(rng.uniform(0.3, 0.75))
        self._phase = float(rng.uniform(0.0, 6.28))
        sizes = [(float(rng.uniform(7, 15)), float(rng.uniform(6.2, 12.5))) for _ in range(6)]
        self._houses: list[tuple[float, float, textures.Levels, Colour]] = []
        for length, tall in sizes:
            texture = textures.levels(textures.facade(rng, length, tall))
            self._houses.append((length, tall, texture, texture[-1].mean(axis=(0, 1)).tolist()))
        self._fences = [textures.levels(textures.fence(rng, kind), 3) for kind in range(3)]
        self._trees = [textures.levels(textures.tree(rng, trunk), 4) for trunk in (0.3, 0.36, 0.26)]
        self._bushes = [textures.levels(textures.tree(rng, 0.0), 4) for _ in range(2)]

    def items(self, time_s: float, camera: float) -> list[Item]:
        """Everything to be seen from `camera` metres along the street, farthest first."""
        items = self._movers(time_s, camera)
        for index in range(math.floor((camera - 15) / _CHUNK), math.ceil((camera + _SIGHT) / _CHUNK)):
            for group, sight in zip(self._chunk(index), (_SIGHT, _DETAIL_SIGHT), strict=True):
                items.extend(item for item in group if 0.5 < item.far - camera < sight)
        items.sort(key=lambda item: -item.far)
        return items

    def _chunk(self, index: int) -> tuple[list[Item], list[Item]]:
        if index not in self._chunks:
            if len(self._chunks) >= _CHUNKS_KEPT:
                del self._chunks[next(iter(self._chunks))]
            self._chunks[index] = self._build_chunk(index)
        return self._chunks[index]

    def _build_chunk(self, index: int) -> tuple[list[Item], list[Item]]:
        """The houses, and all smaller things, of the street from `index * _CHUNK` metres on."""
        rng = np.random.default_rng([self._seed, 2, index + (1 << 40)])
        houses: list[Item] = []
        items: list[Item] = []
        for side in (-1.0, 1.0):
            self._add_houses(houses, items, rng, side, index * _CHUNK)
            self._add_furniture(items, rng, side, index * _CHUNK)
        return houses, items

    def _add_houses(
        self, houses: list[Item], items: list[Item], rng: np.random.Generator, side: float, start: float
    ) -> None:
        z, end = start, start + _CHUNK
        while z < end - 4:
            if rng.random() < 0.16:
                gap = min(float(rng.uniform(6, 11)), end - z)
                for _ in range(3):
                    self._add_tree(
                        items,
                        rng,
                        side * (self.pavement + rng.uniform(2.5, 7)),
                        z + gap * rng.uniform(0.2, 0.9),
                        1.2,
                    )
                z += gap
                continue
            length, tall, texture, wall = self._houses[int(rng.integers(len(self._houses)))]
            length = min(length, end - z)
            set_back = 0.25 if rng.random() > self._greenery else float(rng.uniform(1.6, 3.0))
            x = side * (self.pavement + set_back)
            houses.append(Item(z + length + 5, partial(self._draw_house, x, z, length, tall, texture, wall)))
            if set_back > 1:
                for offset in np.arange(0.0, length - 1.0, 4.0):
                    kind = int(rng.integers(3))
                    if rng.random() < 0.75:
                        items.append(
                            self._fence(
                                side * (self.pavement + 0.1),
                                z + offset,
                                min(4.0, length - offset),
                                kind,
                                1.25,
                            )
                        )
                    if rng.random() < 0.7:
                        items.append(self._bush(rng, side * (self.pavement + 0.9), z + offset + 2.0))
            z += length

    def _bush(self, rng: np.random.Generator, x: float, z: float) -> Item:
        texture, tall = self._bushes[int(rng.integers(2))], float(rng.uniform(1.5, 2.6))
        return Item(z, lambda p: p.cutout(texture, x, z, (tall * 1.2, tall), StreetClass.TREE, 0.95))

    def _fence(self, x: float, z: float, length: float, kind: int, tall: float) -> Item:
        texture, far = self._fences[kind], z + length
        light = 1.0 if self._sun * x < 0 else 0.86
        corners = ((x, tall, z), (x, tall, far), (x, 0.0, far), (x, 0.0, z))
        return Item(far, lambda p: p.surface(texture, corners, z, light))

    def _add_tree(self, items: list[Item], rng: np.random.Generator, x: float, z: float, grow: float) -> None:
        texture, tall = self._trees[int(rng.integers(len(self._trees)))], float(rng.uniform(5.5, 9.0)) * grow
        wide = tall * float(rng.uniform(0.8, 1.05))
        items.append(Item(z, lambda p: p.cutout(texture, x, z, (wide, tall), StreetClass.TREE, 1.0)))

    def _add_furniture(self, items: list[Item], rng: np.random.Generator, side: float, start: float) -> None:
        kerb = side * (self.road + 0.55)
        for slot in range(2):
            z = start + slot * 18.0 + float(rng.uniform(0, 3))
            grey = tuple(float(v) for v in rng.uniform(70, 165) + rng.uniform(-8, 8, 3))
            tall, thick = float(rng.uniform(6.0, 8.0)), float(rng.uniform(0.17, 0.26))
            items.append(Item(z, partial(things.lamp_post, x=kerb, z=z, tall=tall, thick=thick, colour=grey)))
            sign_z, kind, size = (
                z + float(rng.uniform(4, 9)),
                int(rng.integers(4)),
                float(rng.uniform(0.85, 1.25)),
            )
            paint = _SIGN_PAINTS[int(rng.integers(len(_SIGN_PAINTS)))]
            items.append(
                Item(sign_z, partial(things.sign, x=kerb, z=sign_z, kind=kind, size=size, colour=paint))
            )
            if rng.random() < self._greenery * 0.8:
                self._add_tree(items, rng, side * (self.road + 1.0), z + float(rng.uniform(10, 15)), 0.9)
            if rng.random() < 0.35:
                for panel in range(2):
                    items.append(self._fence(side * (self.road + 0.3), z + 5 + 4 * panel, 4.0, 1, 1.1))
        for slot in range(5):
            z = start + 7.2 * slot + float(rng.uniform(0, 1.2))
            if rng.random() < 0.26:
                colour = _CAR_PAINTS[int(rng.integers(len(_CAR_PAINTS)))]
                body, forward = int(rng.choice([0, 0, 1, 1, 2])), self.side * side
                items.append(self._car(side * (self.road - 1.05), z, forward, body, colour))

    def _car(self, x: float, z: float, forward: float, body: int, colour: tuple[float, ...]) -> Item:
        draw = partial(things.car, x=x, z=z, forward=forward, body=body, colour=colour, sun=self._sun)
        return Item(z, draw, shade=(x, z))

    def _draw_house(
        self,
        x: float,
        z: float,
        length: float,
        tall: float,
        texture: textures.Levels,
        wall: Colour,
        p: Painter,
    ) -> None:
        far, out = z + length, math.copysign(8.0, x)
        light = 1.0 + 0.12 * self._sunny if self._sun * x < 0 else 1.0 - 0.3 * self._sunny
        cls, inward = int(StreetClass.BUILDING), math.copysign(0.3, x)
        slate = p.shade((88.0, 74.0, 70.0), cls, z + length / 2, light)
        ridge, eaves = (x + out / 2, tall + 2.2), (x - inward, tall - 0.05)
        p.polygon(
            [p.project(*ridge, z), p.project(*ridge, far), p.project(*eaves, far), p.project(*eaves, z)],
            slate,
        )
        if z > p.z + 1.0:
            gable = ((x, 0.0), (x, tall), ridge, (x + out, tall), (x + out, 0.0))
            p.polygon([p.project(*corner, z) for corner in gable], p.shade(wall, cls, z, 0.82))
        p.surface(
            texture, ((x, tall, z), (x, tall, far), (x, 0.0, far), (x, 0.0, z)), z + length * 0.3, light
        )

    def _lane(
        self, salt: int, camera: float, time_s: float, speed: float, spacing: float
    ) -> list[tuple[int, float]]:
        """Number and place of everybody on an endless lane who can be seen."""
        shift = speed * time_s
        first = math.floor((camera - 5 - shift) / spacing) - 1
        last = math.ceil((camera + 55 - shift) / spacing)
        return [(i, (i + 0.7 * unit(self._seed, salt, i)) * spacing + shift) for i in range(first, last + 1)]

    def _pick(self, choices: tuple[tuple[float, ...], ...], *key: int) -> tuple[float, ...]:
        return choices[int(unit(self._seed, *key) * len(choices))]

    def _movers(self, time_s: float, camera: float) -> list[Item]:
        items: list[Item] = []
        lead = camera + self._lead + 3.0 * math.sin(0.31 * time_s + self._phase)
        lane = self.side * 1.55
        ahead = [(0, lead), (1, lead + 16 + 4 * math.sin(0.2 * time_s)), (2, lead + 38)]
        for i, z in ahead:
            body = int(unit(self._seed, 11, i) * 3)
            items.append(self._car(lane, z, 1.0, body, self._pick(_CAR_PAINTS, 12, i)))
        for i, z in self._lane(13, camera, time_s, -9.0, 34.0):
            body = int(unit(self._seed, 14, i) * 3)
            items.append(self._car(-lane, z, -1.0, body, self._pick(_CAR_PAINTS, 15, i)))
        for salt, side, speed, spacing in (
            (20, -1.0, 1.3, 9.0),
            (30, 1.0, 1.2, 9.0),
            (40, -1.0, -1.3, 13.0),
            (50, 1.0, -1.4, 13.0),
        ):
            for i, z in self._lane(salt, camera, time_s, speed, spacing):
                clothes = tuple(
                    self._pick(c, salt + 1 + n, i)
                    for n, c in enumerate((_CLOTHES, _TROUSERS, _SKINS, _HAIRS))
                )
                x = side * (
                    self.road + 0.9 + (self.pavement - self.road - 1.4) * unit(self._seed, salt + 6, i)
                )
                phase = 6.28 * unit(self._seed, salt + 7, i) + time_s * 5.5
                tall = 1.55 + 0.35 * unit(self._seed, salt + 8, i)
                items.append(
                    Item(z, partial(things.pedestrian, x=x, z=z, tall=tall, phase=phase, clothes=clothes))
                )
        for salt, forward, speed, spacing in ((60, 1.0, 4.6, 15.0), (70, -1.0, -4.2, 19.0)):
            for i, z in self._lane(salt, camera, time_s, speed, spacing):
                clothes = tuple(
                    self._pick(c, salt + 1 + n, i)
                    for n, c in enumerate((_JACKETS, _TROUSERS, _SKINS, _HELMETS))
                )
                x = forward * self.side * (self.road - 2.2)
                yaw = 1.1 * (unit(self._seed, salt + 6, i) - 0.5) + 0.12 * math.sin(time_s + i)
                ride = partial(
                    things.bicyclist, forward=forward, yaw=yaw, phase=time_s * 6 + i, clothes=clothes
                )
                items.append(Item(z, partial(ride, x=x, z=z)))
        return items
