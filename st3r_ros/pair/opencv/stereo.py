# SPDX-License-Identifier: Apache-2.0
"""Dense depth of two grey images with a known relative pose: rectification and semi-global matching, or interpolation.

Semi-global matching (Hirschmueller, PAMI 2008) needs the epipoles outside the images. Otherwise (forward motion) the depths of
the matches are interpolated over the image with a lower confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from st3r_ros.geometry.pixels import pixel_grid, ray_matrix, rays
from st3r_ros.geometry.transforms import SE3

BLOCK_SIZE = 5
MAX_DISPARITIES = 256
DISPARITY_SIGMA_PX = 0.7
INTERPOLATION_SIGMA = 0.02
INTERPOLATION_SPREAD = 0.5
INTERPOLATION_SIZE = 0.15
MIN_BASELINE_ANGLE_DEG = 35.0


@dataclass(frozen=True, eq=False)
class DenseDepth:
    """depth (h, w) float32, z in the image's own camera, 0 = none; sigma (h, w) float32, its relative error where depth > 0."""

    depth: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class Rectification:
    """A common image plane for two views: `H0`, `H1` (3, 3) map pixels to it, `R` rotates camera 0's axes to its axes."""

    H0: np.ndarray
    H1: np.ndarray
    R: np.ndarray
    K: np.ndarray
    width: int
    height: int
    baseline: float


def rectify(K0: np.ndarray, K1: np.ndarray, T_0_1: SE3, shape: tuple[int, int], scale: float) -> Rectification | None:
    """The plane on which rows are epipolar lines of both views, at `scale` times their resolution; None if there is none.

    It is parallel to the baseline and faces the mean viewing direction, rotated by any angle about it: sideways and vertical
    motion are treated alike.
    """
    baseline = float(np.linalg.norm(T_0_1.translation))
    x = T_0_1.translation / max(baseline, 1e-12)
    view = np.array([0.0, 0.0, 1.0]) + T_0_1.rotation[:, 2]
    view /= np.linalg.norm(view)
    if np.degrees(np.arccos(min(1.0, abs(x @ view)))) < MIN_BASELINE_ANGLE_DEG or T_0_1.rotation[2, 2] < 0.5:
        return None
    z = view - (view @ x) * x
    z /= np.linalg.norm(z)
    R = np.stack([x, np.cross(z, x), z])
    focal = scale * 0.5 * (K0[0, 0] + K1[0, 0])
    K = np.diag([focal, focal, 1.0])
    H0, H1 = K @ R @ ray_matrix(K0), K @ R @ T_0_1.rotation @ ray_matrix(K1)
    h, w = shape
    corners = np.array([[[0, 0]], [[w - 1, 0]], [[w - 1, h - 1]], [[0, h - 1]]], np.float64)
    warped = np.concatenate([cv2.perspectiveTransform(corners, H)[:, 0] for H in (H0, H1)])
    low, high = warped.min(0), warped.max(0)
    size = np.ceil(high - low).astype(int) + 1
    if size.max() > 2.5 * scale * max(h, w):
        return None
    shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
    return Rectification(shift @ H0, shift @ H1, R, shift @ K, int(size[0]), int(size[1]), baseline)


def semi_global_depth(
    gray0: np.ndarray, gray1: np.ndarray, plane: Rectification, T_0_1: SE3, near: float, far: float
) -> tuple[DenseDepth, DenseDepth] | None:
    """Depths of both images between `near` and `far` (z in camera 0, units of the baseline), None when the range is too wide.

    Each image is matched against the other; a depth counts where both agree (left-right consistency).
    """
    size = (plane.width, plane.height)
    left = cv2.warpPerspective(gray0, plane.H0, size, flags=cv2.INTER_LINEAR)
    right = cv2.warpPerspective(gray1, plane.H1, size, flags=cv2.INTER_LINEAR)
    scaled_baseline = plane.K[0, 0] * plane.baseline
    low = int(np.floor(scaled_baseline / far * 0.8))
    count = int(np.ceil((scaled_baseline / near * 1.2 - low) / 16.0)) * 16
    if count > MAX_DISPARITIES or count <= 0:
        return None
    disparity0 = _disparity(left, right, low, count)
    disparity1 = _disparity(right[:, ::-1], left[:, ::-1], low, count)[:, ::-1]
    disparity0, disparity1 = _consistent(disparity0, disparity1, -1), _consistent(disparity1, disparity0, +1)
    shape = gray0.shape
    depth0 = _to_image(disparity0, gray0, plane, plane.H0, plane.R, shape)
    depth1 = _to_image(disparity1, gray1, plane, plane.H1, plane.R @ T_0_1.rotation, shape)
    return depth0, depth1


