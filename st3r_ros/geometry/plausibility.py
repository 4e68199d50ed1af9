# SPDX-License-Identifier: Apache-2.0
"""Whether a calibration can be that of a real camera, judged by what it does to an image and not by its numbers.

The limits leave out every calibration that was found in public use and maps well: wide fisheyes, rational models with large
terms that cancel each other, housings under water, cropped modes. Coefficients as such tell nothing: k4 = 280 may be right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from st3r_ros.geometry import distortion as lens
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.lens_names import EQUIDISTANT
from st3r_ros.geometry.pixels import normalized, pixel_grid, to_pixels

OFF_CENTRE = 0.15
"""Distance of the principal point from the image centre, as a share of a side, from which it is doubtful. Off by as much along
both sides in the same direction, K is of another image size: a crop rarely does that."""
OFF_CENTRE_SCALED, OFF_CENTRE_SHAPE = 0.09, 0.1
"""The same where both sides are off by the same factor, as after a resize, and where K is centred in a common shape of images."""
SAME_FACTOR = 0.05
_SHAPES = 3 / 4, 9 / 16
"""Height by width of the modes that cameras change between."""
TURNED = 0.05
"""Distance, as a share of a side, from the centre of the image turned by 90 degrees, below which K may be of that one."""
FAR_OUTSIDE = 1.5
CORNER = 0.05
"""A principal point that was never set, or is counted from the centre."""
LEAST_LEFT, FEW_LEFT = 0.5, 0.83
"""Share of the undistorted image that is not black: below the first nothing useful is left, below the second it is doubtful."""
EARLY_FOLD_DEG, EARLY_FOLD_FISHEYE_DEG = 45.0, 60.0
"""Angle to the optical axis below which no lens folds over inside its images, pinholes and fisheyes."""
MUCH_BEYOND = 0.05
"""Share of the images beyond such a fold: less is a corner that no board was seen in."""
NARROWEST_DEG, WIDEST_DEG, WIDEST_FISHEYE_DEG = 3.0, 140.0, 300.0
"""Fields of view beyond which K is doubtful: longest telephoto lens, images rectified from a fisheye's, fisheye."""
MUCH_TANGENTIAL, MOST_TANGENTIAL = 0.03, 0.15
"""Shift by the tangential terms, as a share of the image diagonal: doubtful, and impossible. Poor lenses have up to 0.025."""
MISORDERED_TANGENTIAL = 0.004
"""The same where the coefficients look like k1, k2, k3, p1, p2."""
UNEQUAL, MOST_UNEQUAL = 1.5, 3.0
"""Factor between fx and fy: doubtful, and impossible. Images squeezed from 16:9 to 4:3 have 1.33, from 2:1 less than 1.5."""
MOST_SKEW_PX = 2.0
"""Pixels by which a skew moves the top of an image against its bottom: more is impossible, and less is not used."""
_GRID = 41
_STEP = 1e-6


@dataclass(frozen=True)
class Measures:
    """What a calibration does to the images.

    centre: of the principal point, as shares of width and height. left: share of the undistorted image that is not black.
    fold_px: distance from the principal point at which the undistorted image folds over, pixels; None where it does not.
    fold_deg: the same as an angle to the optical axis, degrees, inside the image or not; infinite where there is none.
    beyond: share of the image, as the sensor takes it, that lies beyond the fold, so that the calibration does not tell of it.
    tangential: largest shift by the tangential terms, as a share of the image diagonal.
    """

    centre: tuple[float, float]
    left: float
    fold_px: float | None
    fold_deg: float
    beyond: float
    tangential: float


@dataclass(frozen=True)
class Plausibility:
    """What speaks against a calibration, in sentences. fault: why it cannot be right, "" when it can. doubts: for a person."""

    measures: Measures
    fault: str
    doubts: tuple[str, ...]


@lru_cache(maxsize=64)
def examine(camera: Camera, *, cropped: bool = False) -> Plausibility:
    """Judges the calibration of a camera.

    cropped: its images are known to be cut out of others, so that the principal point may be anywhere.
    """
    measures = measure(camera)
    findings = [
        *([] if cropped else _of_centre(camera, measures)),
        *_of_pixels(camera),
        *_of_view(camera),
        *(_of_distortion(camera, measures) or _of_fold(camera, measures)),
        *_of_tangential(camera, measures),
    ]
    faults = [sentence for sentence, is_fault in findings if is_fault]
    doubts = tuple(sentence for sentence, is_fault in findings if not is_fault)
    return Plausibility(measures, "".join(faults[:1]), doubts)


