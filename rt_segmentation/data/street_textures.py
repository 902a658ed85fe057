"""Textures of the synthetic street, painted once a scene: ground, facades, fences, trees, sky and skyline.

Every texture is uint8 RGB plus a fourth channel. For opaque textures the fourth channel is the class id, for
cut-outs (trees, skyline) it is a mask of 0 and 255.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

GROUND_HALF_WIDTH = 14.0  # metres either side of the middle of the road
GROUND_PERIOD = 12.0  # metres after which the ground repeats
GROUND_SCALE = 36  # pixels a metre

Image = npt.NDArray[Any]
Levels = list[Image]


class StreetClass(IntEnum):
    """The 11 classes of CamVid, by label id."""

    SKY = 0
    BUILDING = 1
    POLE = 2
    ROAD = 3
    PAVEMENT = 4
    TREE = 5
    SIGN_SYMBOL = 6
    FENCE = 7
    CAR = 8
    PEDESTRIAN = 9
    BICYCLIST = 10


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Image:
    """Noise in [-1, 1] whose blotches are about `cell` pixels wide: float32 (height, width)."""
    rows, columns = max(2, int(height / cell) + 1), max(2, int(width / cell) + 1)
    coarse = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def levels(image: Image, count: int = 4) -> Levels:
    """The image and its halvings, so that distant surfaces do not shimmer."""
    result = [image]
    for _ in range(count - 1):
        height, width = result[-1].shape[:2]
        if min(height, width) < 8:
            break
        result.append(cv2.resize(result[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return result


def _finish(colour: Image, fourth: int | Image) -> Image:
    result = np.empty((*colour.shape[:2], 4), np.uint8)
    result[..., :3] = np.clip(colour, 0, 255)
    result[..., 3] = fourth
    return result


def ground(rng: np.random.Generator, road_half: float, pavement_half: float) -> tuple[Image, Image]:
    """The ground from above.

    Args:
        rng: Where its accidents come from.
        road_half: Half the road's width in metres.
        pavement_half: From the middle of the road to the pavement's outer edge, in metres.

    Returns:
        Colour (length, width, 3) uint8, one period along the rows, and the class id of each column (width,).
    """
    height, width = int(GROUND_PERIOD * GROUND_SCALE), int(2 * GROUND_HALF_WIDTH * GROUND_SCALE)
    across = (np.arange(width) + 0.5) / GROUND_SCALE - GROUND_HALF_WIDTH
    side = np.abs(across)
    is_road, is_pavement = side < road_half, (side >= road_half) & (side < pavement_half)
    fine = rng.standard_normal((height, width), np.float32)
    blotches = smooth_noise(rng, height, width, 60)

    asphalt = rng.uniform(62, 108) + 7 * fine + 7 * blotches + 4 * smooth_noise(rng, height, width, 9)
    asphalt -= 7 * np.exp(-(((side % 2.9) - 0.8) ** 2) / 0.05)[None, :]  # tyre tracks
    colour = asphalt[..., None] * np.array([1.0, 1.0, rng.uniform(0.97, 1.06)], np.float32)
    for _ in range(int(rng.integers(2, 6))):  # patches of newer tarmac
        row, column = int(rng.integers(0, height - 90)), int(rng.uniform(width * 0.33, width * 0.6))
        colour[row : row + int(rng.integers(30, 90)), column : column + int(rng.integers(20, 70))] *= (
            rng.uniform(0.78, 0.92)
        )

    paint = rng.uniform(185, 225) + 9 * fine
    along = (np.arange(height) / GROUND_SCALE)[:, None]
    marks = (side < 0.08)[None, :] & ((along % 6.0) < rng.uniform(2.2, 3.6))
    if rng.random() < 0.5:
        marks = marks | (np.abs(side - (road_half - 2.3)) < 0.06)[None, :] & ((along % 3.0) < 1.2)
    colour[marks] = paint[marks][:, None]
    if rng.random() < 0.5:
        kerb_lines = (np.abs(side - (road_half - 0.25)) < 0.05) | (np.abs(side - (road_half - 0.45)) < 0.05)
        colour[:, kerb_lines] = np.array([196, 168, 62], np.float32) + 8 * fine[:, kerb_lines, None]

    slab = float(rng.choice([0.6, 0.75, 1.0]))
    warm = np.array(
        rng.choice([[158, 152, 145], [140, 138, 138], [150, 132, 122], [172, 165, 152]]), np.float32
    )
    slabs = warm + (5 * fine + 8 * blotches)[:, is_pavement, None]
    tone = rng.normal(0, 7, (int(GROUND_PERIOD / slab) + 1, int(2 * GROUND_HALF_WIDTH / slab) + 2)).astype(
        np.float32
    )
    tile = ((across[is_pavement] + GROUND_HALF_WIDTH) / slab).astype(int)
    slabs += tone[(along[:, 0] / slab).astype(int)][:, tile][..., None]
    joints = ((along % slab) < 0.04) | (((side[is_pavement] - road_half) % slab) < 0.04)[None, :]
    slabs[joints] *= 0.66
    colour[:, is_pavement] = slabs
    kerb = is_pavement & (side < road_half + 0.22)
    colour[:, kerb] = 182 + 6 * fine[:, kerb, None] - 45 * ((along % 0.9) < 0.05)[..., None]
    colour[:, kerb & (side < road_half + 0.06)] *= 0.55
    verge = side >= pavement_half
    grass = np.array([76, 104, 48], np.float32) * np.float32(rng.uniform(0.8, 1.1))
    colour[:, verge] = grass + (14 * fine + 12 * blotches)[:, verge, None]

    labels = np.full(width, StreetClass.TREE, np.uint8)
    labels[is_road] = StreetClass.ROAD
    labels[is_pavement] = StreetClass.PAVEMENT
    return np.clip(colour, 0, 255).astype(np.uint8), labels


_WALLS = (
    [148, 82, 62], [166, 104, 74], [118, 70, 56], [196, 178, 142], [214, 208, 196], [186, 158, 120],
    [152, 148, 142], [222, 214, 178],
    [130, 122, 108], [176, 130, 108],
)  # fmt: skip


def facade(rng: np.random.Generator, length: float, height: float) -> Image:
    """The street side of a house of `length` x `height` metres, 26 pixels a metre, class Building."""
    scale = 26
    columns, rows = int(length * scale), int(height * scale)
    wall = np.array(_WALLS[int(rng.integers(len(_WALLS)))], np.float32) * rng.uniform(0.85, 1.1)
    image = (
        wall + 4 * rng.normal(0, 1, (rows, columns, 1)) + 7 * smooth_noise(rng, rows, columns, 40)[..., None]
    )
    if rng.random() < 0.6:  # bricks
        course = np.arange(rows) // 4
        offset = (np.arange(columns)[None, :] + 5 * (course % 2)[:, None]) // 10
        tone = rng.normal(0, 11, (rows // 4 + 1, columns // 10 + 2))
        image += tone[course[:, None], offset][..., None]
        image[(np.arange(rows) % 4) == 3] *= 0.9
    image = np.ascontiguousarray(image, np.float32)

    trim = [float(v) for v in np.clip(wall * rng.uniform(0.7, 1.5) + rng.uniform(-10, 30), 40, 238)]
    frame = [235.0, 233.0, 228.0] if rng.random() < 0.7 else [70.0, 62.0, 55.0]
    storey = rng.uniform(2.7, 3.3)
    ground_floor = rng.uniform(3.0, 3.7)
    bay = rng.uniform(1.9, 3.0)
    window_width, window_height = bay * rng.uniform(0.42, 0.62), storey * rng.uniform(0.48, 0.62)
    bars = int(rng.integers(1, 3))

    def box(x: float, y: float, w: float, h: float, colour: list[float]) -> None:
        top_left = round(x * scale), round((height - y - h) * scale)
        cv2.rectangle(image, top_left, (round((x + w) * scale), round((height - y) * scale)), colour, -1)

    def window(x: float, y: float, w: float, h: float) -> None:
        box(x - 0.1, y - 0.14, w + 0.2, h + 0.2, trim)
        box(x, y, w, h, frame)
        glass = np.array([52.0, 62.0, 74.0]) * rng.uniform(0.6, 1.9)
        pane_width, pane_height = w / bars, h / 2
        for i in range(bars):
            for j in range(2):
                shade = glass * (1.0 + 0.28 * j) + rng.uniform(-6, 14)
                box(
                    x + i * pane_width + 0.05,
                    y + j * pane_height + 0.05,
                    pane_width - 0.1,
                    pane_height - 0.1,
                    list(shade),
                )

    count = max(1, int(length / bay))
    start = (length - count * bay) / 2 + (bay - window_width) / 2
    floor = ground_floor
    while floor + storey * 0.9 < height:
        box(0, floor - 0.08, length, 0.14, trim)
        for i in range(count):
            window(start + i * bay, floor + 0.75, window_width, window_height)
        floor += storey
    if rng.random() < 0.45:  # a shop: fascia, wide panes
        board = [float(v) for v in rng.uniform(20, 210, 3)]
        box(0.2, 0.0, length - 0.4, ground_floor - 0.2, [48.0, 44.0, 42.0])
        pane = (length - 0.6) / max(2, int(length / 2.6))
        for i in range(max(2, int(length / 2.6))):
            box(
                0.35 + i * pane,
                0.5,
                pane - 0.14,
                2.0,
                list(np.array([70.0, 76.0, 80.0]) * rng.uniform(0.6, 1.9)),
            )
            box(
                0.5 + i * pane,
                0.6,
                pane * 0.5,
                rng.uniform(0.4, 1.2),
                [float(v) for v in rng.uniform(60, 220, 3)],
            )
        box(0.2, ground_floor - 0.85, length - 0.4, 0.65, board)
        for i in range(int(length * 1.2)):  # lettering
            if rng.random() < 0.6:
                box(1.0 + i * 0.7, ground_floor - 0.7, 0.32, 0.34, [235.0, 232.0, 220.0])
    else:
        for i in range(count):
            if rng.random() < 0.35:
                box(start + i * bay - 0.12, 0, 1.24, 2.4, trim)
                box(start + i * bay, 0, 1.0, 2.2, [float(v) for v in rng.uniform(25, 150, 3)])
            else:
                window(start + i * bay, 0.85, window_width, window_height)
    box(0, height - 0.35, length, 0.35, trim)
    image[:, :3] *= 0.6  # the joint between two houses
    image[-12:] *= 0.8
    return _finish(image, StreetClass.BUILDING)


def fence(rng: np.random.Generator, kind: int) -> Image:
    """A 4 m panel of fence, 40 pixels a metre: 0 wooden slats, 1 metal bars, 2 white pickets."""
    rows, columns = 52, 160
    fine = rng.normal(0, 1, (rows, columns, 1))
    x, y = np.arange(columns), np.arange(rows)
    if kind == 0:
        wood = np.array([128, 92, 58], np.float32) * rng.uniform(0.8, 1.35)
        tone = np.repeat(rng.normal(0, 12, 17), 10)[:columns]
        image = wood + tone[None, :, None] + 6 * fine
        image[:, (x % 10) < 2] *= 0.45
        image[[8, 9, 10, 40, 41, 42]] *= 0.75
    elif kind == 1:
        metal = np.array(
            rng.choice([[150, 156, 160], [56, 92, 66], [186, 188, 186], [58, 62, 72]]), np.float32
        )
        image = metal * 0.42 + 4 * fine + np.zeros((rows, columns, 3))
        image[:, (x % 7) < 3] = metal + 5 * fine[:, (x % 7) < 3]
        image[y < 6] = metal * 1.12
        image[(y > 42) & (y < 47)] = metal
    else:
        white = np.array([222, 218, 208], np.float32) * rng.uniform(0.85, 1.08)
        image = np.array([44, 56, 36], np.float32) + 9 * fine
        image[:, (x % 13) < 8] = white + 4 * fine[:, (x % 13) < 8]
        image[(y > 9) & (y < 15)] = white * 0.9
        image[(y > 36) & (y < 42)] = white * 0.9
    return _finish(image, StreetClass.FENCE)


def _bleed(colour: Image, mask: Image) -> Image:
    """Carry the colour past the mask's edge, so that scaling mixes no background into it."""
    weight = cv2.GaussianBlur(mask.astype(np.float32) / 255.0, (0, 0), 4.0)[..., None]
    spread = cv2.GaussianBlur(colour * (mask[..., None] > 0), (0, 0), 4.0) / np.maximum(weight, 1e-3)
    return np.where(mask[..., None] > 0, colour, spread)


