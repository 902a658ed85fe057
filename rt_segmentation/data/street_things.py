"""What stands, drives, walks and rides in the synthetic street, painted part by part, farthest part first.

Places are metres in the world: `x` across the road, `z` along it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rt_segmentation.data.street_painter import NEAR, Colour, Painter, Point
from rt_segmentation.data.street_textures import StreetClass

# Side view of a car: (metres from its middle towards the front, height in metres, half width in metres).
_PROFILES = (
    ((-2.05, 0.28, 0.86), (-2.12, 0.62, 0.88), (-2.0, 0.98, 0.86), (-1.62, 1.42, 0.64),
     (0.1, 1.47, 0.64), (0.85, 1.0, 0.84),
     (1.85, 0.84, 0.84), (2.1, 0.6, 0.86), (2.08, 0.28, 0.84)),
    ((-2.3, 0.3, 0.86), (-2.34, 0.66, 0.88), (-2.2, 1.0, 0.86), (-1.35, 1.08, 0.84),
     (-0.85, 1.42, 0.62), (0.3, 1.45, 0.62),
     (1.0, 1.0, 0.84), (2.05, 0.84, 0.84), (2.25, 0.6, 0.86), (2.2, 0.3, 0.84)),
    ((-2.5, 0.35, 0.95), (-2.55, 0.8, 0.98), (-2.52, 1.15, 0.97), (-2.4, 2.1, 0.86),
     (1.2, 2.15, 0.86), (1.95, 1.25, 0.95),
     (2.45, 1.05, 0.95), (2.6, 0.7, 0.96), (2.55, 0.35, 0.95)),
)  # fmt: skip
_REAR_GLASS = (2, 3, 2)  # profile segment of the rear window, by body
_FRONT_GLASS = (4, 5, 4)
_CIRCLE = [(math.cos(i * math.pi / 8), math.sin(i * math.pi / 8)) for i in range(16)]


def car(p: Painter, x: float, z: float, forward: float, body: int, colour: Colour, sun: float) -> None:
    """A car with its middle at (x, z), looking along the road (forward 1) or back (-1); `sun` is its side."""
    profile = _PROFILES[body]
    cls = int(StreetClass.CAR)
    if z + 2.6 - p.z < NEAR or p.unseen(x, z + 2.6, 1.2):
        return
    ring = [[(x + s * w, h, z + forward * a) for a, h, w in profile] for s in (-1.0, 1.0)]
    left, right = ([p.project(*corner) for corner in points] for points in ring)
    small = p.scale(z) * 1.5 < 18

    def tone(c: Colour, light: float) -> tuple[float, float, float, int]:
        return p.shade(c, cls, z, light)

    glass = (58.0, 66.0, 76.0)
    black = (26.0, 26.0, 28.0)
    under = [(x - 0.8, 0.12), (x + 0.8, 0.12), (x + 0.8, 0.45), (x - 0.8, 0.45)]
    for end in () if small else (2.0, -2.0) if forward > 0 else (-2.0, 2.0):
        p.polygon([p.project(a, h, z + forward * end) for a, h in under], tone(black, 1.0))
    for wheel_x in (-0.74, 0.74):
        for end in (-1.4 * forward,) if small else (1.35, -1.4):
            wheel_z = z + forward * end
            if wheel_z - p.z < 1.5:
                continue
            p.box(x + wheel_x, 0.02, wheel_z - 0.1, 0.22, 0.45, tone(black, 0.9))
    segments = sorted(range(len(profile) - 1), key=lambda i: -(ring[0][i][2] + ring[0][i + 1][2]))
    for i in segments:
        rise, run = abs(profile[i + 1][1] - profile[i][1]), abs(profile[i + 1][0] - profile[i][0])
        light = 0.72 if rise > run else 1.1
        fill = tone(colour, light)
        if i in (_REAR_GLASS[body], _FRONT_GLASS[body]):
            fill = tone(glass, 1.15 if run > rise else 0.9)
        p.polygon((left[i], left[i + 1], right[i + 1], right[i]), fill)
    visible = right if p.project(x, 0, z)[0] < p.width / 2 else left
    side = 1.0 if visible is right else -1.0
    p.polygon(visible, tone(colour, 0.9 if sun * side > 0 else 0.74), convex=False)
    face = -2.14 if forward > 0 else 2.14
    if small:
        return
    rear = forward > 0

    def on_side(a: float, h: float, w: float) -> Point:
        return p.project(x + side * w, h, z + forward * a)

    belt, roof, front, back = (
        profile[2][1] + 0.04,
        profile[4][1] - 0.1,
        _FRONT_GLASS[body],
        _REAR_GLASS[body],
    )
    a0, a1 = profile[back + 1][0] - 0.05, profile[front][0] + 0.05
    pillars = (a0 - 0.2, (a0 + a1) / 2 - 0.04, (a0 + a1) / 2 + 0.04, a1 + 0.55)
    for low0, low1, top0, top1 in (
        (pillars[0], pillars[1], a0 + 0.05, pillars[1]),
        (pillars[2], pillars[3], pillars[2], a1 - 0.1),
    ):
        window = (
            on_side(low0, belt, 0.85),
            on_side(low1, belt, 0.85),
            on_side(top1, roof, 0.68),
            on_side(top0, roof, 0.68),
        )
        p.polygon(window, tone(glass, 0.85))
    for end in (1.35, -1.4):
        for radius, metal, w in ((0.33, black, 0.875), (0.2, (150.0, 152.0, 156.0), 0.88)):
            rim = [on_side(end + radius * c, 0.33 + radius * s, w) for c, s in _CIRCLE]
            p.polygon(rim, tone(metal, 1.0))
    end_z = z + forward * face
    scale = p.scale(end_z)
    lamp = (196.0, 32.0, 28.0) if rear else (246.0, 244.0, 226.0)
    if end_z - p.z > 1.0:
        high = 0.78 if rear else 0.62
        for offset in (-0.68, 0.68):
            p.box(x + offset, high, end_z, 0.28, 0.2, tone(lamp, 1.0))
        p.box(x, 0.52, end_z, 0.5, 0.13, tone((226.0, 206.0, 90.0) if rear else (236.0, 236.0, 232.0), 1.0))
        p.box(x, 0.3, end_z, 1.66, 0.1 + 0.5 / scale, tone(black, 1.6))
        if not rear:
            p.box(x, 0.68, end_z, 0.8, 0.12, tone(black, 1.2))


def pedestrian(p: Painter, x: float, z: float, tall: float, phase: float, clothes: Sequence[Colour]) -> None:
    """Someone walking, `phase` of the gait in radians; clothes: coat, trousers, skin, hair."""
    cls = int(StreetClass.PEDESTRIAN)
    if z - p.z < 1.0 or p.unseen(x, z, 0.6):
        return
    scale = p.scale(z) * tall / 1.75
    u, v = p.project(x, 0.0, z)
    coat, trousers, skin, hair = (p.shade(c, cls, z) for c in clothes)
    sleeve = p.shade(clothes[0], cls, z, 0.82)
    shoe = p.shade((34.0, 30.0, 28.0), cls, z)

    def at(dx: float, y: float) -> Point:
        return u + dx * scale, v - y * scale

    swing = math.sin(phase)
    if scale < 9:
        p.bar(at(0.0, 0.85), at(0.2 * swing, 0.1), 0.22 * scale, trousers)
        p.bar(at(0.0, 0.85), at(-0.2 * swing, 0.1), 0.22 * scale, trousers)
        p.bar(at(0.0, 1.32), at(0.0, 0.85), 0.5 * scale, coat)
        p.disc(at(0.0, 1.64), 0.13 * scale, skin)
        return
    for s in (-1.0, 1.0):
        foot = (s * 0.1 + 0.26 * swing * s, 0.06 + 0.08 * max(0.0, math.cos(phase) * s))
        knee = (s * 0.11 + 0.17 * swing * s, 0.48)
        p.bar(at(s * 0.09, 0.9), at(*knee), 0.19 * scale, trousers)
        p.bar(at(*knee), at(*foot), 0.15 * scale, trousers)
        p.bar(at(*foot), at(foot[0] + 0.05, foot[1]), 0.12 * scale, shoe)
        hand = (s * 0.3 - 0.16 * swing * s, 0.84)
        p.bar(at(s * 0.25, 1.36), at(*hand), 0.12 * scale, sleeve)
        p.disc(at(*hand), 0.06 * scale, skin)
    p.polygon((at(-0.25, 1.42), at(0.25, 1.42), at(0.22, 0.8), at(-0.22, 0.8)), coat)
    p.bar(at(-0.17, 1.4), at(0.17, 1.4), 0.16 * scale, coat)
    p.bar(at(0, 1.42), at(0, 1.55), 0.1 * scale, skin)
    p.disc(at(0, 1.66), 0.13 * scale, hair)
    p.disc(at(0.02, 1.62), 0.1 * scale, skin)


def bicyclist(
    p: Painter, x: float, z: float, forward: float, yaw: float, phase: float, clothes: Sequence[Colour]
) -> None:
    """Someone on a bicycle, riding away (forward 1) or back (-1); `phase` of the pedals in radians."""
    cls = int(StreetClass.BICYCLIST)
    if z - p.z < 1.6 or p.unseen(x, z, 1.2):
        return
    along, across = forward * math.cos(yaw), math.sin(yaw)
    scale = p.scale(z)
    jacket, trousers, skin, helmet = (p.shade(c, cls, z) for c in clothes)
    sleeve = p.shade(clothes[0], cls, z, 0.8)
    frame, tyre = p.shade(clothes[3], cls, z, 0.7), p.shade((24.0, 24.0, 26.0), cls, z)
    spokes = p.shade((112.0, 112.0, 114.0), cls, z)

    def at(a: float, y: float, b: float = 0.0) -> Point:
        return p.project(x + a * across + b * along, y, z + a * along - b * across)

    if scale < 9:
        for a in (-0.53, 0.53):
            p.bar(at(a, 0.1), at(a, 0.62), 0.14 * scale, tyre)
        p.bar(at(0.0, 0.3), at(-0.1, 1.0), 0.3 * scale, trousers)
        p.bar(at(-0.1, 1.0), at(0.15, 1.4), 0.46 * scale, jacket)
        p.disc(at(0.24, 1.68), 0.14 * scale, helmet)
        return

    def wheel(a: float) -> None:
        for radius, fill in ((0.36, tyre), (0.27, spokes)):
            p.polygon([at(a + radius * c, 0.36 + radius * s) for c, s in _CIRCLE], fill)
        p.bar(at(a, 0.02), at(a, 0.7), 0.06 * scale, tyre)

    def rider() -> None:
        for s in (-1.0, 1.0):
            pedal = (0.02 + 0.17 * math.cos(phase) * s, 0.33 + 0.17 * math.sin(phase) * s)
            knee = (0.22 + 0.1 * math.cos(phase) * s, 0.72 + 0.12 * math.sin(phase) * s)
            p.bar(at(-0.16, 1.0, 0.1 * s), at(*knee, 0.13 * s), 0.19 * scale, trousers)
            p.bar(at(*knee, 0.13 * s), at(*pedal, 0.12 * s), 0.14 * scale, trousers)
            p.bar(at(0.16, 1.42, 0.2 * s), at(0.46, 1.06, 0.25 * s), 0.12 * scale, sleeve)
        shoulders = (at(0.16, 1.5, -0.22), at(0.16, 1.5, 0.22), at(-0.2, 0.92, 0.2), at(-0.2, 0.92, -0.2))
        p.polygon(shoulders, jacket)
        p.bar(at(-0.18, 1.0), at(0.14, 1.42), 0.3 * scale, jacket)
        p.disc(at(0.24, 1.66), 0.13 * scale, skin)
        p.disc(at(0.22, 1.71), 0.125 * scale, helmet)

    wheel(0.53 * (1.0 if forward > 0 else -1.0))
    for start, end in (
        ((-0.53, 0.36), (0.0, 0.34)),
        ((0.0, 0.34), (0.4, 0.92)),
        ((-0.15, 0.9), (0.42, 0.88)),
        ((0.53, 0.36), (0.42, 1.02)),
    ):
        p.bar(at(*start), at(*end), 0.06 * scale, frame)
    p.bar(at(0.44, 1.05, -0.28), at(0.44, 1.05, 0.28), 0.05 * scale, tyre)
    if forward > 0:
        rider()
        wheel(-0.53)
    else:
        wheel(0.53)
        rider()


def lamp_post(p: Painter, x: float, z: float, tall: float, thick: float, colour: Colour) -> None:
    """A street lamp whose arm reaches over the road."""
    paint = p.shade(colour, int(StreetClass.POLE), z)
    dark = p.shade(colour, int(StreetClass.POLE), z, 0.8)
    reach = -math.copysign(1.5, x)
    scale = p.scale(z)
    p.box(x, 0.0, z, thick, tall, paint)
    p.box(x + thick * 0.25, 0.0, z, thick * 0.5, tall, dark)
    p.box(x, 0.0, z, thick * 1.7, 1.1, dark)
    p.bar(p.project(x, tall, z), p.project(x + reach, tall + 0.4, z), thick * 0.6 * scale, paint)
    p.bar(
        p.project(x + reach, tall + 0.38, z),
        p.project(x + reach * 1.4, tall + 0.4, z),
        0.22 * scale,
        dark,
    )


def sign(p: Painter, x: float, z: float, kind: int, size: float, colour: Colour) -> None:
    """A traffic sign (0 disc, 1 triangle, 2 board, 3 traffic light) on its post."""
    cls = int(StreetClass.SIGN_SYMBOL)
    post = p.shade((132.0, 134.0, 136.0), int(StreetClass.POLE), z)
    white, rim = p.shade((236.0, 236.0, 232.0), cls, z), p.shade(colour, cls, z)
    black = p.shade((30.0, 30.0, 32.0), cls, z)
    base = 2.3
    p.box(x, 0.0, z, 0.14, base + size * 0.5, post)
    u, v = p.project(x, base + size / 2, z)
    scale = p.scale(z) * size / 2
    if kind == 0:
        p.disc((u, v), scale, rim)
        p.disc((u, v), scale * 0.74, white)
        p.bar((u - scale * 0.3, v), (u + scale * 0.3, v), scale * 0.28, black)
    elif kind == 1:
        for part, fill in ((1.0, rim), (0.62, white)):
            p.polygon(
                [
                    (u, v - scale * 1.05 * part),
                    (u + scale * part, v + scale * 0.75 * part),
                    (u - scale * part, v + scale * 0.75 * part),
                ],
                fill,
            )
        p.bar((u, v - scale * 0.2), (u, v + scale * 0.25), scale * 0.16, black)
    elif kind == 2:
        w, h = scale * 1.45, scale * 0.85
        for inset, fill in ((0.0, white), (0.1 * scale, rim)):
            p.polygon(
                [
                    (u - w + inset, v - h + inset),
                    (u + w - inset, v - h + inset),
                    (u + w - inset, v + h - inset),
                    (u - w + inset, v + h - inset),
                ],
                fill,
            )
        for row, reach in ((-0.35, 0.7), (0.1, 0.5), (0.5, 0.8)):
            p.bar(
                (u - w * 0.7, v + row * h),
                (u - w * 0.7 + w * 1.4 * reach, v + row * h),
                scale * 0.16,
                white,
            )
    else:
        w, h = scale * 0.52, scale * 1.25
        p.polygon([(u - w, v - h), (u + w, v - h), (u + w, v + h), (u - w, v + h)], black)
        lit = int(colour[0]) % 3
        for i, lamp in enumerate(((240.0, 60.0, 44.0), (246.0, 186.0, 50.0), (80.0, 230.0, 130.0))):
            fill = p.shade(lamp, cls, z, 1.0 if i == lit else 0.28)
            p.disc((u, v + (i - 1) * scale * 0.78), scale * 0.33, fill)
