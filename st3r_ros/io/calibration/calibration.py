# SPDX-License-Identifier: Apache-2.0
"""The content of one calibration, before the images it is used for are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from st3r_ros.errors import CalibrationError, ImplausibleCalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.lens_names import Lens, find_lens
from st3r_ros.geometry.plausibility import examine

Size = tuple[int, int]
"""Width and height, pixels."""
RECTIFIED = ("auto", "yes", "no")

MAX_OFF_CENTRE = 0.15
"""Maximum distance of the principal point from the image centre for a calibration without a size, as a share of the sides."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The numbers of a calibration file or CameraInfo message, not yet checked against each other.

    source: what it is called in messages, such as "The calibration 'camera.yaml'".
    K: (3, 3) float64 of the images as the sensor takes them, None where they are not calibrated. size: of these images.
    lens_names: what names the lens, by the key that says it. coefficients: (N,) float64 of its distortion.
    P: (3, 3) float64, the K of the rectified images, None where it is not told. rectified_size: of these, where it differs.
    rectified: auto, or what a person has said of the images of this calibration: yes or no.
    note: a sentence that a person should read, or "". cropped: K is known to be of a part of the sensor's images.
    """

    source: str
    K: np.ndarray | None
    size: Size | None = None
    lens_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    coefficients: np.ndarray = field(default_factory=lambda: np.zeros(0))
    P: np.ndarray | None = None
    rectified_size: Size | None = None
    rectified: str = "auto"
    note: str = ""
    cropped: bool = False

    @staticmethod
    def of(camera: Camera, source: str = "The calibration") -> Calibration:
        """The calibration of a camera that is known."""
        names = {"distortion_model": camera.distortion_model}
        return Calibration(source, camera.K, (camera.width, camera.height), names, camera.distortion)

    @property
    def tells_nothing(self) -> bool:
        """Whether it marks the camera as uncalibrated."""
        return self.K is None and self.P is None

    @property
    def lens(self) -> Lens:
        """The lens of the images that are not rectified.

        Raises:
            CalibrationError: it is not supported, or what is said of it contradicts itself.
        """
        try:
            return find_lens(self.lens_names, self.coefficients)
        except CalibrationError as error:
            raise CalibrationError(f"{self.source} is wrong: {error}") from error

    def sizes(self, rectified: bool | None) -> set[Size | None]:
        """The sizes that its images may have; None where it is not told. rectified: as in `camera`."""
        of_rectified = self.rectified_size or self.size
        kinds = {self.is_rectified(size, rectified) for size in (self.size, of_rectified)}
        return {of_rectified if kind else self.size for kind in kinds}

    def is_rectified(self, size: Size | None, guess: bool | None) -> bool:
        """Whether images of a size are the rectified ones. guess: what their name says, None where it says nothing."""
        if self.rectified != "auto":
            return self.rectified == "yes"
        if self.K is None:
            return True
        if guess is None and self.rectified_size is not None and self.rectified_size != self.size:
            return size == self.rectified_size
        return bool(guess)

    def camera(self, size: Size | None = None, *, rectified: bool | None = None) -> Camera:
        """The camera of images.

        size: of the images; None takes the one that the calibration tells. rectified: whether they are; None where nothing tells.

        Raises:
            CalibrationError: it is incomplete, contradicts itself, is of no camera that can be used, or is for another size.
            ImplausibleCalibrationError: it cannot be right.
        """
        taken = self.is_rectified(size, rectified)
        K = self.K if not taken or self.P is None else self.P
        if K is None:
            raise CalibrationError(f"{self.source} has no focal lengths: its K is zero, so the camera is not calibrated.")
        own = self.rectified_size or self.size if taken else self.size
        width, height = self._checked_size(size, own, K)
        lens = Lens("plumb_bob", np.zeros(0)) if taken else self.lens
        try:
            camera = Camera(width, height, K, lens.model, lens.distortion)
        except CalibrationError as error:
            raise CalibrationError(f"{self.source} is wrong: {error}") from error
        fault = examine(camera, cropped=self.cropped).fault
        if fault:
            raise ImplausibleCalibrationError(f"{self.source} is wrong: {fault}")
        return camera

    def doubts(self, camera: Camera) -> list[str]:
        """What a person should know of a camera of this calibration, which is used all the same, as sentences."""
        doubts = examine(camera, cropped=self.cropped).doubts
        return [f"{self.source} is doubtful, but used: {doubt}" for doubt in doubts]

    def _checked_size(self, size: Size | None, own: Size | None, K: np.ndarray) -> Size:
        if size is None:
            if own is None:
                raise CalibrationError(f"{self.source} does not give the size of its images; add image_width and image_height.")
            return own
        if own is None:
            centre = np.array([K[0, 2], K[1, 2]])
            off = np.abs((centre + 0.5) / size - 0.5)
            if not (off < MAX_OFF_CENTRE).all():
                raise CalibrationError(
                    f"{self.source} gives no image size, and its principal point ({centre[0]:g}, {centre[1]:g}) is not in the "
                    f"centre of images of {size[0]}x{size[1]} pixels; calibrate at the size of the images."
                )
            return size
        if own == size:
            return own
        swapped = own == size[::-1]
        advice = "width and height are swapped: turn the images, or calibrate them as they are" if swapped else ""
        raise CalibrationError(
            f"{self.source} is for images of {own[0]}x{own[1]} pixels, but these have {size[0]}x{size[1]}; "
            f"{advice or 'calibrate at the size of the images'}."
        )

    def cut(self, x0: int, y0: int, size: Size | None) -> Calibration:
        """The calibration of the part of the images that starts at pixel (x0, y0)."""
        part = self._changed(np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]]), size)
        return dataclasses.replace(part, cropped=self.cropped or size != self.size)

    def binned(self, x: int, y: int) -> Calibration:
        """The calibration of the images that have one pixel for each x times y of these."""
        size = self.size and (self.size[0] // x, self.size[1] // y)
        sx, sy = (size[0] / self.size[0], size[1] / self.size[1]) if size and self.size else (1.0 / x, 1.0 / y)
        return self._changed(np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5], [0.0, 0.0, 1.0]]), size)

    def _changed(self, A: np.ndarray, size: Size | None) -> Calibration:
        K, P = (None if matrix is None else A @ matrix for matrix in (self.K, self.P))
        return dataclasses.replace(self, K=K, P=P, size=size)


def with_rectified(calibration: Camera | Calibration | None, rectified: str = "auto") -> Camera | Calibration | None:
    """A calibration with the setting of the user: auto, yes or no."""
    if calibration is None or rectified == "auto":
        return calibration
    told = Calibration.of(calibration) if isinstance(calibration, Camera) else calibration
    return dataclasses.replace(told, rectified=rectified)
