# SPDX-License-Identifier: Apache-2.0
"""Node `st3r_viewer`: a mapping node's map in the browser, from its topics alone, so that it may run on another machine."""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2

from st3r_ros.config import ViewerNodeConfig
from st3r_ros.errors import ConfigError, St3rError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.stamps import NANOSECONDS
from st3r_ros.msg import KeyframeGraph, MappingStatus
from st3r_ros.ros.nodes import parameters
from st3r_ros.ros.nodes.process import Stop, run
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.viewer import messages as viewer_messages
from st3r_ros.ros.viewer.buttons import Buttons
from st3r_ros.ros.viewer.inbox import Newest
from st3r_ros.viewer.facts import facts_html
from st3r_ros.viewer.frusta import KeyframeView
from st3r_ros.viewer.pictures import Thumbnail
from st3r_ros.viewer.scene import MapScene
from st3r_ros.viewer.server import address, close_server, exposure, open_server

_TICK_S = 0.1
_STATUS_PERIOD_S = 0.3
_MAX_PICTURES = 5000


class ViewerNode(Node):
    """Callbacks only store messages; a worker shows the newest ones while a browser is open.

    Started, it has the `url` of the page and its `scene`.
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__("st3r_viewer")
        parameters.declare(self, {"": ViewerNodeConfig})
        self._config = parameters.read(self, "", ViewerNodeConfig)
        self._pictures: dict[int, Thumbnail | None] = {}
        self._keyframe_clouds: deque[bytes] = deque(maxlen=5)
        self._keyframes: list[KeyframeView] = []
        self._graph: KeyframeGraph | None = None
        self._path: Path | None = None
        self._status: MappingStatus | None = None
        self._T_frame_cam = SE3.identity()
        self._worker: Worker[None] = Worker(
            lambda item: None, idle=self._refresh, report=self._report, idle_period=_TICK_S, name="viewer"
        )

    def start(self) -> None:
        """Open the page and subscribe.

        Raises:
            St3rError: the address cannot be used, or viser is not installed.
        """
        config = self._config
        self._server = open_server(config)
        self.url = address(config, self._server)
        self.scene = MapScene(self._server, config.max_points)
        with self._server.gui.add_folder("Status", order=0):
            self._facts = self._server.gui.add_html("")
        try:
            self._subscribe(config)
            self._buttons = Buttons(self, self._server, config.mapping_node)
        except InvalidTopicNameException as error:
            raise ConfigError(f"mapping_node is '{config.mapping_node}', which is not a valid node name: {error}") from error
        self._worker.start()
        self.get_logger().info(f"The map of {config.mapping_node} is on {self.url}.")
        if exposure(config.host):
            self.get_logger().warning(exposure(config.host))

    def close(self) -> None:
        """Take the page away."""
        self._worker.stop()
        if hasattr(self, "_server"):
            close_server(self._server)
        self.destroy_node()

    def _subscribe(self, config: ViewerNodeConfig) -> None:
        name = config.mapping_node
        self._new_cloud = Newest(self, PointCloud2, f"{name}/map_cloud", latched())
        self._new_graph = Newest(self, KeyframeGraph, f"{name}/keyframes", latched())
        self._new_path = Newest(self, Path, f"{name}/path", latched())
        self._new_pose = Newest(self, PoseWithCovarianceStamped, f"{name}/pose", stream(1))
        self._new_status = Newest(self, MappingStatus, f"{name}/status", latched())
        if config.thumbnails:
            self.create_subscription(PointCloud2, f"{name}/keyframe_cloud", self._on_keyframe_cloud, stream(5), raw=True)

    def _on_keyframe_cloud(self, data: bytes) -> None:
        self._keyframe_clouds.append(data)

    # On the worker ----------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        self._keep_pictures()
        if self.scene.clients == 0:
            return
        self._buttons.poll()
        self._show_status()
        self._show_graph()
        self._show_cloud()
        self._show_pose()
        self.scene.settle()

    def _keep_pictures(self) -> None:
        """Takes the picture of every keyframe, also without a browser: its cloud arrives only once."""
        while self._keyframe_clouds:
            message = deserialize_message(self._keyframe_clouds.popleft(), PointCloud2)
            stamp = message.header.stamp
            self._pictures[stamp.sec * NANOSECONDS + stamp.nanosec] = viewer_messages.picture_of_cloud(message)
            self._show_keyframes()
        while len(self._pictures) > _MAX_PICTURES:
            del self._pictures[next(iter(self._pictures))]

    def _show_status(self) -> None:
        self._status = self._new_status.take(_STATUS_PERIOD_S) or self._status
        note = self._status.message if self._status else "The mapping node has not published a status yet."
        if self.count_publishers(self._new_status.topic) == 0:
            self._status, note = None, viewer_messages.nobody(self._new_status.topic)
        self._facts.content = facts_html(viewer_messages.facts(self._status, self.scene.points), note)

    def _show_graph(self) -> None:
        """Keyframes and path. Where both tell of the same moment, they also tell where the camera is on the robot."""
        graph, path = (topic.take(self._config.update_period) for topic in (self._new_graph, self._new_path))
        if graph is not None:
            self._graph = graph
            self._show_keyframes()
            self._new_graph.done()
        if path is not None:
            self._path = path
            self.scene.show_path(viewer_messages.path_poses(path).translation)
            self._new_path.done()
        if (graph or path) and self._graph and self._path and self._graph.header.stamp == self._path.header.stamp:
            poses, at = viewer_messages.path_poses(self._path), viewer_messages.stamps(self._path)
            self._T_frame_cam = viewer_messages.camera_in_frame(poses, at, self._keyframes) or self._T_frame_cam

    def _show_keyframes(self) -> None:
        if self._graph is None:
            return
        self._keyframes = viewer_messages.keyframe_views(self._graph, self._pictures.get)
        self.scene.show_keyframes(self._keyframes, *viewer_messages.edge_arrays(self._graph))
        if not self._keyframes:
            self.scene.show_camera(None)

    def _show_cloud(self) -> None:
        cloud = self._new_cloud.take(self._config.update_period)
        if cloud is not None:
            begin = time.monotonic()
            self.scene.show_cloud(*viewer_messages.finite_cloud(cloud))
            self._new_cloud.done()
            self.get_logger().debug(f"{self.scene.points} points shown in {time.monotonic() - begin:.3f} s.")

    def _show_pose(self) -> None:
        pose = self._new_pose.take(_TICK_S)
        if pose is None:
            return
        T_map_cam = viewer_messages.pose_of(pose.pose.pose) @ self._T_frame_cam
        picture = next((k.picture for k in reversed(self._keyframes) if k.picture is not None), None)
        self.scene.show_camera(T_map_cam, *((picture.fov, picture.aspect) if picture else ()))

    def _report(self, error: Exception) -> None:
        if isinstance(error, St3rError):
            self.get_logger().warning(f"A message cannot be shown: {error}", throttle_duration_sec=5.0)
        else:
            self.get_logger().error("".join(traceback.format_exception(error)), throttle_duration_sec=5.0)


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `viewer_node`."""
    return run(ViewerNode, args)


if __name__ == "__main__":
    sys.exit(main())