def measure(camera: Camera) -> Measures:
    """The measures of a camera, on a grid of 41 x 41 ideal pixels."""
    size = np.array([camera.width, camera.height])
    x, y = (camera.K[:2, 2] + 0.5) / size
    centre = float(x), float(y)
    if not camera.has_distortion:
        return Measures(centre, 1.0, None, math.inf, 0.0, 0.0)
    pixels = (pixel_grid(_GRID, _GRID) + 0.5) / _GRID * size - 0.5
    rays = normalized(pixels, camera.K)
    with np.errstate(all="ignore"):
        seen = _distorted(camera, rays)
        along_x, along_y = (_distorted(camera, rays + step) - seen for step in _STEP * np.eye(2))
        upright = along_x[..., 0] * along_y[..., 1] > along_x[..., 1] * along_y[..., 0]
        shown = np.abs((to_pixels(seen, camera.K) + 0.5) / size - 0.5).max(axis=-1) <= 0.5
        tangential = np.linalg.norm(_tangential(camera, rays) @ camera.K[:2, :2].T, axis=-1).max() / np.linalg.norm(size)
    radius = np.linalg.norm(rays, axis=-1)
    whole = upright & (radius < camera.fold_radius)
    folded = radius[~whole]
    fold_px = float(folded.min() * camera.K[0, 0]) if folded.size else None
    fold_deg, beyond = math.inf, 0.0
    if math.isfinite(camera.fold_radius):
        fold_deg = math.degrees(math.atan(camera.fold_radius))
        # The grid again, now as pixels of the image that the sensor takes.
        beyond = float((radius > lens.image_radius(camera.distortion_model, camera.distortion, camera.fold_radius)).mean())
    return Measures(centre, float((shown & whole).mean()), fold_px, fold_deg, beyond, float(tangential))


def _distorted(camera: Camera, rays: np.ndarray) -> np.ndarray:
    return lens.distort(camera.distortion_model, camera.distortion, rays)


def _tangential(camera: Camera, rays: np.ndarray) -> np.ndarray:
    """The shift by p1 and p2 alone, on the plane z = 1."""
    if camera.distortion_model == EQUIDISTANT or len(camera.distortion) < 4:
        return np.zeros_like(rays)
    return lens.plumb_bob(rays, np.array([0.0, 0.0, *camera.distortion[2:4]])) - rays


Finding = tuple[str, bool]
"""A sentence, and whether the calibration cannot be right."""


def _of_centre(camera: Camera, measures: Measures) -> list[Finding]:
    (right, down), (cx, cy) = measures.centre, camera.K[:2, 2]
    x, y = right - 0.5, down - 0.5
    size = f"{camera.width}x{camera.height} pixels"
    where = f"The principal point ({cx:g}, {cy:g}) is at {right:.0%} of the width and {down:.0%} of the height of {size}"
    other = f"images of about {2 * cx + 1:.0f}x{2 * cy + 1:.0f} pixels" if min(right, down) > 0.0 else "images of another size"
    same_direction = min(abs(x), abs(y)) if x * y > 0.0 else 0.0
    if max(abs(x), abs(y)) > FAR_OUTSIDE:
        return [(f"{where}, far outside of the image; calibrate at the size of the images.", True)]
    if max(right, down) < CORNER:
        return [(f"{where}, in its corner; set cx and cy, which are about half of width and height.", True)]
    if same_direction >= OFF_CENTRE:
        return [(f"{where}, so K is of {other}; calibrate at the size of the images, or scale K to it.", True)]
    turned = max(abs((cx + 0.5) / camera.height - 0.5), abs((cy + 0.5) / camera.width - 0.5)) < TURNED
    if turned and max(abs(x), abs(y)) > 2.0 * TURNED:
        upright = f"{camera.height}x{camera.width} pixels"
        return [(f"{where}: right if the images were cropped, wrong if cx and cy are swapped or K is of {upright}.", False)]
    scaled = same_direction >= OFF_CENTRE_SCALED and abs(right / down - 1.0) < SAME_FACTOR
    if scaled or _has_other_shape(camera, x, y) or max(abs(x), abs(y)) >= OFF_CENTRE:
        return [(f"{where}: right if the images were cropped, wrong if K is of {other}.", False)]
    return []


def _has_other_shape(camera: Camera, x: float, y: float) -> bool:
    """Whether K is centred in images of the same width and another common height, as after a change from 4:3 to 16:9."""
    shape = (2.0 * camera.K[1, 2] + 1.0) / camera.width
    return abs(x) < SAME_FACTOR and abs(y) > OFF_CENTRE_SHAPE and any(abs(shape / usual - 1.0) < SAME_FACTOR for usual in _SHAPES)


