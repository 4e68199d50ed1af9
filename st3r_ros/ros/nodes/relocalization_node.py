# SPDX-License-Identifier: Apache-2.0
"""Node `st3r_relocalization`: localizes a camera relative to a reference image or in a saved map, without an initial guess."""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.task import Future

from st3r_ros.config import NODE_SETTINGS, RelocalizationSettings, Validated
from st3r_ros.io.calibration import told_rectified
from st3r_ros.msg import RelocalizationResult
from st3r_ros.results import check_output_folder
from st3r_ros.ros.clocks import steady_timer
from st3r_ros.ros.input.image_input import ImageCounts, ImageInput, ImageSource
from st3r_ros.ros.input.topics import message_type
from st3r_ros.ros.nodes import parameters, queries
from st3r_ros.ros.nodes.managed_node import ManagedNode
from st3r_ros.ros.nodes.process import Stop, run
from st3r_ros.ros.nodes.references import ReferenceStore
from st3r_ros.ros.nodes.relocalization_session import LatestImage, RelocalizationSession
from st3r_ros.ros.nodes.situation import NOT_ACTIVE
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.outputs.diagnostics import OK, WARN, InputHealth, health
from st3r_ros.ros.outputs.relocalization_outputs import RelocalizationOutputs, unusable
from st3r_ros.ros.outputs.status import rss_mb
from st3r_ros.slam.keyframes.memory import gpu_bytes
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.srv import LoadMap, Relocalize, SetReference

_PARENT_HINT = "Set child_frame to the root of the robot's tree, or use ~/pose, which does not depend on TF."