def tree(rng: np.random.Generator, trunk: float) -> Image:
    """A cut-out tree, 256 x 256; `trunk` is the part of its height below the crown, 0 for a bush."""
    size = 256
    mask = np.zeros((size, size), np.uint8)
    colour = np.zeros((size, size, 3), np.float32)
    leaf = np.array(
        rng.choice([[70, 98, 42], [92, 112, 48], [52, 82, 44], [122, 104, 46], [64, 88, 58]]), np.float32
    )
    bark = [float(v) for v in np.array([92, 72, 54]) * rng.uniform(0.75, 1.15)]
    if trunk > 0:
        foot, fork = (size // 2, size), (size // 2 + int(rng.integers(-8, 9)), int(size * (1 - trunk)))
        stem = np.array(
            [
                [foot[0] - 9, size],
                [foot[0] + 9, size],
                [fork[0] + 5, fork[1] - 40],
                [fork[0] - 5, fork[1] - 40],
            ]
        )
        cv2.fillConvexPoly(mask, stem, 255)
        cv2.fillConvexPoly(colour, stem, bark)
        for _ in range(6):
            tip = (int(fork[0] + rng.uniform(-80, 80)), int(fork[1] - rng.uniform(40, 110)))
            cv2.line(mask, fork, tip, 255, 5)
            cv2.line(colour, fork, tip, bark, 5)
    crown_bottom = size * (1 - trunk * 0.85)
    radius_y, centre_y = crown_bottom * 0.42, crown_bottom * 0.52
    clumps = 170
    angle, reach = rng.uniform(0, 2 * np.pi, clumps), np.sqrt(rng.uniform(0, 1, clumps))
    order = np.argsort(-reach)
    for i in order:
        cx, cy = (
            size / 2 + 100 * reach[i] * np.cos(angle[i]),
            centre_y + radius_y * reach[i] * np.sin(angle[i]),
        )
        light = 0.78 + 0.34 * (centre_y - cy) / radius_y + 0.22 * rng.normal()
        centre, radius = (int(cx), int(cy)), int(rng.uniform(5, 21))
        cv2.circle(mask, centre, radius, 255, -1)
        cv2.circle(colour, centre, radius, [float(v) for v in leaf * max(0.35, light)], -1)
    if trunk == 0:
        cv2.rectangle(mask, (40, 190), (216, size), 255, -1)
        colour[190:] = np.where(colour[190:] > 0, colour[190:], leaf * 0.55)
    speckle = rng.normal(0, 1, (size, size, 1)).astype(np.float32)
    colour *= 1.0 + 0.22 * speckle + 0.2 * smooth_noise(rng, size, size, 12)[..., None]
    holes = smooth_noise(rng, size, size, 7) + 0.5 * smooth_noise(rng, size, size, 20) > 1.0
    mask[: int(crown_bottom)][holes[: int(crown_bottom)]] = 0
    return _finish(_bleed(np.maximum(colour, 8), mask), mask)


def sky(rng: np.random.Generator, height: int, width: int, cloudiness: float, warmth: float) -> Image:
    """Sky (height, width, 4): `cloudiness` 0 clear to 1 overcast, `warmth` 0 day to 1 dusk."""
    rows = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    zenith = (
        np.array([96, 146, 206], np.float32) * (1 - warmth) + np.array([92, 98, 138], np.float32) * warmth
    )
    low = (
        np.array([212, 224, 234], np.float32) * (1 - warmth) + np.array([240, 196, 150], np.float32) * warmth
    )
    clear = zenith + (low - zenith) * rows**0.8
    cell = height / 3
    noise = sum(smooth_noise(rng, height, width, cell / 2**k + 2) / 2**k for k in range(4))
    cover = np.clip((np.asarray(noise) + 2.2 * cloudiness - 0.9) * 1.3, 0, 1)[..., None] * (
        0.35 + 0.65 * cloudiness
    )
    cloud = (226 + 20 * np.asarray(noise)[..., None]) * np.array(
        [1.0, 1.0 - 0.06 * warmth, 1.0 - 0.14 * warmth]
    )
    return _finish(clear + (cloud - clear) * cover, StreetClass.SKY)


def skyline(rng: np.random.Generator, height: int, width: int) -> tuple[Image, Image]:
    """What closes the street far away: two cut-outs (height, width, 4), roofs and the trees before them."""
    roofs = np.zeros((height, width), np.uint8)
    tint = np.full((height, width, 3), 150.0, np.float32)
    x = 0
    while x < width:
        step = int(rng.uniform(0.5, 1.6) * height) + 2
        top = int(rng.uniform(0.05, 0.75) * height)
        cv2.rectangle(roofs, (x, top), (x + step, height), 255, -1)
        cv2.rectangle(
            tint,
            (x, 0),
            (x + step, height),
            [float(v) for v in rng.uniform(110, 165) + rng.uniform(-14, 14, 3)],
            -1,
        )
        x += step
    edge = height * (
        0.6 + 0.35 * smooth_noise(rng, 1, width, height * 0.8)[0] + 0.1 * smooth_noise(rng, 1, width, 4)[0]
    )
    trees = np.where(np.arange(height)[:, None] > edge[None, :], 255, 0).astype(np.uint8)
    green = np.array([92, 112, 82], np.float32) * (1 + 0.2 * smooth_noise(rng, height, width, 4)[..., None])
    return _finish(tint, roofs), _finish(green, trees)
