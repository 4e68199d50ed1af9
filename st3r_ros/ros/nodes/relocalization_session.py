# SPDX-License-Identifier: Apache-2.0
"""References, map and queries inside the node. Everything here runs on the worker thread, or before it starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger
from sensor_msgs.msg import CameraInfo

from st3r_ros.config import RelocalizationSettings
from st3r_ros.errors import ConfigError, FrameError, OutputError, St3rError
from st3r_ros.eval.matches_picture import draw_matches
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros.input.image_input import ImageInput
from st3r_ros.ros.nodes import queries
from st3r_ros.ros.nodes.references import ReferenceStore, StoredReference, check_name
from st3r_ros.ros.outputs.relocalization_outputs import RelocalizationOutputs
from st3r_ros.ros.tf.transforms import View
from st3r_ros.saved_maps import open_map
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.srv import SetReference
from st3r_ros.types import Frame, LocalizationResult

DEFAULT_NAME = "reference"
DOUBT_EVERY_S = 30.0


@dataclass(frozen=True, eq=False)
class LatestImage:
    """The newest live image and its age in seconds."""

    item: ImageInput
    age_s: float


class RelocalizationSession:
    """Feeds a `Relocalizer`, stores its references, publishes.

    References share one frame. At most one reference has no pose: its camera is that frame.
    settings: `configure` replaces them.
    last: the result of the last query, with these references or this map. problem: why its image could not be used, else "".
    rectified: whether the images of requests are, None where nothing tells.
    """

    def __init__(
        self,
        relocalizer: Relocalizer,
        outputs: RelocalizationOutputs,
        settings: RelocalizationSettings,
        store: ReferenceStore | None,
        logger: RcutilsLogger,
        rectified: bool | None = None,
    ) -> None:
        self.relocalizer, self.outputs, self.settings = relocalizer, outputs, settings
        self.references: dict[str, StoredReference] = {}
        self.map: KeyframeMap | None = None
        self.last: LocalizationResult | None = None
        self.problem = ""
        self._said: set[str] = set()
        self._store, self._logger, self._rectified = store, logger, rectified

    def configure(self, settings: RelocalizationSettings) -> None:
        """Uses other settings from the next image on."""
        self.settings, self.relocalizer.config = settings, settings.relocalizer
        self.outputs.configure(settings)

    def begin(self) -> None:
        """Loads the stored references, and the reference and the map of the settings.

        Raises:
            St3rError: those of the settings cannot be used. Damaged stored ones are reported in the log.
        """
        config = self.settings.node
        kept, problems = self._store.load() if self._store is not None else ([], [])
        given = None
        if config.reference:
            given = StoredReference(
                DEFAULT_NAME, queries.frame_with_calibration(config.reference, config.reference_camera, self._warn_once)
            )
            kept = [reference for reference in kept if reference.name != DEFAULT_NAME]
            self._use(given)
        for reference in kept:
            try:
                self._use(reference)
            except St3rError as error:
                problems.append(f"The stored reference '{reference.name}' cannot be used: {error}")
        for problem in problems:
            self._logger.warning(problem)
        if self.references:
            self._logger.info(f"References: {', '.join(self.references)}.")
        if config.map_path:
            self._logger.info(self.load_map(config.map_path))

    # References and map -----------------------------------------------------------------------------------------------

    def set_reference(self, request: SetReference.Request, latest: LatestImage | None, image_wait: float) -> str:
        """Executes a request and returns a message.

        Raises:
            St3rError: the request is invalid; nothing has changed.
        """
        name = check_name(request.name or DEFAULT_NAME)
        ways = (queries.is_given(request.image), bool(request.path), request.use_latest, request.remove)
        if sum(ways) != 1:
            raise ConfigError(f"{'Several' if any(ways) else 'None'} of image, path, use_latest and remove are given; give one.")
        if request.remove:
            return self._remove(name)
        reference = StoredReference(
            name, self._frame(request, latest, image_wait), queries.pose_given(request.pose), queries.depth_given(request.depth)
        )
        self._use(reference)
        kept = ""
        if self._store is not None:
            try:
                self._store.save(reference)
            except OutputError as error:
                raise OutputError(
                    f"StoredReference '{name}' is in use, but could not be stored for the next start: {error}"
                ) from error
            kept = " It is stored for the next start."
        height, width = reference.frame.image.shape[:2]
        of = f" from an image {latest.age_s:.2f} s old" if request.use_latest and latest is not None else ""
        return f"StoredReference '{name}' is set, {width}x{height}{of}.{kept}{self._map_goes_before()}"

    def load_map(self, folder: str) -> str:
        """Loads a saved map, or unloads it with ''; returns a message.

        Raises:
            MapFileError: it cannot be loaded; the current map is kept.
        """
        if not folder:
            self.relocalizer.use_map(None)
            self.map = None
            self._forget_last()
            return "The map is unloaded; poses are relative to the references."
        loaded = open_map(folder, self.relocalizer.model_name, self.settings.node.checkpoint).map
        self.relocalizer.use_map(loaded)
        self.map = loaded
        self._forget_last()
        unit = "metres" if loaded.scale.metric else "the map's own unit"
        return f"The map '{folder}' is in use: {len(loaded.keyframes)} keyframes, poses in {unit}."

    def _use(self, reference: StoredReference) -> None:
        frames = [other.name for other in self.references.values() if other.T_ref_cam is None and other.name != reference.name]
        if reference.T_ref_cam is None and frames:
            raise ConfigError(
                f"StoredReference '{frames[0]}' has no pose: its camera is the frame that all references share. Give "
                f"'{reference.name}' its pose in that frame, or remove '{frames[0]}', or set this one under its name."
            )
        frame, T, depth = reference.frame, reference.T_ref_cam, reference.depth
        self.relocalizer.set_reference(reference.name, frame, T_ref_cam=T, depth=depth)
        self.references[reference.name] = reference
        self._forget_last()

    def _remove(self, name: str) -> str:
        if name not in self.references:
            raise ConfigError(f"There is no reference '{name}'; there are: {', '.join(self.references) or 'none'}.")
        self.relocalizer.remove_reference(name)
        del self.references[name]
        self._forget_last()
        if self._store is not None:
            self._store.remove(name)
        return f"StoredReference '{name}' is removed."

    def _frame(self, request: SetReference.Request, latest: LatestImage | None, image_wait: float) -> Frame:
        camera = self._camera_given(request.camera_info)
        if request.path:
            return queries.frame_from_file(request.path, camera)
        if not request.use_latest:
            return queries.frame_from_message(request.image, camera)
        if request.camera_info != CameraInfo():
            raise ConfigError("use_latest uses the calibration of the image; leave camera_info empty.")
        if latest is None:
            raise FrameError("There is no live image yet; start the camera and activate this node.")
        if latest.age_s > image_wait:
            raise FrameError(f"The last live image is {latest.age_s:.1f} s old; at most {image_wait:g} s are allowed.")
        if latest.item.error is not None:
            raise FrameError(str(latest.item.error))
        return queries.frame_from_message(latest.item.message, latest.item.camera)

    def _map_goes_before(self) -> str:
        return "" if self.map is None else " It is not used while a map is loaded; ~/load_map without a folder unloads the map."

    # Queries ----------------------------------------------------------------------------------------------------------

    def localize(self, item: ImageInput, camera_info: CameraInfo | None = None) -> RelocalizationResult:
        """Localizes one image and publishes the result. camera_info: that of a request, instead of the item's camera."""
        header = queries.header_of(item.message)
        try:
            if item.error is not None:
                raise FrameError(str(item.error))
            camera = item.camera if camera_info is None else self._camera_given(camera_info)
            frame = queries.frame_from_message(item.message, camera)
            result = self.relocalizer.localize(frame)
            self.last, self.problem = result, ""
            if result.doubt:
                self._logger.warning(result.doubt, throttle_duration_sec=DOUBT_EVERY_S)
        except St3rError as error:
            self.last, self.problem = None, f"An image cannot be used: {error}"
            self._logger.warning(self.problem, throttle_duration_sec=5.0)
            return self.outputs.publish_unusable(str(error), header)
        # The frame of the answers is that of the references, or of the map, whose TF frame is level.
        T_frame_ref = SE3.identity() if self.map is None else item.anchor.of(self.map).T_map_world
        view = View(replace(item.anchor, T_map_world=T_frame_ref), frame.stamp_ns, item.parent is not None)
        message = self.outputs.publish(result, view)
        if self.outputs.picture_wanted:
            self.outputs.publish_picture(self._picture(frame, result), header)
        return message

    def _camera_given(self, info: CameraInfo) -> Camera | None:
        return queries.camera_given(info, self._rectified, self._warn_once)

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._logger.warning(sentence)

    def _forget_last(self) -> None:
        """Clears the last result, which was about other references."""
        self.last, self.problem = None, ""

    def _picture(self, frame: Frame, result: LocalizationResult) -> np.ndarray:
        seen = frame.image if result.query_image is None else result.query_image  # there was nothing to compare it with
        return draw_matches(seen, result.reference_image, result)
