# SPDX-License-Identifier: Apache-2.0
"""The viewer node: topics in, a page in a real browser out, buttons back. A picture is kept in build/screenshots."""

import socket
import subprocess
import sys
import time
from pathlib import Path as FilePath

import numpy as np
import pytest
from ament_index_python.packages import get_package_prefix
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.duration import Duration
from rclpy.node import Node
from ros_harness import Ros, wait_until
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger

from st3r_ros.errors import ConfigError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import Keyframe, KeyframeGraph, MappingStatus
from st3r_ros.ros.conversions import header, pose_message, stamp_from_ns
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.outputs.map_messages import cloud_message
from st3r_ros.ros.qos import latched, stream
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.ros.viewer import messages as viewer_messages
from st3r_ros.ros.viewer.node import ViewerNode
from st3r_ros.srv import SaveMap

sys.path.insert(0, str(FilePath(__file__).parents[1] / "viewer"))

from browser import drawn_share, find_chromium, kept_picture, open_page

GREEN = np.array([30, 170, 40], np.uint8)


class Mapping(Node):
    """Publishes what a mapping node would, and notes which services are called; save_map is not there before `offer_save`."""

    def __init__(self) -> None:
        super().__init__("st3r_mapping")
        self.calls: list[str] = []
        self.cloud = self.create_publisher(PointCloud2, "~/map_cloud", latched())
        self.keyframe_cloud = self.create_publisher(PointCloud2, "~/keyframe_cloud", stream(5))
        self.keyframes = self.create_publisher(KeyframeGraph, "~/keyframes", latched())
        self.path = self.create_publisher(Path, "~/path", latched())
        self.pose = self.create_publisher(PoseWithCovarianceStamped, "~/pose", stream(10))
        self.status = self.create_publisher(MappingStatus, "~/status", latched())
        for name in ("pause", "resume", "reset"):
            self._offer(Trigger, name)

    def offer_save(self) -> None:
        self._offer(SaveMap, "save_map")

    def _offer(self, kind: type, name: str) -> None:
        def answer(request: object, response: object) -> object:
            self.calls.append(" ".join([name, *filter(None, [getattr(request, "folder", "")])]))
            response.success, response.message = name != "resume", f"The answer to {name}."
            return response

        self.create_service(kind, f"~/{name}", answer)

    def show_cloud(self, count: int, stamp_ns: int = 1) -> None:
        """A green wall in front of the first keyframe."""
        points = np.random.default_rng(0).uniform((2, -2, -1), (2.2, 2, 2), (count, 3)).astype(np.float32)
        self.cloud.publish(cloud_message(header(stamp_ns, "map"), points, np.tile(GREEN, (count, 1)), np.ones(count, np.float32)))

    def show_rest(self) -> None:
        """Two keyframes side by side, the path through them, the pose, the status."""
        stamps_ns, poses = [1, 2], [OPTICAL, SE3(OPTICAL.rotation, np.array([0.0, 0.5, 0.0]))]
        self.status.publish(MappingStatus(state=MappingStatus.TRACKING, keyframes=2, message="All <is> well.", fps=12.3))
        self.keyframes.publish(
            KeyframeGraph(
                header=header(2, "map"),
                keyframes=[
                    Keyframe(id=i, stamp=stamp_from_ns(stamps_ns[i]), pose=pose_message(pose)) for i, pose in enumerate(poses)
                ],
            )
        )
        self.path.publish(path_message(stamps_ns, poses))
        pose = PoseWithCovarianceStamped(header=header(2, "map"))
        pose.pose.pose = pose_message(poses[1])
        self.pose.publish(pose)


def path_message(stamps_ns: list[int], poses: list[SE3]) -> Path:
    from geometry_msgs.msg import PoseStamped

    items = [PoseStamped(header=header(s, "map"), pose=pose_message(pose)) for s, pose in zip(stamps_ns, poses, strict=True)]
    return Path(header=header(stamps_ns[-1], "map"), poses=items)


