# SPDX-License-Identifier: Apache-2.0
"""Selects the camera of images from the calibrations received so far; used for folders, bags and nodes."""

from __future__ import annotations

import re

import numpy as np

from st3r_ros.errors import CalibrationError, ImplausibleCalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.lens_names import EQUIDISTANT
from st3r_ros.io.calibration.calibration import Calibration, Size

_RECTIFIED = re.compile(r"(?:^|[^a-z])(?:rect|rectified|rectify|undist|undistort|undistorted)(?=$|[^a-z])")
_RAW = re.compile(r"(?:^|[^a-z])(?:raw|distorted|unrectified)(?=$|[^a-z])")
_TRANSPORT = re.compile(r"/(compressed|ffmpeg|theora|zstd|foxglove|h264|h265|compressed_video|video)$", re.IGNORECASE)
_SAME = 1e-3
_MAX_SIZES = 16


def is_named_rectified(name: str) -> bool | None:
    """Whether the name of a topic or folder says that its images are rectified, None where it says nothing.

    The last part counts first: /camera/image_rect_color/compressed is rectified, /rect/image_raw is not, /rect/image is.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    parts = [part for part in without_transport(spaced).split("/") if part]
    for part in reversed(parts):
        if _RECTIFIED.search(part):
            return True
        if _RAW.search(part):
            return False
    return None


def without_transport(topic: str) -> str:
    """The topic whose images another one carries in another way: /cam/image for /cam/image/compressed."""
    return _TRANSPORT.sub("", topic)


def told_rectified(images: str, rectified: str) -> bool | None:
    """Whether images are rectified, by the setting auto, yes or no and by their name; None where nothing tells."""
    return is_named_rectified(images) if rectified == "auto" else rectified == "yes"


class CameraChoice:
    """Collects the calibrations of one stream of images and chooses the one that fits an image: the newest for its size.

    images: what the images are called: their topic, folder or file. rectified: auto, yes or no (auto: by the name).
    option: how a person sets `rectified`, with {} for the value. notes: sentences to be said, each of them once.
    doubts: those of the notes that warn of a calibration.
    """

    def __init__(self, images: str, rectified: str = "auto", option: str = "?rectified={}") -> None:
        self.notes: list[str] = []
        self.doubts: list[str] = []
        self._images, self._option = images, option
        self._rectified = told_rectified(images, rectified)
        self._forced = rectified != "auto"
        self._newest: dict[Size | None, Calibration] = {}
        self._error: CalibrationError | None = None
        self._chosen: tuple[Calibration, Camera] | None = None
        self._said: set[str] = set()

    def add(self, calibration: Calibration) -> None:
        """A calibration has come. One that cannot be used does not replace one that can."""
        if calibration.tells_nothing:
            return
        for size in calibration.sizes(self._rectified):
            try:
                if size is not None:
                    calibration.camera(size, rectified=self._rectified)
            except ImplausibleCalibrationError as error:
                self._error = error
                if size in self._newest:
                    continue  # images of another size are told of that size first
            except CalibrationError as error:
                self._error = error
                continue
            self._newest.pop(size, None)
            self._newest[size] = calibration  # the last one now
            if len(self._newest) > _MAX_SIZES:
                del self._newest[next(iter(self._newest))]

    def refuse(self, error: CalibrationError) -> None:
        """A calibration has come that contradicts itself."""
        self._error = error

    def camera(self, width: int, height: int) -> Camera | None:
        """The camera of an image, None where nothing was said of it or only that it is not calibrated.

        Raises:
            CalibrationError: what was said cannot be used for this image; the reason for the newest calibration.
        """
        size = (width, height)
        calibration = self._newest.get(size) or self._newest.get(None)
        if calibration is None:
            others = list(self._newest.values())
            if others:
                others[-1].camera(size, rectified=self._rectified)  # says that it is for another size
            if self._error is not None:
                raise self._error
            return None
        chosen = self._chosen
        if chosen is None or chosen[0] is not calibration or (chosen[1].width, chosen[1].height) != size:
            self._chosen = chosen = calibration, calibration.camera(size, rectified=self._rectified)
            self._note(calibration, size)
            self._doubt(calibration.doubts(chosen[1]))
        if next(reversed(self._newest.values())) is not calibration:
            self._say(f"{calibration.source} now gives another image size; the last one for {width}x{height} pixels is kept.")
        return chosen[1]

    def expected(self) -> Camera | None:
        """The camera of images whose size is not known yet: that of the last image, or else of the newest calibration.

        Raises:
            CalibrationError: what was said cannot be used for any image.
        """
        if self._chosen is not None:
            return self.camera(self._chosen[1].width, self._chosen[1].height)
        size = list(self._newest)[-1] if self._newest else None
        if size is not None:
            return self.camera(*size)
        if not self._newest and self._error is not None:
            raise self._error
        return None

    def _note(self, calibration: Calibration, size: Size) -> None:
        """Notes what was decided where it could have been decided otherwise."""
        source, images = calibration.source, self._images
        rectified = calibration.is_rectified(size, self._rectified)
        why = self._why(calibration)
        if calibration.note:
            self._say(calibration.note)
        if None in calibration.sizes(rectified):
            self._say(f"{source} gives no image size: that of the images is used, {size[0]}x{size[1]}.")
        if calibration.K is None:
            self._say(f"{source} has P but no K: {images} is treated as rectified.")
        elif rectified and calibration.P is None and _distorts(calibration):
            self._say(f"{images} is treated as rectified{why}; {source} has no P, so its K is used and nothing is undistorted.")
        elif rectified and (_distorts(calibration) or _moves(calibration)):
            self._say(
                f"{images} is treated as rectified{why}: P of {source} is used and nothing is undistorted "
                f"({self._option.format('no')} changes this)."
            )
        elif not rectified:
            if calibration.lens.note:
                self._say(f"{source}: {calibration.lens.note}")
            if calibration.P is not None and (_distorts(calibration) or _moves(calibration)):
                self._say(
                    f"{images} is treated as not rectified{why}: K and D of {source} are used ({self._option.format('yes')} "
                    "changes this)."
                )

    def _why(self, calibration: Calibration) -> str:
        if self._forced or calibration.rectified != "auto":
            return ", as configured"
        return ", by its name" if self._rectified is not None else ""

    def _doubt(self, sentences: list[str]) -> None:
        """Notes doubts of a new kind; an autofocus gives those of a kind with new numbers all the time."""
        for sentence in sentences:
            if _without_numbers(sentence) not in map(_without_numbers, self.doubts):
                self.doubts.append(sentence)
                self._say(sentence)

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.notes.append(sentence)


def _without_numbers(sentence: str) -> str:
    return re.sub(r"[-+.\de]*\d", "", sentence)


def _distorts(calibration: Calibration) -> bool:
    """Whether the images of the sensor differ from those of an ideal lens, as far as is known."""
    try:
        lens = calibration.lens
    except CalibrationError:
        return True
    return lens.model == EQUIDISTANT or bool(lens.distortion.any())


def _moves(calibration: Calibration) -> bool:
    """Whether rectified images have another K."""
    K, P = calibration.K, calibration.P
    return K is not None and P is not None and not np.allclose(K, P, rtol=_SAME, atol=_SAME)
