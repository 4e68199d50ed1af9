# SPDX-License-Identifier: Apache-2.0
"""Notices when the calibration that comes with the images changes on the way."""

from __future__ import annotations

import math

import numpy as np

from st3r_ros.geometry.camera import Camera

CHANGED = 0.02
"""Share of the focal length, and of the width for the principal point, from which a calibration is another one. Autofocus moves
the focal length by about a per cent."""
CHANGED_COEFFICIENT = 0.01


class CameraWatch:
    """The calibrations of a stream. alternates: whether an earlier one has come back."""

    def __init__(self) -> None:
        self.alternates = False
        self._seen: list[Camera] = []

    def look(self, camera: Camera | None) -> str:
        """What has changed with the next image, "" for nothing; each calibration is told once."""
        if camera is None or (self._seen and _alike(camera, self._seen[-1])):
            return ""
        last = self._seen[-1] if self._seen else None
        known = next((k for k, seen in enumerate(self._seen) if _alike(camera, seen)), None)
        if known is not None:
            self._seen.append(self._seen.pop(known))
            said, self.alternates = self.alternates, True
            return "" if said or last is None else f"The calibration goes back and forth: {_difference(last, camera)}"
        self._seen.append(camera)
        return "" if last is None or self.alternates else f"The calibration has changed: {_difference(last, camera)}"


def _alike(a: Camera, b: Camera) -> bool:
    if a is b:
        return True
    if (a.width, a.height, a.distortion_model, len(a.distortion)) != (b.width, b.height, b.distortion_model, len(b.distortion)):
        return False
    focal = np.abs(np.log(a.K[[0, 1], [0, 1]] / b.K[[0, 1], [0, 1]])).max()
    centre = np.abs(a.K[:2, 2] - b.K[:2, 2]).max() / a.width
    return bool(focal < CHANGED and centre < CHANGED and np.allclose(a.distortion, b.distortion, atol=CHANGED_COEFFICIENT))


def _difference(before: Camera, now: Camera) -> str:
    f0, f1 = (float(camera.K[0, 0]) for camera in (before, now))
    if abs(math.log(f1 / f0)) >= CHANGED:
        return f"its focal length is {f1:.0f} px instead of {f0:.0f}"
    if np.abs(before.K[:2, 2] - now.K[:2, 2]).max() >= CHANGED * now.width:
        (x0, y0), (x1, y1) = before.K[:2, 2], now.K[:2, 2]
        return f"its principal point is ({x1:.0f}, {y1:.0f}) instead of ({x0:.0f}, {y0:.0f})"
    return "its distortion is another one"