def organised_cloud(stamp_ns: int) -> PointCloud2:
    v, u = np.mgrid[:60, :80].astype(np.float32)
    points = np.stack([(u - 39.5) / 70, (v - 29.5) / 70, np.ones_like(u)], axis=-1)
    colors = np.broadcast_to(np.array([30, 60, 220], np.uint8), (60, 80, 3))
    return cloud_message(header(stamp_ns, "camera"), points, colors, np.ones((60, 80), np.float32))


def green_share(canvas: np.ndarray) -> float:
    """Share of the pixels that are clearly green."""
    r, g, b = np.moveaxis(canvas.astype(int), -1, 0)
    return float(((g > 110) & (g > r + 60) & (g > b + 60)).mean())


def blue_share(canvas: np.ndarray) -> float:
    """Share of the pixels that are clearly blue, as `organised_cloud` is."""
    r, g, b = np.moveaxis(canvas.astype(int), -1, 0)
    return float(((b > 110) & (b > r + 60) & (b > g + 60)).mean())


@pytest.fixture
def both(ros: Ros) -> tuple[ViewerNode, Mapping]:
    ros.init("-p", "port:=0", "-p", "max_points:=20000", "-p", "update_period:=0.05")
    mapping, viewer = Mapping(), ViewerNode(Stop())
    viewer.start()
    ros.spin(mapping)
    ros.spin(viewer)
    return viewer, mapping


@pytest.mark.skipif(find_chromium() is None, reason="there is no chromium; install it with: apt install chromium")
def test_the_map_is_seen_and_the_buttons_reach_the_mapping_node(both: tuple[ViewerNode, Mapping], tmp_path: FilePath) -> None:
    viewer, mapping = both
    with open_page(viewer.url, tmp_path) as page:
        page.wait_for_text("The mapping node has not published a status yet.")
        page.wait_for(lambda: drawn_share(page.canvas()) < 0.01, "the empty page")
        assert blue_share(page.canvas()) == 0
        wait_until(mapping.keyframe_cloud.get_subscription_count, "the subscription")
        mapping.show_cloud(60_000)
        mapping.show_rest()
        mapping.keyframe_cloud.publish(organised_cloud(1))
        page.wait_for_text("tracking", "12.3 images/s", "All <is> well.", "60,000", "of 60,000 points are shown")
        assert "60,000 of 60,000" not in page.text  # thinned
        page.wait_for(lambda: green_share(page.canvas()) > 0.05, "the green wall")
        page.wait_for(lambda: blue_share(page.canvas()) > 0, "the keyframe's picture")
        page.canvas(kept_picture("viewer_node.png"))

        page.press("Pause")
        page.wait_for_text("Pause: The answer to pause.")
        page.press("Resume")
        page.wait_for_text("Resume: refused. The answer to resume.")
        page.press("Save the map")
        page.wait_for_text("Save: there is no service /st3r_mapping/save_map")
        mapping.offer_save()
        wait_until(next(c for c in viewer.clients if c.srv_name.endswith("/save_map")).service_is_ready, "save_map")
        page.press("Save the map")
        page.wait_for_text("Save: The answer to save_map.")
        page.press("Reset ...")
        page.wait_for_text("Forget the map?")
        page.press("Keep it")
        page.wait_for(lambda: "Forget the map?" not in page.text, "the end of the dialogue")
        assert mapping.calls == ["pause", "resume", "save_map"]
        page.press("Reset ...")
        page.wait_for_text("Forget the map?")
        page.press("Forget it")
        page.wait_for_text("Reset: The answer to reset.")

        mapping.show_cloud(0, stamp_ns=2)
        page.wait_for_text("0 of 0 points are shown")
        page.wait_for(lambda: green_share(page.canvas()) < 0.001, "the wall to vanish")
    assert mapping.calls == ["pause", "resume", "save_map", "reset"]


