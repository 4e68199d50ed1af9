# SPDX-License-Identifier: Apache-2.0
"""Procedural materials: plaster, brick, wood, tiles, cloth. Each has many corners from centimetres to metres."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from st3r_ros.sim.scene import Material

DENSITY = 200  # texels per metre

Color = tuple[int, int, int]


def pixels(width: float, height: float) -> tuple[int, int]:
    """Rows and columns of the texture of a surface of a size in metres."""
    return max(8, round(height * DENSITY)), max(8, round(width * DENSITY))


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: Sequence[float | tuple[float, float]]) -> np.ndarray:
    """Smooth noise (h, w) float32 of unit strength, the sum of layers; cells: size of each, pixels, or (vertical, horizontal)."""
    h, w = shape
    total = np.zeros(shape, dtype=np.float32)
    for cell in cells:
        cy, cx = cell if isinstance(cell, tuple) else (cell, cell)
        grid = rng.standard_normal((int(h / cy) + 3, int(w / cx) + 3), dtype=np.float32)
        large = cv2.resize(grid, (round(grid.shape[1] * cx), round(grid.shape[0] * cy)), interpolation=cv2.INTER_CUBIC)
        y, x = rng.integers(0, max(1, large.shape[0] - h)), rng.integers(0, max(1, large.shape[1] - w))
        total += large[y : y + h, x : x + w]
    return total / len(cells) ** 0.5


def tinted(color: Color | np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """An image (h, w, 3) uint8 of a colour, or of one colour per pixel, plus grey levels (h, w)."""
    return np.clip(np.asarray(color, dtype=np.float32) + brightness[..., None], 0, 255).astype(np.uint8)


def random_color(rng: np.random.Generator, saturation: tuple[int, int] = (60, 190), value: tuple[int, int] = (70, 220)) -> Color:
    """A colour of any hue; saturation and value between 0 and 255."""
    hsv = np.array([[[rng.integers(180), rng.integers(*saturation), rng.integers(*value)]]], dtype=np.uint8)
    r, g, b = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return r, g, b


def plaster(rng: np.random.Generator, color: Color | None = None, strength: float = 11.0) -> Material:
    """Rough plaster with stains, pits and specks."""
    base = color or random_color(rng, (10, 60), (170, 225))

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        shape = pixels(width, height)
        specks = np.maximum(noise(rng, shape, [5]) - 1.1, 0.0) * (3.0 * strength) * np.sign(noise(rng, shape, [40]))
        return tinted(base, strength * (0.7 * noise(rng, shape, [150, 60]) + 0.8 * noise(rng, shape, [24, 9, 4])) + specks)

    return paint


def wallpaper(rng: np.random.Generator) -> Material:
    """Paper with hand-printed flowers and stars: no two alike, no strict grid."""
    base, inks = random_color(rng, (15, 80), (150, 220)), [random_color(rng, (60, 180), (60, 200)) for _ in range(3)]

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        h, w = pixels(width, height)
        image = tinted(base, 5.0 * noise(rng, (h, w), [70, 12, 4]))
        pitch = 30
        for y in range(0, h + pitch, pitch):
            for x in range(0, w + pitch, pitch):
                center = np.array([x, y]) + rng.uniform(-9, 9, 2)
                points, radius, turn = int(rng.integers(3, 7)), rng.uniform(5, 14), rng.uniform(0, 6.3)
                angle = turn + np.arange(2 * points) * np.pi / points
                reach = radius * np.where(np.arange(2 * points) % 2, rng.uniform(0.35, 0.8), 1.0)
                star = center + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
                _fill(image, star, inks[int(rng.integers(3))])
        return image

    return paint


def bricks(rng: np.random.Generator) -> Material:
    """A brick wall."""
    base = np.array([(150, 84, 62), (168, 122, 86), (128, 122, 116), (188, 180, 168), (120, 70, 60)][int(rng.integers(5))])
    mortar = 150 + int(rng.integers(50))

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        return _masonry(rng, (width, height), brick=(0.085, 0.25), base=base, spread=26.0, joint=mortar, offset=0.5)

    return paint


def tiles(rng: np.random.Generator, side: float = 0.3) -> Material:
    """Square tiles of changing shade, some with a pattern."""
    base = np.array(random_color(rng, (10, 90), (120, 210)))

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        return _masonry(rng, (width, height), brick=(side, side), base=base, spread=20.0, joint=80, offset=0.0, ornament=0.5)

    return paint


def wood(rng: np.random.Generator, plank: float = 0.14, color: Color | None = None) -> Material:
    """Planks with grain and knots; plank: their width in metres."""
    base = np.array(color or [(150, 105, 62), (176, 130, 82), (110, 72, 45), (196, 160, 112), (92, 64, 50)][int(rng.integers(5))])

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        h, w = pixels(width, height)
        grain = noise(rng, (h, w), [(3, 60), (6, 160)]) * 16 + noise(rng, (h, w), [(40, 200)]) * 12 + noise(rng, (h, w), [3]) * 5
        image = tinted(base, grain)
        step = max(12, round(plank * DENSITY))
        for y in range(0, h, step):
            x = -int(rng.integers(1, 250))
            while x < w:
                length = int(rng.integers(180, 420))
                piece = image[y : y + step, max(x, 0) : x + length]
                piece[:] = np.clip(piece * rng.uniform(0.72, 1.2) + rng.integers(-8, 8, 3), 0, 255)
                cv2.rectangle(image, (x, y), (x + length, y + step), (46, 32, 22), 1)
                _knot(rng, image, x + int(rng.integers(20, 160)), y + int(rng.integers(6, step - 5)))
                x += length
        return image

    return paint


def terrazzo(rng: np.random.Generator) -> Material:
    """Stone chips in cement."""
    base, chips = random_color(rng, (5, 40), (140, 210)), [random_color(rng, (20, 120), (50, 230)) for _ in range(6)]

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        h, w = pixels(width, height)
        image = tinted(base, 6.0 * noise(rng, (h, w), [200, 40, 4]))
        for _ in range(int(width * height * 260)):
            center, radius = rng.uniform(0, 1, 2) * (w, h), rng.uniform(2.0, 11.0)
            angle = np.sort(rng.uniform(0, 2 * np.pi, 5))
            _fill(image, center + radius * np.stack([np.cos(angle), 0.7 * np.sin(angle)], axis=1), chips[int(rng.integers(6))])
        return image

    return paint


def cloth(rng: np.random.Generator, colors: tuple[Color, Color] | None = None) -> Material:
    """Woven cloth in irregular checks of two colours."""
    pair = colors or (random_color(rng, (40, 130), (60, 130)), random_color(rng, (40, 130), (110, 200)))
    warp, weft = (np.array(color, dtype=np.float32) for color in pair)

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        h, w = pixels(width, height)
        rows, columns = (np.repeat(rng.uniform(0, 1, n // 7 + 1), 7)[:n] for n in (h, w))
        mixed = np.where(((rows[:, None] + columns) > 1.0)[..., None], warp, weft)
        return tinted(mixed, 40 * (rows[:, None] * columns - 0.3) + 11 * noise(rng, (h, w), [2, 5, 60]))

    return paint


def metal(rng: np.random.Generator) -> Material:
    """Painted sheet metal with scratches, chips and dirt."""
    base = random_color(rng, (20, 130), (80, 190))

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        h, w = pixels(width, height)
        image = tinted(base, 9 * noise(rng, (h, w), [(90, 8), (4, 4), (60, 60)]))
        for _ in range(int(20 + width * height * 130)):
            start = rng.uniform(0, 1, 2) * (w, h)
            scratch = np.array([start, start + rng.normal(0, 9, 2)]).astype(np.int32)
            shade = int(rng.integers(20, 240))
            cv2.polylines(image, [scratch], False, (shade,) * 3, int(rng.integers(1, 3)), cv2.LINE_AA)
        cv2.rectangle(image, (1, 1), (w - 2, h - 2), tuple(int(0.55 * c) for c in base), 2)
        return image

    return paint


def _masonry(
    rng: np.random.Generator,
    size: tuple[float, float],
    *,
    brick: tuple[float, float],
    base: np.ndarray,
    spread: float,
    joint: int,
    offset: float,
    ornament: float = 0.0,
) -> np.ndarray:
    """Rows of pieces of `brick` (height, width) metres, in shades of `base`; a share of them has an ornament."""
    h, w = pixels(*size)
    image = tinted((joint, joint, joint - 6), 8.0 * noise(rng, (h, w), [3, 20]))
    rough = 9.0 * noise(rng, (h, w), [3, 9, 30])
    bh, bw = (max(6, round(side * DENSITY)) for side in brick)
    for row, y in enumerate(range(0, h, bh)):
        for x in range(-int(bw * offset * (row % 2)), w, bw):
            y1, x0, x1 = y + bh - 2, max(x, 0), x + bw - 2
            piece = image[y:y1, x0:x1]
            shade = base + rng.normal(0.0, spread) + rng.normal(0.0, 0.3 * spread, 3)
            piece[:] = tinted(shade, rough[y:y1, x0:x1])
            if rng.random() < ornament:
                center, color = (x + bw // 2, y + bh // 2), tuple(int(c) for c in np.clip(shade * rng.uniform(0.5, 1.4), 0, 255))
                angle = rng.uniform(0, 6.3) + np.arange(int(rng.integers(3, 7))) * rng.uniform(0.8, 2.4)
                _fill(image, np.array(center) + 0.36 * bh * np.stack([np.cos(angle), np.sin(angle)], axis=1), color)
    return image


def _fill(image: np.ndarray, polygon: np.ndarray, color: Color | tuple[int, ...]) -> None:
    cv2.fillPoly(image, [np.round(polygon * 8).astype(np.int32)], color, cv2.LINE_AA, shift=3)


def _knot(rng: np.random.Generator, image: np.ndarray, x: int, y: int) -> None:
    size = int(rng.integers(2, 6))
    cv2.ellipse(image, (x, y), (2 * size, size), 0, 0, 360, (70, 45, 28), 1, cv2.LINE_AA)
    cv2.ellipse(image, (x, y), (size, max(1, size // 2)), 0, 0, 360, (52, 32, 20), -1, cv2.LINE_AA)
