# SPDX-License-Identifier: Apache-2.0
"""What TF tells of an image: the pose and the axes of its camera on the robot, and odometry at its stamp."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from st3r_ros.config import InputConfig
from st3r_ros.geometry.axes import OPTICAL, same_axes, stands_upright
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.tf.listener import TransformWatch
from st3r_ros.ros.tf.transforms import IDENTITY, MapAnchor
from st3r_ros.ros.tf.tree import TransformTree

_FAR_M = 10.0
"""Metres from the robot's base that hardly any camera on a robot is away; 30 cm or 100 mm read as metres are."""
RETRY_S = 1.0
"""Seconds without waiting after odometry was missing, so that images without odometry are mapped at full speed."""
_SAY_AGAIN_S = 30.0


class CameraPlacement:
    """Finds the anchor of a camera from TF, and detects other publishers of this node's transform.

    Names of frames are without a leading slash (`frame_name`). odometry: looked up at the stamp of an image; None without
    `odom_frame`. missing: what an image of which there is no anchor yet waits for. owns_transform, parent_hint: as for
    `TransformWatch`. map_begun: whether there is a map that an assumed camera has made.
    """

    def __init__(
        self,
        node: Node,
        config: InputConfig,
        owns_transform: Callable[[str, int], bool],
        parent_hint: str,
        map_begun: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config, self._logger, self._map_begun = config, node.get_logger(), map_begun
        self._anchor: MapAnchor | None = None
        self._image_frame = ""
        self._said: set[str] = set()
        self.missing = ""
        self.watch = TransformWatch(node, config, owns_transform, parent_hint)
        self.odometry: Odometry | None = None
        if config.odometry_frame:
            self.odometry = Odometry(self.watch.tf.tree, config.odometry_frame, config.odometry_wait, node.get_logger())

    def close(self) -> None:
        """Stops listening to TF."""
        self.watch.close()

    def follow(self, config: InputConfig) -> None:
        """A live parameter has changed."""
        self._config = self.watch.config = config

    def restart(self) -> None:
        """Looks the camera up again, for a new map."""
        self._anchor = None
        self._said.clear()

    @property
    def fault(self) -> str:
        """One sentence about a transform of camera, robot or odometry that cannot be true, "" without one."""
        anchor, tree = self._anchor, self.watch.tf.tree
        placed = not self._config.moving_frame or (anchor is not None and not anchor.is_assumed)
        frames = [] if placed else [self._config.moving_frame, self._image_frame]
        if self._config.odometry_frame and anchor is not None:
            frames += [self._config.odometry_frame, anchor.frame_id]
        return tree.fault(*frames)

    def find(self, image_frame: str) -> MapAnchor | None:
        """The anchor of any camera frame; None while TF does not have it."""
        image_frame = self._of_camera(image_frame)
        if self._anchor is not None and image_frame == self._image_frame:
            return self._anchor
        return self._known(image_frame)

    def of_image(self, image_frame: str, *, patient: bool) -> MapAnchor | None:
        """The anchor of the camera of an image, found once; None while waiting for TF of the camera or odometry."""
        image_frame = self._of_camera(image_frame)
        if self._anchor is None:
            self._image_frame = image_frame
            self._anchor = self._known(image_frame) or (None if patient else self._assumed(image_frame))
        elif image_frame and image_frame != self._image_frame:
            self._change(self._anchor, image_frame)
        elif self._anchor.is_assumed:
            self._anchor = self._arrived(image_frame) or self._anchor
        if self._anchor is not None and not self._config.moving_frame:
            self._warn_of_body(image_frame)
        if self._anchor is None:
            self.missing = f"TF from {self._config.moving_frame} to the camera frame '{image_frame}'"
        elif patient and self.odometry is not None and not self.odometry.known(self._anchor.frame_id):
            self.missing = f"TF from {self._config.odometry_frame} to {self._anchor.frame_id}"
            return None
        return self._anchor

    def _of_camera(self, image_frame: str) -> str:
        """The frame that an image names; "" where that cannot be a camera's."""
        if image_frame not in (self._config.fixed_frame, self._config.odometry_frame):
            return image_frame
        if image_frame:
            self._warn_once(
                f"The images name the frame '{image_frame}', which is not a camera's but that of the map or of odometry; it is "
                "ignored. Have the driver name the frame of the camera."
            )
        return ""

    def _known(self, image_frame: str) -> MapAnchor | None:
        """The anchor of a camera whose pose is known."""
        base_frame, axes = self._config.moving_frame, self._config.camera_axes
        if not base_frame:
            return MapAnchor.camera_only(image_frame or "camera", OPTICAL if axes == "body" else IDENTITY)
        T_base_image = self.watch.tf.tree.lookup(base_frame, image_frame) if image_frame else None
        if T_base_image is None:
            return None
        self._warn_of_distance(image_frame, T_base_image)
        if axes == "auto":
            axes, remark = tell_axes(
                base_frame, image_frame, T_base_image.rotation, optical_below(self.watch.tf.tree, image_frame)
            )
            self._warn_once(remark)
        is_optical = _is_named_optical(base_frame) or (base_frame == image_frame and axes == "optical")
        T_image_cam = OPTICAL if axes == "body" else IDENTITY
        return MapAnchor.on_robot(base_frame, T_base_image, image_frame, T_image_cam, base_is_optical=is_optical)

    def _assumed(self, image_frame: str) -> MapAnchor:
        """The anchor of a camera without TF."""
        base = self._config.moving_frame
        if image_frame:
            why = f"No TF from {base} to the camera frame '{image_frame}'"
            way_out = f"{self.watch.tf.tree.fault(base, image_frame)} Publish the static transform".lstrip()
        else:
            why = "The images name no camera frame (header.frame_id)"
            way_out = "Have the driver fill in the frame"
        self._logger.warning(
            f"{why}: the camera is assumed to be at {base} and to look forward. {way_out}, or set base_frame to '' when there is "
            "no robot."
        )
        axes = OPTICAL if self._config.camera_axes == "body" else IDENTITY
        return replace(MapAnchor.on_robot(base, OPTICAL @ axes.inverse(), image_frame, axes), is_assumed=True)

    def _arrived(self, image_frame: str) -> MapAnchor | None:
        """The anchor of a camera that was assumed, once TF has it, unless a map is built with the assumption."""
        found = self._known(image_frame)
        if found is not None and self._map_begun():
            self._warn_once(
                f"TF from {self._config.moving_frame} to the camera frame '{image_frame}' arrived after mapping had started "
                "without it; call ~/reset to start again with it."
            )
            return None
        if found is not None:
            self._logger.info(f"TF from {self._config.moving_frame} to the camera frame '{image_frame}' has arrived and is used.")
        return found

    def _change(self, before: MapAnchor, image_frame: str) -> None:
        """Handles a change of the images' frame: two cameras on one topic, or a restarted driver."""
        found = self._known(image_frame)
        then = f"TF does not have it, so '{self._image_frame}' is used"
        if found is not None:
            then = "its pose is looked up again" if self._config.moving_frame else "from now on its pose is published"
        self._logger.warning(
            f"The images' frame changed from '{self._image_frame}' to '{image_frame}': {then}. Do two cameras share the topic?",
            throttle_duration_sec=_SAY_AGAIN_S,
        )
        self._anchor = found or before
        if found is not None:
            self._image_frame = image_frame

    def _warn_of_body(self, image_frame: str) -> None:
        """Without a robot, warns when TF shows that the images' frame is not optical."""
        if self._config.camera_axes != "auto" or not self.watch.tf.listening or image_frame in self._said:
            return
        below = "" if _is_named_optical(image_frame) else optical_below(self.watch.tf.tree, image_frame)
        if below:
            self._said.add(image_frame)
            self._logger.warning(
                f"The images' frame '{image_frame}' has body axes (x forward): TF has the optical frame '{below}' below it. It "
                f"is treated as optical; have the driver name '{below}', or set camera_axes to body."
            )

    def _warn_of_distance(self, image_frame: str, T_base_image: SE3) -> None:
        distance = float(np.linalg.norm(T_base_image.translation))
        if distance > _FAR_M:
            self._warn_once(
                f"TF puts the camera frame '{image_frame}' {distance:.3g} m away from {self._config.moving_frame}: a camera on a "
                "robot is nearer. Is the transform in centimetres or millimetres?"
            )

    def _warn_once(self, remark: str) -> None:
        if remark and remark not in self._said:
            self._said.add(remark)
            self._logger.warning(remark)


class Odometry:
    """Looks up `odom_frame` -> robot. `pose` may wait up to `patience_s` seconds; call it on the worker thread."""

    def __init__(self, tree: TransformTree, odom_frame: str, patience_s: float, logger: RcutilsLogger) -> None:
        self._tree, self._odom_frame, self._patience_s, self._logger = tree, odom_frame, patience_s, logger
        self._impatient_until = 0.0

    def known(self, frame: str) -> bool:
        """Whether TF connects odometry with the frame."""
        return self._tree.lookup(self._odom_frame, frame) is not None

    def fault(self, frame: str) -> str:
        """One sentence about a transform between them that cannot be true, "" without one."""
        return self._tree.fault(self._odom_frame, frame)

    def pose(self, frame: str, stamp_ns: int) -> SE3 | None:
        """`T_odom_frame` at a stamp; None with a warning when TF does not have it."""
        now = time.monotonic()
        patience_s = 0.0 if now < self._impatient_until else self._patience_s
        T_odom_frame = self._tree.lookup(self._odom_frame, frame, stamp_ns, patience_s=patience_s)
        if T_odom_frame is None:
            if patience_s > 0.0:
                self._impatient_until = time.monotonic() + RETRY_S
            why = "at the stamps of the images" if self.known(frame) else "at all"
            way_out = self.fault(frame) or "Check the frames and the clocks, or give images more time with odom_wait."
            self._logger.warning(
                f"TF has no {self._odom_frame} -> {frame} {why}: images are mapped without odometry. {way_out}",
                throttle_duration_sec=_SAY_AGAIN_S,
            )
        return T_odom_frame


def tell_axes(base_frame: str, image_frame: str, R_base_image: np.ndarray, below: str) -> tuple[str, str]:
    """The axes ("optical" or "body") of the images' frame, and a warning about them, "" for none.

    Body axes are inferred only when the frame is not named optical and either has an optical frame below it in TF, or is upright
    in the base, which optical axes of a camera that looks ahead are not. below: that optical frame, "" for none.
    """
    if _is_named_optical(base_frame):
        return "optical", ""
    upright = stands_upright(R_base_image)
    if _is_named_optical(image_frame):
        if image_frame != base_frame and same_axes(R_base_image, np.eye(3)):
            return "optical", (
                f"TF gives the camera frame '{image_frame}' the axes of {base_frame}, so the camera would look straight up. If "
                "it looks ahead, publish its optical rotation (roll -1.5708, pitch 0, yaw -1.5708) or set camera_axes to body; "
                "if it does look up, set camera_axes to optical."
            )
        return "optical", ""
    if not (upright or below):
        return "optical", ""
    if image_frame == base_frame:
        reason = "it is the robot's own"
    elif below:
        reason = f"TF has the optical frame '{below}' below it"
    else:
        reason = f"it is upright in {base_frame} and not named optical"
    name = f"'{below}'" if below else "the optical frame"
    return "body", (
        f"The images' frame '{image_frame}' has body axes (x forward): {reason}. The camera is assumed to look along its x axis. "
        f"Have the driver name {name}, or set camera_axes to body to confirm this, or to optical if the camera looks along z."
    )


def optical_below(tree: TransformTree, frame: str) -> str:
    """The optical frame below a body frame in TF, rotated as in REP-103; "" for none."""
    for name in sorted(filter(_is_named_optical, tree.below(frame))):
        T_frame_optical: SE3 | None = tree.lookup(frame, name)
        if T_frame_optical is not None and same_axes(T_frame_optical.rotation, OPTICAL.rotation):
            return name
    return ""


def _is_named_optical(frame: str) -> bool:
    return "optical" in frame.lower()