def _of_pixels(camera: Camera) -> list[Finding]:
    fx, fy, skew = camera.K[0, 0], camera.K[1, 1], camera.K[0, 1]
    if abs(skew) * camera.height > MOST_SKEW_PX * fy:
        return [(f"K has the skew {skew:g}, but the columns of pixels are upright or nearly so; set K[0, 1] to 0.", True)]
    factor = max(fx, fy) / min(fx, fy)
    if factor < UNEQUAL:
        return []
    sentence = f"fx = {fx:g} and fy = {fy:g} differ by a factor of {factor:.1f}, but pixels are square or nearly so; correct K."
    return [(sentence, factor >= MOST_UNEQUAL)]


def _of_view(camera: Camera) -> list[Finding]:
    """A pinhole is judged by the side that sees most, a fisheye by the shorter one, because its images may be a disc."""
    sides = (("fx", camera.K[0, 0], "width", camera.width), ("fy", camera.K[1, 1], "height", camera.height))
    if camera.distortion_model == EQUIDISTANT:
        kind, widest, reason = "fisheye", WIDEST_FISHEYE_DEG, "if its disc fills a part of the images"
        key, focal, side, pixels = min(sides, key=lambda of: of[3] / of[1])
        angle = math.degrees(pixels / focal)
    else:
        kind, widest, reason = "pinhole", WIDEST_DEG, "if the images were rectified from a fisheye's"
        key, focal, side, pixels = max(sides, key=lambda of: of[3] / of[1])
        angle = math.degrees(2.0 * math.atan(0.5 * pixels / focal))
    if NARROWEST_DEG <= angle <= widest:
        return []
    sentence = (
        f"{key} = {focal:g} for a {side} of {pixels} pixels is that of a {kind} with a field of view of {angle:.3g} degrees: "
        f"right {reason if angle > widest else 'with a telescope'}, wrong if K is of images of another size."
    )
    return [(sentence, False)]


def _of_distortion(camera: Camera, measures: Measures) -> list[Finding]:
    if measures.left >= FEW_LEFT:
        return []
    cause = "its edges come from outside of the image"
    if measures.fold_px is not None:
        corner = max(math.hypot(x, y) for x, y in _corners(camera))
        cause = f"it folds over {measures.fold_px:.0f} pixels from the principal point, the corners are at {corner:.0f}"
    fault = measures.left < LEAST_LEFT
    advice = (
        f"correct the coefficients, which {camera.distortion_model} has in the order {_order(camera)}, or calibrate again"
        if fault
        else "check that straight lines are straight in it"
    )
    sentence = (
        f"The distortion {_text(camera.distortion)} leaves {measures.left:.0%} of the undistorted image and the rest is black: "
        f"{cause}; {advice}."
    )
    return [(sentence, fault)]


def _of_fold(camera: Camera, measures: Measures) -> list[Finding]:
    earliest = EARLY_FOLD_FISHEYE_DEG if camera.distortion_model == EQUIDISTANT else EARLY_FOLD_DEG
    if measures.fold_deg >= earliest or measures.beyond < MUCH_BEYOND:
        return []
    sentence = (
        f"The distortion {_text(camera.distortion)} folds over {measures.fold_deg:.0f} degrees from the optical axis, so "
        f"{measures.beyond:.0%} of the image is beyond what it describes; check the coefficients, which "
        f"{camera.distortion_model} has in the order {_order(camera)}."
    )
    return [(sentence, False)]


def _of_tangential(camera: Camera, measures: Measures) -> list[Finding]:
    misordered = _looks_misordered(camera) and measures.tangential > MISORDERED_TANGENTIAL
    if measures.tangential <= MUCH_TANGENTIAL and not misordered:
        return []
    p1, p2 = camera.distortion[2:4]
    asked = f"is the order of {_text(camera.distortion)} k1, k2, k3, p1, p2? It" if len(camera.distortion) == 5 else "the order"
    sentence = (
        f"The tangential terms p1 = {p1:g} and p2 = {p2:g} move pixels by up to {measures.tangential:.1%} of the image diagonal; "
        f"{asked} must be {_order(camera)}."
    )
    return [(sentence, measures.tangential > MOST_TANGENTIAL)]


def _looks_misordered(camera: Camera) -> bool:
    """Whether the third of five coefficients is large beside the last two, of which the last is k3 and rarely small but not 0."""
    if camera.distortion_model == EQUIDISTANT or len(camera.distortion) != 5:
        return False
    third, fourth, fifth = np.abs(camera.distortion[2:])
    return bool(0.0 < fifth < 0.005 and third > 5.0 * max(fourth, fifth))


def _order(camera: Camera) -> str:
    names = "k1 k2 k3 k4" if camera.distortion_model == EQUIDISTANT else "k1 k2 p1 p2 k3 k4 k5 k6"
    return ", ".join(names.split()[: len(camera.distortion)])


def _corners(camera: Camera) -> list[tuple[float, float]]:
    cx, cy = camera.K[:2, 2]
    return [(x - cx, y - cy) for x in (0, camera.width - 1) for y in (0, camera.height - 1)]


def _text(D: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in D)}]"
