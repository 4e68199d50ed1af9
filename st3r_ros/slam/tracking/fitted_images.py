# SPDX-License-Identifier: Apache-2.0
"""Fits the images of a run to a map that is continued: to the size of its keyframes and, without calibration, to its camera."""

from __future__ import annotations

from dataclasses import replace

import cv2

from st3r_ros.errors import MapFileError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Features, Frame, PairModel


class FittedImages:
    """continued: a map with keyframes, which the images must fit; None while any will do.

    camera: of the newest calibrated keyframe of that map, as it has taken the image; None without any.
    """

    def __init__(self, model: PairModel, continued: KeyframeMap | None = None) -> None:
        self._model = model
        self._size: tuple[int, int] | None = None
        self._resizes = False
        self.camera: Camera | None = None
        if continued is None:
            return
        keyframes = list(continued.keyframes.values())
        self._size = None if not keyframes else (keyframes[0].image.shape[1], keyframes[0].image.shape[0])
        newest = next((k for k in reversed(keyframes) if k.K_known), None)
        if newest is not None:
            self.camera = newest.lens or Camera(newest.image.shape[1], newest.image.shape[0], newest.K)

    def with_camera(self, frame: Frame) -> Frame:
        """A frame without calibration with that of the map, where its image has the same shape; any other as it is."""
        size = frame.image.shape[1], frame.image.shape[0]
        if frame.camera is not None or self.camera is None or not _alike(size, (self.camera.width, self.camera.height)):
            return frame
        return replace(frame, camera=self.camera.scaled(*size))

    def encoded(self, frame: Frame) -> Features:
        """The features of an undistorted frame. Images of another mode of the camera are enlarged or reduced.

        Raises:
            MapFileError: the images have another shape than the keyframes.
        """
        if self._size is None:
            return self._encode(frame)
        features = self._encode(resized(frame, *self._size) if self._resizes else frame)
        if not self._resizes and _size(features) != self._size and _alike(_size(features), self._size):
            features, self._resizes = self._encode(resized(frame, *self._size)), True
        if _size(features) != self._size:
            self._resizes = False
            made, given = ("{}x{}".format(*size) for size in (self._size, _size(features)))
            way_out = "turn them" if _alike(_size(features)[::-1], self._size) else "give images of the same shape and image_size"
            raise MapFileError(
                f"The map has keyframes of {made} pixels, but the images are {given} at the model's working size; "
                f"{way_out}, or begin a new map."
            )
        return features

    def _encode(self, frame: Frame) -> Features:
        features: Features = self._model.encode(frame)
        return features


def resized(frame: Frame, width: int, height: int) -> Frame:
    """The frame with its image, mask and calibration at another size."""
    smaller = width < frame.image.shape[1]
    image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    camera = None if frame.camera is None else frame.camera.scaled(width, height)
    return replace(
        frame, image=image, camera=camera, mask=None if frame.mask is None else resized_mask(frame.mask, width, height)
    )


def _size(features: Features) -> tuple[int, int]:
    h, w = features.image.shape[:2]
    return w, h


def _alike(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes have the same shape, but for rounding."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)