def _disparity(left: np.ndarray, right: np.ndarray, low: int, count: int) -> np.ndarray:
    """Disparity (h, w) float32 of the left image, NaN where unmatched."""
    pad = low + count
    left, right = (cv2.copyMakeBorder(i, 0, 0, pad, 0, cv2.BORDER_CONSTANT) for i in (left, right))
    matcher = cv2.StereoSGBM_create(
        minDisparity=low,
        numDisparities=count,
        blockSize=BLOCK_SIZE,
        P1=8 * BLOCK_SIZE**2,
        P2=32 * BLOCK_SIZE**2,
        preFilterCap=31,
        uniquenessRatio=5,
        speckleWindowSize=60,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    raw = matcher.compute(left, right)[:, pad:]
    disparity = raw.astype(np.float32) / 16.0
    disparity[raw <= (low - 1) * 16] = np.nan
    disparity[disparity <= 0.25] = np.nan
    return disparity


def _consistent(disparity: np.ndarray, other: np.ndarray, sign: int) -> np.ndarray:
    """`disparity` where the map of the other image agrees within one pixel, NaN elsewhere."""
    w = disparity.shape[1]
    xs = np.arange(w, dtype=np.float32)[None] + sign * np.nan_to_num(disparity)
    column = np.rint(xs).astype(np.int32)
    inside = (column >= 0) & (column < w)
    back = np.take_along_axis(other, np.clip(column, 0, w - 1), axis=1)
    agree = inside & (np.abs(back - disparity) <= 1.0)
    return np.where(agree, disparity, np.nan).astype(np.float32)


def _to_image(
    disparity: np.ndarray, gray: np.ndarray, plane: Rectification, H: np.ndarray, R: np.ndarray, shape: tuple[int, int]
) -> DenseDepth:
    """Converts a disparity map of the rectified plane to depth in the original image (nearest sample)."""
    h, w = shape
    pixels = pixel_grid(w, h).astype(np.float32).reshape(1, -1, 2)
    on_plane = cv2.perspectiveTransform(pixels, H).reshape(h, w, 2)
    sampled = cv2.remap(disparity, on_plane, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan"))
    valid = np.isfinite(sampled)
    sampled = np.where(valid, sampled, 1.0)
    z_plane = plane.K[0, 0] * plane.baseline / sampled
    # Camera z of the point z_plane * (x, y, 1) on the plane's rays: the third column of R holds the camera's z in plane axes.
    depth = z_plane * (rays(on_plane, plane.K) @ R[:, 2])
    # Little texture along the baseline makes the disparity uncertain, regardless of the matcher.
    texture = cv2.boxFilter(np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(gray, cv2.CV_32F, 0, 1)), -1, (9, 9))
    sigma = DISPARITY_SIGMA_PX / sampled * np.maximum(1.0, 24.0 / np.maximum(texture, 4.0))
    valid &= depth > 0
    return DenseDepth(np.where(valid, depth, 0.0).astype(np.float32), sigma.astype(np.float32))


def interpolated_depth(pixels: np.ndarray, depth: np.ndarray, shape: tuple[int, int]) -> DenseDepth:
    """Interpolates the depth of matches (N, 2) over their Delaunay triangles, linear in inverse depth.

    A small triangle of similar depths is most likely one surface; its error is estimated from the spread of the depths at its
    corners and its size.
    """
    h, w = shape
    step = 4
    ys, xs = np.mgrid[0:h:step, 0:w:step]
    triangles = Delaunay(pixels)
    inverse = LinearNDInterpolator(triangles, 1.0 / depth)(xs, ys)
    corners = triangles.simplices
    spread = np.ptp(np.log(depth)[corners], axis=1)
    size = np.linalg.norm(np.ptp(pixels[corners], axis=1), axis=1) / np.hypot(h, w)
    error = INTERPOLATION_SIGMA + INTERPOLATION_SPREAD * spread + INTERPOLATION_SIZE * size
    sigma = error[triangles.find_simplex(np.stack([xs, ys], axis=-1))]
    dense = np.where(np.isfinite(inverse) & (inverse > 0), 1.0 / np.where(inverse > 0, inverse, 1.0), 0.0)
    enlarged = [cv2.resize(a.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST) for a in (dense, sigma)]
    return DenseDepth(*enlarged)