def test_nothing_is_taken_apart_while_nobody_looks(both: tuple[ViewerNode, Mapping], monkeypatch: pytest.MonkeyPatch) -> None:
    viewer, mapping = both
    taken: list[str] = []
    for name in ("finite_cloud", "picture_of_cloud"):
        take = getattr(viewer_messages, name)
        monkeypatch.setattr(viewer_messages, name, lambda *of, name=name, take=take: taken.append(name) or take(*of))
    wait_until(mapping.cloud.get_subscription_count, "the subscription of the cloud")
    wait_until(mapping.keyframe_cloud.get_subscription_count, "the subscription of the keyframes' clouds")
    mapping.show_cloud(1000)
    assert mapping.cloud.wait_for_all_acked(Duration(seconds=20))
    mapping.keyframe_cloud.publish(organised_cloud(1))  # of this there is no second one
    wait_until(lambda: taken, "the picture")
    time.sleep(0.3)  # more than one look of the worker
    assert taken == ["picture_of_cloud"]
    assert viewer.scene.points == 0
    monkeypatch.setattr(type(viewer.scene), "clients", property(lambda scene: 1))
    wait_until(lambda: viewer.scene.points == 1000, "the cloud that has waited")
    assert taken == ["picture_of_cloud", "finite_cloud"]


def test_the_camera_stands_where_the_robots_camera_is(both: tuple[ViewerNode, Mapping], monkeypatch: pytest.MonkeyPatch) -> None:
    """The pose is the robot's; path and keyframes tell where the camera is on it."""
    viewer, mapping = both
    monkeypatch.setattr(type(viewer.scene), "clients", property(lambda scene: 1))
    shown: list[SE3 | None] = []
    show = viewer.scene.show_camera
    monkeypatch.setattr(viewer.scene, "show_camera", lambda T, *rest: show(T, *rest) or shown.append(T))
    T_map_base = SE3(np.eye(3), np.array([1.0, 2.0, 0.0]))
    T_base_cam = SE3(OPTICAL.rotation, np.array([0.2, 0.0, 0.5]))
    T_map_cam = T_map_base @ T_base_cam
    keyframe = Keyframe(id=0, stamp=stamp_from_ns(5), pose=pose_message(T_map_cam))
    mapping.keyframes.publish(KeyframeGraph(header=header(5, "map"), keyframes=[keyframe]))
    mapping.path.publish(path_message([5], [T_map_base]))
    pose = PoseWithCovarianceStamped(header=header(6, "map"))
    pose.pose.pose = pose_message(T_map_base)
    wait_until(mapping.pose.get_subscription_count, "the subscription of the pose")

    def is_there() -> bool:
        mapping.pose.publish(pose)  # the camera's place on the robot may be known later
        at = shown[-1] if shown else None
        return at is not None and np.allclose(at.as_matrix(), T_map_cam.as_matrix())

    wait_until(is_there, "the camera in its place")


def test_a_broken_cloud_is_reported_and_the_next_is_shown(
    both: tuple[ViewerNode, Mapping], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    viewer, mapping = both
    monkeypatch.setattr(type(viewer.scene), "clients", property(lambda scene: 1))
    mapping.cloud.publish(PointCloud2(width=10, height=1, point_step=16))
    reported: list[str] = []
    wait_until(lambda: reported.append(capfd.readouterr().err) or "cannot be shown: The cloud" in "".join(reported), "the report")
    mapping.show_cloud(500)
    wait_until(lambda: viewer.scene.points == 500, "the good cloud")


def run_viewer(*parameters: str) -> subprocess.CompletedProcess[str]:
    program = FilePath(get_package_prefix("st3r_ros"), "lib", "st3r_ros", "viewer_node")
    arguments = [word for parameter in parameters for word in ("-p", parameter)]
    command = [sys.executable, str(program), "--ros-args", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_port_in_use_ends_the_node_with_a_sentence() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = run_viewer(f"port:={port}")
    assert result.returncode == 2
    assert f"Error: Port {port} of 127.0.0.1 is in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_name_that_is_none_is_a_clear_error(ros: Ros) -> None:
    ros.init("-p", "port:=0", "-p", "mapping_node:='no name'")
    node = ViewerNode(Stop())
    try:
        with pytest.raises(ConfigError, match="mapping_node is 'no name'"):
            node.start()
    finally:
        node.close()


def test_listening_for_others_is_warned_about(ros: Ros, capfd: pytest.CaptureFixture[str]) -> None:
    ros.init("-p", "port:=0", "-p", "host:=0.0.0.0")
    node = ViewerNode(Stop())
    try:
        node.start()
    finally:
        node.close()
    warning = capfd.readouterr().err
    assert "[WARN]" in warning
    assert "everybody who can reach it" in warning
