# SPDX-License-Identifier: Apache-2.0
"""The camera of a run, for its results: calibrated or assumed, with its focal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from st3r_ros.geometry.camera import Camera
from st3r_ros.types import Keyframe

SAME_FOCAL = 0.02
"""Share by which the focal lengths of two keyframes may differ and still count as one."""
NO_DISTORTION = "none"


@dataclass(frozen=True)
class RunCamera:
    """The camera of the newest keyframe of a run.

    assumed: whether the images had no calibration. focal_px: for images of width x height pixels, those of the lens where its
    distortion was removed, otherwise the working images. distortion_model: of the lens, "none" where nothing was removed.
    other_focals_px: of earlier keyframes that differ by more than 2 %, newest first, for the same width.
    """

    assumed: bool
    focal_px: float
    width: int
    height: int
    distortion_model: str
    other_focals_px: tuple[float, ...] = ()

    @property
    def line(self) -> str:
        """For people."""
        kind = "assumed, the images have no calibration" if self.assumed else "calibrated"
        lens = "" if self.distortion_model == NO_DISTORTION else f", {self.distortion_model}"
        others = ", ".join(f"{focal:.0f}" for focal in self.other_focals_px)
        differ = f"; {others} px in other keyframes" if others else ""
        return f"Camera: {kind}; focal length {self.focal_px:.0f} px for {self.width}x{self.height}{lens}{differ}."


def camera_of_run(keyframes: Sequence[Keyframe], given: Camera | None = None) -> RunCamera | None:
    """The camera that the keyframes of a run were made with; without any, the given one, else None."""
    if not keyframes:
        if given is None:
            return None
        model = given.distortion_model if given.has_distortion else NO_DISTORTION
        return RunCamera(False, float(given.K[0, 0]), given.width, given.height, model)
    newest = keyframes[-1]
    focal, width, height = _focal(newest)
    others: list[float] = []
    for keyframe in reversed(keyframes):
        its_focal, its_width, _ = _focal(keyframe)
        its_focal *= width / its_width
        if all(abs(its_focal / known - 1.0) > SAME_FOCAL for known in (focal, *others)):
            others.append(its_focal)
    model = newest.lens.distortion_model if newest.lens is not None else NO_DISTORTION
    return RunCamera(not newest.K_known, focal, width, height, model, tuple(others))


def _focal(keyframe: Keyframe) -> tuple[float, int, int]:
    """The focal length, for images of this width and height."""
    lens = keyframe.lens
    if lens is not None:
        return float(lens.K[0, 0]), lens.width, lens.height
    return float(keyframe.K[0, 0]), keyframe.image.shape[1], keyframe.image.shape[0]
