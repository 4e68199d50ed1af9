# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of a whole map: keyframes, the frames between them, and the points that their matches connect.

For the end of a run: while a camera is tracked, a frame is placed by what is known of one keyframe then. Here every frame that
sees a point tells where it is, and every point where the frames are. What is dense, the pointmaps, follows the points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.tracks import matched_pixels
from st3r_ros.slam.optimization.adjustment import FITTED_PX, Cameras, Round, Solved, Views, solve
from st3r_ros.slam.optimization.following import apply
from st3r_ros.solver.damped import Schedule

SCHEDULE = Schedule(iterations=20, share=1e-4, most=1e4)
ROUNDS = tuple(Round((4 * gate, 2 * gate, gate), sigma, SCHEDULE) for gate, sigma in ((30.0, 3.0), (6.0, 0.8), (FITTED_PX, 0.2)))
"""What is wrong, and what is exact, shows only by and by."""
LENS_TERMS = 2
LENS_FIT_PX, LENS_GAIN = 0.4, 0.97
"""Another lens than the assumed one is believed when the views fit within so many pixels by it, and so many times better: drives
straight ahead tell nothing of the focal length, and where the lens bends more than the terms say, a wrong one may fit a little
better."""


@dataclass(frozen=True, eq=False)
class BundleReport:
    """What was adjusted: numbers of keyframes, other frames, points and views of them; RMS of the views before and after, pixels.

    focal_factor: of the focal length, 1 where the calibration is known.
    """

    keyframes: int
    frames: int
    points: int
    views: int
    rmse_before_px: float
    rmse_px: float
    focal_factor: float


def adjust_map(keyframe_map: KeyframeMap, notify: Callable[[str], None] = lambda sentence: None) -> BundleReport | None:
    """Adjusts a map of calibrated keyframes; None where too little is connected. notify: is told what is done, in sentences."""
    cameras = Cameras.of(keyframe_map, list(keyframe_map.keyframes.values()))
    views = Views.of(matched_pixels(keyframe_map.keyframes, keyframe_map.edges, cameras.seen))
    found = solve(cameras, views, ROUNDS, notify=notify)
    if found is None or all(k.K_known for k in keyframe_map.keyframes.values()):
        return None if found is None else _applied(keyframe_map, cameras, found)
    other = solve(cameras, views, ROUNDS, LENS_TERMS, notify=notify)
    better = other is not None and other.rmse_px < min(LENS_FIT_PX, LENS_GAIN * found.rmse_px)
    return _applied(keyframe_map, cameras, other if other is not None and better else found)


def _applied(keyframe_map: KeyframeMap, cameras: Cameras, found: Solved) -> BundleReport:
    apply(keyframe_map, cameras, found)
    last, count = found.last, int(found.used[: len(cameras.then)].sum())
    return BundleReport(
        keyframes=count,
        frames=int(found.used.sum()) - count,
        points=len(last.X),
        views=len(last.distance),
        rmse_before_px=found.rmse_before_px,
        rmse_px=found.rmse_px,
        focal_factor=last.focal_factor,
    )
