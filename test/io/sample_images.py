# SPDX-License-Identifier: Apache-2.0
"""Small pictures that JPEG keeps, and files of them."""

from pathlib import Path

import cv2
import numpy as np
from hypothesis import settings

properties = settings(max_examples=50)


def picture(number: int = 0, width: int = 48, height: int = 32) -> np.ndarray:
    """An (H, W, 3) uint8 RGB image; red grows along x, green along y, blue tells the number."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(20, 230, width).astype(np.uint8)
    image[..., 1] = np.linspace(230, 20, height).astype(np.uint8)[:, None]
    image[..., 2] = 10 + 20 * number
    return image


def number_of(image: np.ndarray) -> int:
    """The number of a picture, also after JPEG."""
    return round((float(np.median(image[..., 2])) - 10) / 20)


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    """The bytes of an image file."""
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_pictures(folder: Path, names: list[str]) -> None:
    """Picture i under the i-th name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(picture(number), Path(name).suffix))
