# SPDX-License-Identifier: Apache-2.0
"""Depth errors of keyframe pointmaps against measured depth images: AbsRel and the share within a factor of 1.25."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st3r_ros.errors import EvaluationError, FrameError
from st3r_ros.eval.association import MATCH_TOLERANCE_NS, associate
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid, rays

CLOSE_RATIO = 1.25
MIN_PIXELS = 100


@dataclass(frozen=True, eq=False)
class KeyframeDepths:
    """Estimated depth of keyframes, without lens distortion.

    stamps_ns: (n,) int64. depth: (n, h, w) floating, map units along the optical axis, NaN = unknown.
    K: (n, 3, 3) float64 intrinsics at that size.
    """

    stamps_ns: np.ndarray
    depth: np.ndarray
    K: np.ndarray

    def __len__(self) -> int:
        return len(self.stamps_ns)


class DepthSource(Protocol):
    """Measured depth: stamps_ns (N,) int64 increasing, and the images one by one."""

    stamps_ns: np.ndarray

    def depth(self, index: int) -> np.ndarray:
        """(H, W) float32 metres along the optical axis, 0 = unknown. Raises FrameError when it cannot be read."""
        ...


@dataclass(frozen=True)
class DepthAccuracy:
    """abs_rel: mean of |predicted - true| / true. delta_125: share of pixels within a factor of 1.25 of the truth."""

    abs_rel: float
    delta_125: float


@dataclass(frozen=True)
class DepthErrors:
    """Depth errors, each the mean over the compared keyframes.

    unscaled: map units taken as metres. map_scaled: one scale for the whole map, from the alignment of the trajectory (None when
    unknown). median_scaled: every keyframe scaled by the ratio of the medians.
    coverage: share of the measured pixels with an estimated depth. unreadable: number of skipped depth images.
    """

    keyframes: int
    unreadable: int
    coverage: float
    unscaled: DepthAccuracy
    map_scaled: DepthAccuracy | None
    median_scaled: DepthAccuracy


def evaluate_depth(
    predicted: KeyframeDepths,
    measured: DepthSource,
    camera: Camera,
    scale: float | None = None,
    tolerance_ns: int = MATCH_TOLERANCE_NS,
) -> DepthErrors:
    """Compares the keyframes with the depth images whose stamps lie within the tolerance.

    camera: of the depth images. scale: metres per map unit from the alignment of the trajectory, if known.
    Raises EvaluationError when there is nothing to compare.
    """
    pairs = associate(predicted.stamps_ns, measured.stamps_ns, tolerance_ns)
    if len(pairs) == 0:
        raise EvaluationError(
            f"None of the {len(predicted)} keyframes lies within {tolerance_ns / 1e6:.0f} ms of one of the "
            f"{len(measured.stamps_ns)} depth images; check that the run and the depth belong to the same sequence."
        )
    compared, unreadable = [], 0
    for of_keyframe, of_image in zip(pairs.queries, pairs.references, strict=True):
        depth = np.asarray(predicted.depth[of_keyframe], dtype=np.float64)
        try:
            image = measured.depth(int(of_image))
        except FrameError:
            unreadable += 1
            continue
        truth = resample_depth(image, camera, predicted.K[of_keyframe], *depth.shape)
        errors = compare_depth(depth, truth, scale)
        if errors is not None:
            compared.append(errors)
    if not compared:
        raise EvaluationError(
            f"None of the {len(pairs)} keyframes with a depth image can be compared: {unreadable} images are unreadable, the "
            f"others share fewer than {MIN_PIXELS} pixels with the keyframe; check the images and the depth camera's calibration."
        )
    return _mean(compared, unreadable)


def compare_depth(predicted: np.ndarray, truth: np.ndarray, scale: float | None = None) -> DepthErrors | None:
    """Errors of one depth map (h, w) against the true one, pixel by pixel; None when they share too few pixels.

    Unknown depth is NaN in `predicted`, 0 or NaN in `truth`. scale: metres per unit of `predicted`, where known.
    """
    measured = np.isfinite(truth) & (truth > 0)
    both = measured & np.isfinite(predicted) & (predicted > 0)
    if np.count_nonzero(both) < MIN_PIXELS:
        return None
    claimed, true = predicted[both], truth[both]
    return DepthErrors(
        keyframes=1,
        unreadable=0,
        coverage=float(np.count_nonzero(both) / np.count_nonzero(measured)),
        unscaled=_accuracy(claimed / true),
        map_scaled=None if scale is None else _accuracy(scale * claimed / true),
        median_scaled=_accuracy(claimed / true * (np.median(true) / np.median(claimed))),
    )


def resample_depth(depth: np.ndarray, camera: Camera, K: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resamples a depth image to a distortion-free camera with intrinsics K at the same pose.

    depth: (H, W), of `camera`. Each of the height x width pixels gets the nearest measurement on its ray (interpolation would
    create surfaces between foreground and background); 0 where the ray leaves the depth image. Returns (height, width) float64.
    """
    camera = camera.scaled(depth.shape[1], depth.shape[0])
    seen_at = camera.project(rays(pixel_grid(width, height), K))
    pixels = np.nan_to_num(np.rint(seen_at), nan=-1.0).astype(np.int64)
    inside = np.all((pixels >= 0) & (pixels < (depth.shape[1], depth.shape[0])), axis=-1)
    resampled = np.zeros((height, width))
    resampled[inside] = depth[pixels[inside, 1], pixels[inside, 0]]
    return resampled


def _accuracy(ratio: np.ndarray) -> DepthAccuracy:
    """Both measures from predicted / true, (N,)."""
    close = (ratio < CLOSE_RATIO) & (ratio > 1.0 / CLOSE_RATIO)
    return DepthAccuracy(abs_rel=float(np.mean(np.abs(ratio - 1.0))), delta_125=float(np.mean(close)))


def _mean(errors: list[DepthErrors], unreadable: int) -> DepthErrors:
    map_scaled = [e.map_scaled for e in errors if e.map_scaled is not None]
    return DepthErrors(
        keyframes=len(errors),
        unreadable=unreadable,
        coverage=float(np.mean([e.coverage for e in errors])),
        unscaled=_mean_accuracy([e.unscaled for e in errors]),
        map_scaled=_mean_accuracy(map_scaled) if map_scaled else None,
        median_scaled=_mean_accuracy([e.median_scaled for e in errors]),
    )


def _mean_accuracy(accuracies: list[DepthAccuracy]) -> DepthAccuracy:
    return DepthAccuracy(
        abs_rel=float(np.mean([a.abs_rel for a in accuracies])), delta_125=float(np.mean([a.delta_125 for a in accuracies]))
    )
