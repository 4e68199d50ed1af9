# SPDX-License-Identifier: Apache-2.0
"""Fits the images of a run to the size of the keyframes of a map that is continued."""

from __future__ import annotations

from dataclasses import replace

import cv2

from st3r_ros.errors import MapFileError
from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.stream import same_shape
from st3r_ros.types import Features, Frame, PairModel


class FittedImages:
    """continued: a map with keyframes, which the images must fit; None while any will do."""

    def __init__(self, model: PairModel, continued: KeyframeMap | None = None) -> None:
        self._model = model
        self._size: tuple[int, int] | None = None
        self._resizes = False
        first = None if continued is None else next(iter(continued.keyframes.values()), None)
        self._assumed_K = first.K if first is not None and first.calibrated and not first.K_known else None
        if first is not None:
            self._size = first.image.shape[1], first.image.shape[0]

    def encoded(self, frame: Frame) -> Features:
        """The features of an undistorted frame. Images of another mode of the camera are enlarged or reduced.

        Raises:
            MapFileError: the images have another shape than the keyframes.
        """
        if self._size is None:
            return self._encode(frame)
        features = self._encode(resized(frame, *self._size) if self._resizes else frame)
        if not self._resizes and _size(features) != self._size and same_shape(_size(features), self._size):
            features, self._resizes = self._encode(resized(frame, *self._size)), True
        if _size(features) != self._size:
            self._resizes = False
            made, given = ("{}x{}".format(*size) for size in (self._size, _size(features)))
            way_out = (
                "turn them" if same_shape(_size(features)[::-1], self._size) else "give images of the same shape and image_size"
            )
            raise MapFileError(
                f"The map has keyframes of {made} pixels, but the images are {given} at the model's working size; "
                f"{way_out}, or begin a new map."
            )
        if self._assumed_K is not None and not features.K_known:
            features.K = self._assumed_K  # which the map may know better than the pair model by now
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
