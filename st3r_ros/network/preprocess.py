# SPDX-License-Identifier: Apache-2.0
"""Prepares images for the network: resized to its working size, cropped to whole patches, normalized.

A plan maps pixels and depends only on sizes. Two implementations follow it: the reference (Pillow, identical to the preprocessing
of the published models) and the live one, which runs on the image's device and agrees up to rare rounding differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from st3r_ros.errors import FrameError
from st3r_ros.network.resample import resample

SQUARE_SIZE = 224  # the working size of the models with square images
MAX_ASPECT = 32  # aspect ratio; beyond it, the short side next to 512 pixels is less than one patch


@dataclass(frozen=True)
class ImagePlan:
    """The mapping from an image to its working image. All sizes and offsets are (x, y) pixels.

    size: of the image. resized: of the whole image after resampling with `window`. offset: top left pixel of the crop.
    out: size of the crop, whole patches in both directions.
    """

    size: tuple[int, int]
    resized: tuple[int, int]
    window: Image.Resampling
    offset: tuple[int, int]
    out: tuple[int, int]

    @property
    def working_from_original(self) -> np.ndarray:
        """(3, 3) float64, maps homogeneous pixels (centres at integers): u' = (u + 0.5) W'/W - 0.5 - x0, likewise v."""
        scale = np.array(self.resized) / np.array(self.size)
        matrix = np.diag([*scale, 1.0])
        matrix[:2, 2] = 0.5 * scale - 0.5 - np.array(self.offset)
        return matrix

    def scale_K(self, K: np.ndarray) -> np.ndarray:
        """The (3, 3) float64 intrinsics of the working image, from those of the image."""
        return self.working_from_original @ np.asarray(K, dtype=np.float64)

    def to_working(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of the image as float64 pixels of the working image; cropped pixels fall outside."""
        return _moved(self.working_from_original, pixels)

    def to_original(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of the working image as float64 pixels of the image."""
        return _moved(np.linalg.inv(self.working_from_original), pixels)


def plan_image(width: int, height: int, working_size: int, *, square_ok: bool = False, patch_size: int = 16) -> ImagePlan:
    """The plan for images of one size, by the rule of the published models.

    The longer side becomes `working_size` and both sides are cropped to whole patches around the centre; an exactly
    square image is cropped to 4:3, unless `square_ok`. At a working size of 224 the shorter side becomes 224 and squares stay.

    Raises:
        FrameError: the image has no pixels, or is too thin.
    """
    short, long = sorted((width, height))
    if short < 1:
        raise FrameError(f"The image is empty ({width}x{height} pixels).")
    square = working_size == SQUARE_SIZE
    target = round(working_size * (long / short)) if square else working_size
    resized = round(width * target / long), round(height * target / long)
    if square:
        wanted = working_size, working_size
    elif resized[0] == resized[1] and not square_ok:
        wanted = resized[0], resized[1] * 3 // 4
    else:
        wanted = resized
    out = wanted[0] // patch_size * patch_size, wanted[1] // patch_size * patch_size
    if min(out) < patch_size or long > MAX_ASPECT * short:
        longest = short * min(MAX_ASPECT, target // patch_size)
        raise FrameError(
            f"The image is {width}x{height} pixels, too thin for whole patches of {patch_size} pixels at a working size of "
            f"{working_size}; crop its longer side to at most {longest} pixels."
        )
    return ImagePlan(
        size=(width, height),
        resized=resized,
        window=Image.Resampling.LANCZOS if long > target else Image.Resampling.BICUBIC,
        offset=((resized[0] - out[0]) // 2, (resized[1] - out[1]) // 2),
        out=out,
    )


def resize_reference(image: np.ndarray, plan: ImagePlan) -> np.ndarray:
    """The working image (h, w, 3) uint8 of an image (H, W, 3) uint8 RGB, by Pillow.

    Raises:
        FrameError: the size of the image differs from that of the plan.
    """
    _check_size(image.shape, plan)
    (x0, y0), (width, height) = plan.offset, plan.out
    scaled = Image.fromarray(image).resize(plan.resized, plan.window)
    return np.array(scaled.crop((x0, y0, x0 + width, y0 + height)))


def resize_live(image: torch.Tensor, plan: ImagePlan) -> torch.Tensor:
    """The working image (..., h, w, 3) uint8 of an image or a batch (..., H, W, 3) uint8 RGB, on the image's device.

    Uses Pillow on the CPU, where it is exact and faster, and `resample` elsewhere.

    Raises:
        FrameError: the size of the image differs from that of the plan.
    """
    _check_size(image.shape, plan)
    if image.device.type != "cpu":
        return resample(image, plan.resized, plan.window, plan.offset, plan.out)
    images = image.reshape(-1, *image.shape[-3:]).numpy()
    working = np.stack([resize_reference(one, plan) for one in images])
    return torch.from_numpy(working).reshape(*image.shape[:-3], *working.shape[1:])


def normalize(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The input of the network, (B, 3, h, w) in [-1, 1], from images (B, h, w, 3) uint8: (x / 255 - 0.5) / 0.5."""
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.div_(255).sub_(0.5).div_(0.5).to(dtype)


def _moved(matrix: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels, dtype=np.float64) * matrix.diagonal()[:2] + matrix[:2, 2]


def _check_size(shape: tuple[int, ...], plan: ImagePlan) -> None:
    width, height = plan.size
    if shape[-3:] != (height, width, 3):
        raise FrameError(
            f"The image has the shape {tuple(shape)}, but its plan is for {width}x{height} pixels of 3 channels; "
            "make a plan for each size with plan_image."
        )
