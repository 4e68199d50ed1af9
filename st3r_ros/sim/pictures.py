# SPDX-License-Identifier: Apache-2.0
"""Procedural drawn surfaces: paintings, posters, book spines, boxes with labels, doors, screens."""

from __future__ import annotations

import cv2
import numpy as np

from st3r_ros.sim.scene import Material
from st3r_ros.sim.textures import DENSITY, Color, noise, pixels, random_color, tinted

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def painting(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A framed picture: a landscape or an abstract composition."""
    h, w = pixels(width, height)
    image = _landscape(rng, h, w) if rng.random() < 0.5 else _composition(rng, h, w)
    frame = random_color(rng, (20, 120), (40, 140))
    thickness = max(3, min(h, w) // 14)
    cv2.rectangle(image, (0, 0), (w - 1, h - 1), frame, 2 * thickness)
    cv2.rectangle(image, (thickness, thickness), (w - 1 - thickness, h - 1 - thickness), (230, 225, 210), 2)
    return image


def poster(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A poster: a picture, a title and lines of text."""
    h, w = pixels(width, height)
    image = tinted(random_color(rng, (0, 60), (200, 250)), 3 * noise(rng, (h, w), [50, 4]))
    top, bottom = h // 6, int(h * rng.uniform(0.5, 0.7))
    image[top:bottom, w // 12 : w - w // 12] = _composition(rng, bottom - top, w - 2 * (w // 12))
    write(rng, image, (w // 12, h // 8), (w * 5 // 6, h // 10), random_color(rng, (100, 250), (20, 150)))
    for y in range(bottom + h // 16, h - h // 24, max(9, h // 20)):
        write(rng, image, (w // 12, y), (int(w * rng.uniform(0.5, 0.84)), max(6, h // 32)), (40, 40, 50))
    return image


def books(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A row of books seen from their spines."""
    h, w = pixels(width, height)
    image = tinted((38, 30, 26), 4 * noise(rng, (h, w), [6]))
    x = 0
    while x < w:
        thick, tall = int(rng.integers(5, 15)), int(h * rng.uniform(0.68, 0.97))
        color = random_color(rng, (15, 160), (45, 215))
        cv2.rectangle(image, (x, h - tall), (x + thick - 1, h - 1), color, -1)
        cv2.line(image, (x + thick - 1, h - tall), (x + thick - 1, h - 1), tuple(c // 3 for c in color), 1)
        ink = tuple(255 - c for c in color)
        for _ in range(int(rng.integers(1, 4))):
            y = h - tall + int(rng.uniform(0.05, 0.8) * tall)
            cv2.rectangle(image, (x + 1, y), (x + thick - 3, y + int(rng.integers(2, 9))), ink, -1)
        x += thick + (int(rng.integers(4, 16)) if rng.random() < 0.06 else 0)
    return tinted(image, 5 * noise(rng, (h, w), [3, 20]))


def carton(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A cardboard box with tape, a label and print."""
    h, w = pixels(width, height)
    image = tinted((178, 138, 92), 7 * noise(rng, (h, w), [(60, 60), (4, 14), (3, 3)]))
    cv2.rectangle(image, (0, int(0.45 * h)), (w, int(0.45 * h) + max(4, h // 9)), (205, 180, 135), -1)
    for _ in range(3):
        bw, bh = int(w * rng.uniform(0.2, 0.4)), int(h * rng.uniform(0.15, 0.3))
        x, y = int(rng.uniform(0, w - bw)), int(rng.uniform(0, h - bh))
        _label(rng, image[y : y + bh, x : x + bw])
    for _ in range(4):
        corner = int(rng.uniform(0, 0.6) * w), int(rng.uniform(0.1, 0.95) * h)
        write(rng, image, corner, (w // 3, max(7, h // 12)), (60, 40, 30))
    return image


def screen(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A monitor with windows of text."""
    h, w = pixels(width, height)
    image = tinted(random_color(rng, (60, 160), (60, 130)), 3 * noise(rng, (h, w), [30]))
    for _ in range(4):
        bw, bh = int(w * rng.uniform(0.3, 0.6)), int(h * rng.uniform(0.3, 0.6))
        x, y = int(rng.uniform(0, w - bw)), int(rng.uniform(0, h - bh))
        _label(rng, image[y : y + bh, x : x + bw])
    cv2.rectangle(image, (0, 0), (w - 1, h - 1), (25, 25, 28), max(4, h // 16))
    return image


def cabinet(body: Material) -> Material:
    """Doors and drawers with handles on a body of some material."""

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        image = body(rng, width, height)
        h, w = image.shape[:2]
        columns, rows = max(1, round(width / 0.45)), max(1, round(height / rng.uniform(0.22, 0.5)))
        for row in range(rows):
            for column in range(columns):
                x0, y0, x1, y1 = column * w // columns, row * h // rows, (column + 1) * w // columns, (row + 1) * h // rows
                image[y0:y1, x0:x1] = np.clip(image[y0:y1, x0:x1] * rng.uniform(0.82, 1.12), 0, 255)
                cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (28, 22, 18), 2)
                cv2.rectangle(image, (x0 + 7, y0 + 7), (x1 - 8, y1 - 8), (70, 55, 45), 1)
                cx, cy = (x0 + x1) // 2, y0 + (y1 - y0) // 5
                cv2.rectangle(image, (cx - 9, cy - 2), (cx + 9, cy + 2), (215, 210, 195), -1)
                if rng.random() < 0.5:
                    _label(rng, image[cy + 8 : min(cy + 26, y1 - 3), cx - 16 : cx + 16])
        return image

    return paint


def door(body: Material) -> Material:
    """A panelled door with a frame, a handle and a sign."""

    def paint(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
        image = body(rng, width, height)
        h, w = image.shape[:2]
        for y0, y1 in ((0.3, 0.55), (0.6, 0.93)):
            for x0, x1 in ((0.14, 0.46), (0.54, 0.86)):
                corner, end = (int(x0 * w), int(y0 * h)), (int(x1 * w), int(y1 * h))
                cv2.rectangle(image, corner, end, (35, 27, 20), 3)
                cv2.rectangle(image, (corner[0] + 6, corner[1] + 6), (end[0] - 6, end[1] - 6), (205, 185, 160), 1)
        cv2.rectangle(image, (0, 0), (w - 1, h - 1), (60, 48, 40), 14)
        cv2.ellipse(image, (int(0.9 * w), int(0.57 * h)), (9, 6), 0, 0, 360, (225, 205, 120), -1, cv2.LINE_AA)
        _label(rng, image[int(0.1 * h) : int(0.22 * h), int(0.25 * w) : int(0.75 * w)])
        return image

    return paint


def window(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A casement window: a light frame, and behind its panes curtains in the dark."""
    h, w = pixels(width, height)
    image = tinted((62, 74, 88), 10 * noise(rng, (h, w), [(60, 12), 30]))
    for x0, x1 in ((0.0, rng.uniform(0.2, 0.35)), (rng.uniform(0.65, 0.8), 1.0)):
        curtain = image[:, int(x0 * w) : int(x1 * w)]
        curtain[:] = tinted((196, 186, 168), 22 * noise(rng, curtain.shape[:2], [(200, 8)]))
    for x in (0, w // 2, w - 1):
        cv2.line(image, (x, 0), (x, h), (228, 224, 216), 18)
    for y in (0, h // 3, h - 1):
        cv2.line(image, (0, y), (w, y), (228, 224, 216), 18)
    return image


def rug(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """A rug: borders within borders, filled with small shapes."""
    colors = [random_color(rng, (80, 210), (60, 210)) for _ in range(5)]
    h, w = pixels(width, height)
    image = np.empty((h, w, 3), dtype=np.uint8)
    for ring, inset in enumerate(range(0, min(h, w) // 2, 22)):
        cv2.rectangle(image, (inset, inset), (w - 1 - inset, h - 1 - inset), colors[ring % 5], -1)
    for _ in range(int(width * height * 190)):
        center, half = rng.uniform(0, 1, 2) * (w, h), rng.uniform(3, 10, 2)
        diamond = center + np.array([(-1, 0), (0, -1), (1, 0), (0, 1)]) * half
        cv2.fillPoly(image, [np.round(diamond).astype(np.int32)], colors[int(rng.integers(5))], cv2.LINE_AA)
    return tinted(image, 9 * noise(rng, (h, w), [2, 6, 90]))


def ceiling(rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    """Acoustic panels with holes, and stains."""
    h, w = pixels(width, height)
    image = tinted((214, 212, 204), 6 * noise(rng, (h, w), [120, 30, 4]) - 22 * (noise(rng, (h, w), [5]) > 1.5))
    step = round(0.6 * DENSITY)
    for at in range(0, max(h, w), step):
        cv2.line(image, (0, at), (w, at), (150, 148, 140), 3)
        cv2.line(image, (at, 0), (at, h), (150, 148, 140), 3)
    return image


def write(rng: np.random.Generator, image: np.ndarray, at: tuple[int, int], size: tuple[int, int], color: Color) -> None:
    """A line of random letters, its lower left corner at `at`, of about this size (width, height) in pixels."""
    width, height = size
    font, scale = _FONTS[int(rng.integers(len(_FONTS)))], height / 22.0
    count = max(2, int(width / (height * 0.85)))
    text = "".join(" " if rng.random() < 0.15 else _LETTERS[int(rng.integers(len(_LETTERS)))] for _ in range(count))
    cv2.putText(image, text, at, font, scale, color, 1 + int(height > 24), cv2.LINE_AA)


def _label(rng: np.random.Generator, patch: np.ndarray) -> None:
    """Turn a patch of an image into a sheet with a few lines of text and a block of colour."""
    h, w = patch.shape[:2]
    if h < 6 or w < 12:
        return
    sheet = np.full((h, w, 3), random_color(rng, (0, 40), (190, 255)), dtype=np.uint8)
    if rng.random() < 0.7:
        x, y = int(rng.uniform(0.4, 0.7) * w), int(rng.uniform(0.1, 0.6) * h)
        cv2.rectangle(sheet, (x, y), (x + w // 4, y + h // 3), random_color(rng, (120, 255), (80, 230)), -1)
    size = max(5, h // 7)
    for y in range(size + 2, h, 2 * size):
        write(rng, sheet, (3, y), (int(w * rng.uniform(0.4, 0.9)), size), (30, 30, 40))
    patch[:] = sheet


def _landscape(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Sky, ridges behind each other and dots of trees."""
    image = tinted(random_color(rng, (40, 120), (180, 240)), 12 * noise(rng, (h, w), [(20, 60), (8, 20)]))
    for layer in range(5):
        level = h * (0.25 + 0.15 * layer)
        ridge = level + 0.12 * h * noise(rng, (1, w), [w / 4, w / 12, 8])[0]
        below = np.arange(h)[:, None] > ridge
        color = np.array(random_color(rng, (60, 170), (60, 200)), dtype=np.float32)
        image[below] = tinted(color, 14 * noise(rng, (h, w), [3, 8, 24]))[below]
    return image


def _composition(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Overlapping triangles, discs and bars."""
    image = tinted(random_color(rng), 14 * noise(rng, (h, w), [max(h, w) / 4, 12, 4]))
    for _ in range(int(rng.integers(14, 30))):
        color, size = random_color(rng, (40, 240), (30, 250)), rng.uniform(0.04, 0.28) * min(h, w)
        center = rng.uniform(0, 1, 2) * (w, h)
        kind = int(rng.integers(3))
        if kind == 0:
            cv2.circle(
                image, tuple(center.astype(int).tolist()), int(size) + 2, color, -1 if rng.random() < 0.6 else 3, cv2.LINE_AA
            )
        else:
            corners = rng.normal(0, size, (3, 2)) if kind == 1 else np.array([(-2, -0.3), (2, -0.3), (2, 0.3), (-2, 0.3)]) * size
            cv2.fillPoly(image, [np.round(center + corners).astype(np.int32)], color, cv2.LINE_AA)
    return tinted(image, 6 * noise(rng, (h, w), [4, 14]))