class RelocalizationNode(ManagedNode):
    """Configured, it has a `session` (pair model, references, map). Active, it has a `source` of images."""

    def __init__(self, stop: Stop) -> None:
        self.session: RelocalizationSession | None = None
        self.source: ImageSource | None = None
        self._latest: ImageInput | None = None
        self._waiting: list[Future] = []
        super().__init__("st3r_relocalization", stop, NODE_SETTINGS["relocalization"])
        self._offer(SetReference, "set_reference", self._on_set_reference)
        self._offer(Relocalize, "relocalize", self._on_relocalize)
        self._offer(LoadMap, "load_map", self._on_load_map)

    # Lifecycle --------------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        settings = self._settings = parameters.read_settings(self, RelocalizationSettings)
        config = settings.node
        message_type(config.image_transport)  # raises when its messages are not installed
        store = None
        if config.reference_dir:
            check_output_folder(Path(config.reference_dir))
            store = ReferenceStore(Path(config.reference_dir))
        model = self._load_pair_model(config.pair_model, config.checkpoint)
        relocalizer = Relocalizer(model, settings.relocalizer)
        self._counts, self._input_health = ImageCounts(), InputHealth()
        outputs = RelocalizationOutputs(self, settings)
        rectified = told_rectified(self.resolve_topic_name("image"), config.rectified)
        self.session = RelocalizationSession(relocalizer, outputs, settings, store, self.get_logger(), rectified)
        self.session.begin()
        self._worker = Worker(self._process, idle=lambda: None, report=self._report, name="relocalization")
        self._worker.start()
        self._warm_up(model)

    def _listen(self) -> None:
        self._processed = -math.inf
        assert self.session is not None
        self._input_health = InputHealth()
        self.source = ImageSource(
            self,
            self._settings.node,
            self._counts,
            self._deliver,
            owns_transform=self.session.outputs.owns_transform,
            parent_hint=_PARENT_HINT,
        )
        self.get_logger().info(f"Subscribed to {self.source.topic} and {self.source.info_topic}.")

    def _finish(self) -> None:
        if self.source is None:
            return
        self.source.close()
        self.source = self._latest = None
        self._hand_out(None)
        self.worker.discard()
        self.worker.run(lambda: None).result()  # the current result is published while the publishers are still active

    def _release(self) -> None:
        self.session = None

    # Images -----------------------------------------------------------------------------------------------------------

    def _deliver(self, item: ImageInput) -> int:
        """On the executor: passes an image to waiting requests and, when due, to the worker; how many it replaces there."""
        rate, now = self._settings.node.rate, time.monotonic()
        if item.waited and item.error is not None:  # a stray one, and the next one comes now
            if rate:
                self.worker.submit(item, surely=True)
            return 0
        self._latest = item
        self._hand_out(item)
        if not rate or now - self._processed < 1.0 / rate:
            return 0
        self._processed = now
        return self.worker.submit(item)

    def _hand_out(self, item: ImageInput | None) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(item)

    def _process(self, item: ImageInput) -> None:
        """On the worker: localizes a live image."""
        assert self.session is not None
        self.session.localize(item)

    def _report(self, error: Exception) -> None:
        self._log_traceback("An image could not be localized", error)

    def _health(self) -> list[DiagnosticStatus]:
        session = self.session
        assert session is not None
        last, known = session.last, session.map is not None or bool(session.references)
        values: dict[str, object] = {
            "references": ", ".join(session.references),
            "map keyframes": 0 if session.map is None else len(session.map.keyframes),
            "last error": self._last_error,
        }
        if last is not None:
            values |= {"status": last.status.value, "inliers": last.inliers, "latency (ms)": last.latency_ms}
            values["camera"] = "assumed" if last.focal_estimated else "seems wrong" if last.doubt else "calibrated"
            values["reference camera"] = "assumed" if last.reference_assumed else "calibrated"
        level, message = OK if known else WARN, "No query yet." if known else "There is no reference and no map yet."
        if self.source is None:
            message = NOT_ACTIVE
        elif session.problem:
            level, message = WARN, session.problem
        elif last is not None:
            message = f"The last query: {last.reason}"
            level = WARN if last.doubt else level
        memory = {"process (MB)": rss_mb(), "gpu (MB)": gpu_bytes() / 1e6}
        return [
            health("relocalization", level, message, values),
            self._input_health.report(self.source, self._counts),
            health("memory", OK, f"{rss_mb():.0f} MB.", memory),
        ]

    # Services and parameters ------------------------------------------------------------------------------------------

    async def _on_set_reference(self, request: SetReference.Request, response: SetReference.Response) -> SetReference.Response:
        session, source = self.session, self.source
        assert session is not None
        latest = None
        if self._latest is not None and source is not None:
            latest = LatestImage(self._latest, source.waiting_s)
        await self._answer(response, partial(session.set_reference, request, latest, self._settings.node.image_wait))
        response.references = list(session.references)
        return response

    async def _on_load_map(self, request: LoadMap.Request, response: LoadMap.Response) -> LoadMap.Response:
        assert self.session is not None
        return await self._answer(response, partial(self.session.load_map, request.folder))

    async def _on_relocalize(self, request: Relocalize.Request, response: Relocalize.Response) -> Relocalize.Response:
        """Localizes the given image, or the next live one."""
        given = queries.is_given(request.image)
        item = None
        if self.source is not None:
            item = self._as_input(request) if given else await self._next_image()
        if item is None:
            response.message = self._why_nothing(request, given)
        else:
            await self._answer(response, partial(self._localize, item, request, response))
        if not response.result.message:  # the image has no result
            header = queries.header_of(request.image)
            response.result = unusable(response.message, header, self._settings.node.reference_frame)
        response.success = response.result.status == RelocalizationResult.LOCALIZED
        return response

    def _localize(self, item: ImageInput, request: Relocalize.Request, response: Relocalize.Response) -> str:
        """On the worker."""
        assert self.session is not None
        info = request.camera_info if queries.is_given(request.image) else None
        response.result = self.session.localize(item, info)
        return str(response.result.message)

    def _as_input(self, request: Relocalize.Request) -> ImageInput | None:
        """The image of a request, None while TF does not have the camera."""
        assert self.source is not None
        anchor = self.source.find_anchor(request.image.header.frame_id)
        if anchor is None:
            return None
        return ImageInput(request.image, None, anchor, parent=self.source.parent_of(anchor.frame_id))

    async def _next_image(self) -> ImageInput | None:
        """The next live image, None when none arrives in time."""
        image = Future()
        self._waiting.append(image)
        timer = steady_timer(self, self._settings.node.image_wait, partial(self._give_up, image))
        item: ImageInput | None = await image
        self.destroy_timer(timer)
        return item

    def _give_up(self, image: Future) -> None:
        if image in self._waiting:
            self._waiting.remove(image)
            image.set_result(None)

    def _why_nothing(self, request: Relocalize.Request, given: bool) -> str:
        if self.source is None:
            return "The node is not active; activate it."
        if given:
            child, camera = self._settings.node.child_frame, request.image.header.frame_id
            return f"There is no TF from {child} to the image's frame '{camera}' yet; publish the static transform of the camera."
        return self.source.silence()

    def _apply(self, groups: dict[str, Validated]) -> None:
        """Live parameters have changed: the session gets all settings anew, on the worker."""
        if self._worker is None or self.session is None:
            return
        self._settings = parameters.changed(self._settings, groups)
        if self.source is not None:
            self.source.follow(self._settings.node)
        self._worker.run(partial(self.session.configure, self._settings))


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `relocalization_node`."""
    return run(RelocalizationNode, args)


if __name__ == "__main__":
    sys.exit(main())
