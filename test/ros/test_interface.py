# SPDX-License-Identifier: Apache-2.0
"""The ROS interface as a client finds it in the live graph: mapping, relocalization and camera node side by side.

The tables here are the interface, written down once more by hand: nothing of the package's own names or QoS is imported.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from interface_client import ANYTHING, EVERYTHING, LATCHED, Client, stamp
from lifecycle_msgs.msg import TransitionEvent
from nav_msgs.msg import OccupancyGrid, Odometry, Path
from rcl_interfaces.msg import ParameterType
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from ros_harness import Ros, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from st3r_ros.msg import KeyframeGraph, MappingStatus, RelocalizationResult
from st3r_ros.ros.nodes.camera_node import CameraNode
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode
from st3r_ros.srv import ExportMap, LoadMap, Relocalize, SaveMap, SetReference

NODES = ("/st3r_mapping", "/st3r_relocalization", "/st3r_camera")
LIFECYCLE_NODES = NODES[:2]
CAMERA = "camera_optical_frame"
KEPT = DurabilityPolicy.TRANSIENT_LOCAL
SENT = DurabilityPolicy.VOLATILE
RELIABLE = ReliabilityPolicy.RELIABLE
BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT


class Topic(NamedTuple):
    """A topic of a node. depth: None where no parameter tells it."""

    node: str
    name: str
    kind: Any
    reliability: ReliabilityPolicy = RELIABLE
    durability: DurabilityPolicy = SENT
    depth: int | None = None


MAPPING, RELOCALIZATION, CAMERA_NODE = NODES
PUBLISHED = [
    Topic(MAPPING, "/st3r_mapping/map_cloud", PointCloud2, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/st3r_mapping/keyframe_cloud", PointCloud2, RELIABLE, SENT, 5),
    Topic(MAPPING, "/st3r_mapping/keyframes", KeyframeGraph, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/st3r_mapping/pose", PoseWithCovarianceStamped, RELIABLE, SENT, 10),
    Topic(MAPPING, "/st3r_mapping/odometry", Odometry, RELIABLE, SENT, 10),
    Topic(MAPPING, "/st3r_mapping/path", Path, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/st3r_mapping/status", MappingStatus, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/st3r_mapping/markers", MarkerArray, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/st3r_mapping/grid", OccupancyGrid, RELIABLE, KEPT, 1),
    Topic(MAPPING, "/diagnostics", DiagnosticArray, RELIABLE, SENT, 1),
    Topic(MAPPING, "/tf", TFMessage, RELIABLE, SENT, 100),
    Topic(RELOCALIZATION, "/st3r_relocalization/result", RelocalizationResult, RELIABLE, KEPT, 10),
    Topic(RELOCALIZATION, "/st3r_relocalization/pose", PoseWithCovarianceStamped, RELIABLE, SENT, 10),
    Topic(RELOCALIZATION, "/st3r_relocalization/matches", Image, RELIABLE, SENT, 2),
    Topic(RELOCALIZATION, "/diagnostics", DiagnosticArray, RELIABLE, SENT, 1),
    Topic(RELOCALIZATION, "/tf", TFMessage, RELIABLE, SENT, 100),
    Topic(CAMERA_NODE, "/image", Image),
    Topic(CAMERA_NODE, "/image/compressed", CompressedImage),
    Topic(CAMERA_NODE, "/camera_info", CameraInfo),
    Topic(CAMERA_NODE, "/clock", Clock),
]
SUBSCRIBED = [
    Topic(MAPPING, "/image", Image, BEST_EFFORT, SENT, 1),
    Topic(MAPPING, "/camera_info", CameraInfo, BEST_EFFORT, SENT, 1),
    Topic(MAPPING, "/initialpose", PoseWithCovarianceStamped),
    Topic(MAPPING, "/mask", Image, BEST_EFFORT, SENT, 1),
    Topic(RELOCALIZATION, "/image", Image, BEST_EFFORT, SENT, 1),
    Topic(RELOCALIZATION, "/camera_info", CameraInfo, BEST_EFFORT, SENT, 1),
]
TF_INPUT = {"/tf": SENT, "/tf_static": KEPT}
"""Listened to at first and now and then, not always."""
OF_ROS = {"/rosout", "/parameter_events"}

SERVICES = {
    MAPPING: {
        "reset": Trigger,
        "pause": Trigger,
        "resume": Trigger,
        "save_map": SaveMap,
        "load_map": LoadMap,
        "export_map": ExportMap,
    },
    RELOCALIZATION: {"set_reference": SetReference, "relocalize": Relocalize, "load_map": LoadMap},
    CAMERA_NODE: {},
}
SERVICES_OF_ROS = {
    f"{name}{word}" for name in ("get_", "set_", "list_", "describe_", "change_") for word in ("parameters", "state")
} | {
    "get_parameter_types",
    "set_parameters_atomically",
    "get_available_states",
    "get_available_transitions",
    "get_transition_graph",
    "get_type_description",
}
# Parameters that the interface names, with their defaults where it tells them; LIVE of them can be changed while the node runs.
PARAMETERS: dict[str, dict[str, Any]] = {
    MAPPING: {
        "map_frame": "map",
        "odom_frame": "",
        "publish_tf": True,
        "transform_publish_period": 0.05,
        "transform_tolerance": 0.1,
        "map_path": "",
        "mode": "mapping",
        "image_transport": "raw",
        "pair_model": "opencv",
        "checkpoint": "",
        "mast3r.device": "auto",
        "cloud.voxel_size": 0.02,
        "autostart": True,
    },
    RELOCALIZATION: {"rate": 0.0, "reference_frame": "reference", "publish_tf": True, "map_path": "", "pair_model": "opencv"},
    CAMERA_NODE: {"frame_id": CAMERA, "camera": "", "every": 1},
}
LIVE = {
    MAPPING: {"publish_tf", "transform_tolerance", "cloud.voxel_size"},
    RELOCALIZATION: {"rate", "publish_tf"},
    CAMERA_NODE: set(),
}


class Live:
    """The three nodes, and a client that hears everything. seen: the stamps of the images."""

    def __init__(self, ros: Ros) -> None:
        settings = {
            "st3r_camera:source": "sim:room?seed=2&frames=24&fps=8&width=320&height=240",
            "st3r_camera:rate": 0.5,
            "st3r_camera:loop": True,
            "st3r_camera:stamp_now": True,
            "st3r_camera:publish_clock": True,
            "st3r_mapping:base_frame": "",
            "st3r_mapping:status_period": 0.1,
            "st3r_mapping:map_publish_period": 0.0,
            "st3r_mapping:grid.enabled": True,
        }
        ros.init(*(word for name, value in settings.items() for word in ("-p", f"{name}:={json.dumps(value)}")))
        self.client = Client()
        self.seen: set[int] = set()
        for topic in PUBLISHED:
            if topic.kind is not Image and topic.name not in self.client.heard:
                self.client.hear(topic.name, topic.kind, LATCHED if topic.durability == KEPT else EVERYTHING)
        self.client.create_subscription(Image, "/image", self._on_image, EVERYTHING)
        ros.spin(self.client)
        for kind in (MappingNode, RelocalizationNode, CameraNode):
            stop = Stop()
            node = kind(stop)
            ros.spin(node)
            node.start()
            assert stop.exit_code == 0, f"{kind.__name__} did not start; its log says why."
        wait_until(lambda: all(published_by(self.client, name) - OF_ROS for name in NODES), "the nodes in the graph", 90.0)

    def _on_image(self, image: Image) -> None:
        self.seen.add(stamp(image.header))

    def newest(self, topic: str) -> Any:
        """The newest message of a topic, once there is one."""
        heard = self.client.heard[topic]
        wait_until(lambda: heard, topic)
        return heard[-1]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    ros = Ros()
    try:
        yield Live(ros)
    finally:
        ros.stop()


def name_of(kind: Any) -> str:
    """`sensor_msgs/msg/Image` of the class."""
    package, folder, _ = kind.__module__.split(".", 2)
    return f"{package}/{folder}/{kind.__name__}"


def check(topic: Topic, infos: list[Any], client: Client, side: str) -> None:
    """One endpoint of the node, and what the graph and the parameters tell of it."""
    own = [info for info in infos if f"{info.node_namespace.rstrip('/')}/{info.node_name}" == topic.node]
    assert {info.topic_type for info in own} == {name_of(topic.kind)}
    assert len(own) == (2 if topic.name == "/mask" else 1)  # masks are heard from latched and other publishers
    assert (topic.reliability, topic.durability) in [(i.qos_profile.reliability, i.qos_profile.durability) for i in own]
    if topic.depth is not None:
        assert client.parameters(topic.node)[f"qos_overrides.{topic.name}.{side}.depth"] == topic.depth


@pytest.mark.parametrize("topic", PUBLISHED, ids=lambda topic: topic.node.strip("/") + topic.name)
def test_it_is_published_with_its_type_and_qos(live: Live, topic: Topic) -> None:
    client = live.client
    wait_until(lambda: topic.name in published_by(client, topic.node), f"{topic.name} of {topic.node}", 60.0)
    check(topic, client.get_publishers_info_by_topic(topic.name), client, "publisher")


@pytest.mark.parametrize("topic", SUBSCRIBED, ids=lambda topic: topic.node.strip("/") + topic.name)
def test_it_is_listened_to_with_its_type_and_qos(live: Live, topic: Topic) -> None:
    client = live.client
    wait_until(lambda: topic.name in subscribed_by(client, topic.node), f"{topic.name} at {topic.node}")
    check(topic, client.get_subscriptions_info_by_topic(topic.name), client, "subscription")


def published_by(client: Client, node: str) -> set[str]:
    try:
        return {name for name, _ in client.get_publisher_names_and_types_by_node(node[1:], "/")}
    except RuntimeError:  # not discovered yet
        return set()


def subscribed_by(client: Client, node: str) -> set[str]:
    try:
        return {name for name, _ in client.get_subscriber_names_and_types_by_node(node[1:], "/")}
    except RuntimeError:
        return set()


@pytest.mark.parametrize("node", NODES)
def test_nothing_else_is_published_or_listened_to(live: Live, node: str) -> None:
    events = {f"{node}/transition_event"} if node in LIFECYCLE_NODES else set()
    published = {topic.name for topic in PUBLISHED if topic.node == node}
    subscribed = {topic.name for topic in SUBSCRIBED if topic.node == node}
    wait_until(lambda: published <= published_by(live.client, node), "all publishers", 120.0)
    assert published_by(live.client, node) == published | OF_ROS | events
    for info in live.client.get_publishers_info_by_topic(f"{node}/transition_event"):
        assert info.topic_type == name_of(TransitionEvent)
    wait_until(lambda: subscribed <= subscribed_by(live.client, node), "all subscriptions", 120.0)
    assert subscribed_by(live.client, node) - OF_ROS - set(TF_INPUT) == subscribed
    for topic, durability in TF_INPUT.items():
        for info in live.client.get_subscriptions_info_by_topic(topic):
            if f"/{info.node_name}" in LIFECYCLE_NODES:
                assert info.qos_profile.durability == durability


@pytest.mark.parametrize("node", NODES)
def test_the_services_have_their_types_and_every_answer_says_whether_and_why(live: Live, node: str) -> None:
    client, expected = live.client, {f"{node}/{name}": [name_of(kind)] for name, kind in SERVICES[node].items()}

    def offered() -> dict[str, list[str]]:
        found = dict(client.get_service_names_and_types_by_node(node[1:], "/"))
        return {name: kinds for name, kinds in found.items() if name.rpartition("/")[2] not in SERVICES_OF_ROS}

    wait_until(lambda: len(offered()) >= len(expected), "all services")
    assert offered() == expected
    for kind in SERVICES[node].values():
        fields = kind.Response.get_fields_and_field_types()
        assert fields["success"] == "boolean"
        assert fields["message"] == "string"


def headers(message: Any) -> list[Header]:
    """The headers of a message that are about an image of their own."""
    if isinstance(message, MarkerArray):
        return [marker.header for marker in message.markers]
    if isinstance(message, Path):
        return [message.header, *(pose.header for pose in message.poses)]
    if isinstance(message, TFMessage):
        return [transform.header for transform in message.transforms]
    return [message.header]


IN_MAP = ["map_cloud", "keyframes", "pose", "odometry", "path", "markers", "grid", "status"]


@pytest.mark.parametrize("topic", [*(f"/st3r_mapping/{name}" for name in (*IN_MAP, "keyframe_cloud")), "/tf"])
def test_every_stamp_is_that_of_an_image_and_every_frame_is_known(live: Live, topic: str) -> None:
    def stamped() -> list[Any]:  # a latched message may be from before the first image
        return [message for message in live.client.heard[topic] if any(stamp(header) for header in headers(message))]

    wait_until(stamped, f"a message with a stamp on {topic}")
    found = {stamp(header) for message in stamped() for header in headers(message)}
    wait_until(lambda: found <= live.seen, "the images of all stamps to be heard here, too", 5.0)
    frames = {header.frame_id for message in stamped() for header in headers(message)}
    of_relocalization = {"reference"} if topic == "/tf" else set()  # there once another test has asked it
    assert frames - of_relocalization == ({CAMERA} if topic.endswith("keyframe_cloud") else {"map"})


def test_without_a_robot_tf_tells_where_the_camera_is_with_each_pose(live: Live) -> None:
    transforms = live.client.heard["/tf"]
    poses = live.client.heard["/st3r_mapping/pose"]
    wait_until(lambda: len(transforms) > 3 and len(poses) > 3, "poses and transforms")
    edges = [t for message in transforms for t in message.transforms if t.header.frame_id == "map"]
    assert {t.child_frame_id for t in edges} == {CAMERA}
    by_stamp = {stamp(t.header): t.transform for t in edges}
    common = [pose for pose in poses if stamp(pose.header) in by_stamp]
    assert len(common) >= min(len(transforms), len(poses)) - 1
    for pose in common:
        told, said = by_stamp[stamp(pose.header)], pose.pose.pose
        assert (told.translation.x, told.translation.y, told.translation.z) == (said.position.x, said.position.y, said.position.z)
        assert told.rotation == said.orientation


def test_odometry_says_what_pose_says(live: Live) -> None:
    poses = live.client.heard["/st3r_mapping/pose"]
    odometry = live.newest("/st3r_mapping/odometry")
    assert odometry.child_frame_id == CAMERA
    wait_until(lambda: any(pose.header.stamp == odometry.header.stamp for pose in poses), "the pose of the same image")
    assert odometry.pose == next(pose.pose for pose in poses if pose.header.stamp == odometry.header.stamp)


def test_clouds_have_colours_and_the_newest_keyframe_has_a_point_per_pixel(live: Live) -> None:
    wait_until(lambda: live.newest("/st3r_mapping/map_cloud").width > 0, "a map")
    for topic in ("map_cloud", "keyframe_cloud"):
        cloud = live.newest(f"/st3r_mapping/{topic}")
        assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "conf"]
        assert len(cloud.data) == cloud.row_step * cloud.height == cloud.point_step * cloud.width * cloud.height
        assert (cloud.height > 1) is (topic == "keyframe_cloud")
    points = np.frombuffer(live.newest("/st3r_mapping/map_cloud").data, "<f4").reshape(-1, 5)
    assert np.isfinite(points[:, :3]).all()
    assert live.newest("/st3r_mapping/map_cloud").is_dense


def test_the_keyframes_are_those_of_the_path(live: Live) -> None:
    def known() -> bool:
        graph, path = live.newest("/st3r_mapping/keyframes"), live.newest("/st3r_mapping/path")
        stamps = {(pose.header.stamp.sec, pose.header.stamp.nanosec) for pose in path.poses}
        return len(graph.keyframes) > 1 and all((k.stamp.sec, k.stamp.nanosec) in stamps for k in graph.keyframes)

    wait_until(known, "a path through two keyframes and more")
    graph = live.newest("/st3r_mapping/keyframes")
    ids = {keyframe.id for keyframe in graph.keyframes}
    assert graph.edges
    assert all(edge.i in ids and edge.j in ids for edge in graph.edges)
    assert all(keyframe.scale > 0 for keyframe in graph.keyframes)


def test_the_status_tells_all_that_it_is_there_for(live: Live) -> None:
    states = ("WAITING", "INITIALIZING", "TRACKING", "LOST", "RELOCALIZED", "PAUSED")
    assert sorted(getattr(MappingStatus, name) for name in states) == list(range(6))
    wait_until(lambda: live.newest("/st3r_mapping/status").keyframes > 1, "a map")
    status = live.newest("/st3r_mapping/status")
    assert status.fps > 0 and status.map_mb > 0 and status.memory_mb > 0
    assert status.frames_processed <= status.frames_received
    assert "total" in status.stage_names
    assert len(status.stage_names) == len(status.stage_median_ms) == len(status.stage_p95_ms)
    assert status.scale_source == "none" and np.isnan(status.scale_sigma)


def test_the_diagnostics_name_the_node_and_come_once_a_second(live: Live) -> None:
    def told() -> dict[str, list[int]]:
        stamps: dict[str, list[int]] = {}
        for array in live.client.heard["/diagnostics"]:
            for name in {status.name.partition(": ")[0] for status in array.status}:
                stamps.setdefault(name, []).append(stamp(array.header))
        return stamps

    wait_until(lambda: all(len(told().get(node[1:], [])) > 3 for node in LIFECYCLE_NODES), "diagnostics of both nodes")
    for stamps in told().values():
        assert np.median(np.diff(stamps)) == pytest.approx(1e9, rel=0.5)
    items = {
        status.name.partition(": ")[2]: {value.key for value in status.values}
        for array in live.client.heard["/diagnostics"]
        for status in array.status
        if status.name.startswith("st3r_mapping: ")
    }
    keys = set().union(*items.values())
    assert set(items) - {"lifecycle"} == {"tracking", "input", "processing", "memory"}  # lifecycle: before it is configured
    assert {"state", "rate (Hz)", "age (s)", "dropped", "total median (ms)", "process (MB)", "gpu (MB)", "last error"} <= keys


@pytest.mark.parametrize("node", NODES)
def test_every_parameter_is_described_has_a_range_and_is_live_or_read_only(live: Live, node: str) -> None:
    values = {name: value for name, value in live.client.parameters(node).items() if not name.startswith("qos_overrides.")}
    own = sorted(set(values) - {"use_sim_time", "start_type_description_service"})
    assert PARAMETERS[node].items() <= values.items()
    for name, descriptor in live.client.descriptors(node, own).items():
        assert descriptor.description.endswith("."), name
        assert descriptor.name == name and not descriptor.dynamic_typing
        if descriptor.type in (ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_DOUBLE):
            assert len(descriptor.integer_range) + len(descriptor.floating_point_range) == 1, name
        if name in PARAMETERS[node]:
            assert descriptor.read_only is (name not in LIVE[node]), name


def test_a_live_parameter_takes_effect_together_with_the_others_or_none_does(live: Live) -> None:
    client = live.client
    assert "read-only" in client.set_parameters(MAPPING, {"pair_model": "mast3r"})
    assert "-1.0" in client.set_parameters(MAPPING, {"transform_tolerance": 0.2, "cloud.voxel_size": -1.0})
    assert client.parameters(MAPPING)["transform_tolerance"] == 0.1
    points = live.newest("/st3r_mapping/map_cloud").width
    assert client.set_parameters(MAPPING, {"cloud.voxel_size": 1.0}) == ""
    wait_until(lambda: 0 < live.newest("/st3r_mapping/map_cloud").width < max(points, 100) / 2, "a thinner map")
    assert client.set_parameters(MAPPING, {"publish_tf": False}) == ""
    poses = client.heard["/st3r_mapping/pose"]
    count = len(poses)
    wait_until(lambda: len(poses) > count + 1, "the next poses")
    transforms, count = len(client.heard["/tf"]), len(poses)
    wait_until(lambda: len(poses) > count + 1, "more poses")
    assert len(client.heard["/tf"]) == transforms
    assert client.set_parameters(MAPPING, {"publish_tf": True, "cloud.voxel_size": 0.02}) == ""
    wait_until(lambda: len(client.heard["/tf"]) > transforms, "TF again")


def test_a_late_subscriber_gets_the_map_of_a_paused_node(live: Live) -> None:
    client = live.client
    wait_until(lambda: live.newest("/st3r_mapping/status").keyframes > 1, "a map")
    assert client.call("/st3r_mapping/pause", Trigger).success
    try:
        wait_until(lambda: live.newest("/st3r_mapping/status").state == MappingStatus.PAUSED, "the pause")
        late: dict[str, list[Any]] = {topic.name: [] for topic in PUBLISHED if topic.durability == KEPT and topic.node == MAPPING}
        for topic in PUBLISHED:
            if topic.name in late:
                client.create_subscription(topic.kind, topic.name, late[topic.name].append, LATCHED)
        wait_until(lambda: all(late.values()), "every latched topic")
    finally:
        assert client.call("/st3r_mapping/resume", Trigger).success
    wait_until(lambda: live.newest("/st3r_mapping/status").state != MappingStatus.PAUSED, "the end of the pause")


def test_a_map_goes_from_node_to_node_by_services_alone(live: Live, tmp_path: Any) -> None:
    client = live.client
    images: list[Image] = []
    infos = client.heard["/camera_info"]
    client.create_subscription(Image, "/image", images.append, ANYTHING)
    wait_until(lambda: live.newest("/st3r_mapping/status").keyframes > 1 and images and infos, "a map")
    before = client.call("/st3r_relocalization/relocalize", Relocalize, image=images[-1], camera_info=infos[-1])
    assert not before.success and before.message
    assert before.result.status == RelocalizationResult.NO_REFERENCE

    for service, kind, fields in (
        ("/st3r_mapping/save_map", SaveMap, {"folder": str(tmp_path / "map")}),
        ("/st3r_mapping/export_map", ExportMap, {"format": "ply", "path": str(tmp_path / "map.ply")}),
        ("/st3r_relocalization/load_map", LoadMap, {"folder": str(tmp_path / "map")}),
    ):
        answer = client.call(service, kind, **fields)
        assert answer.success, answer.message
        assert str(tmp_path) in answer.message
    assert (tmp_path / "map.ply").stat().st_size > 1000

    found = None
    for image in images[-20:]:
        found = client.call("/st3r_relocalization/relocalize", Relocalize, image=image, camera_info=infos[-1])
        assert found.message and found.result.header.stamp == image.header.stamp
        if found.success:
            break
    assert found is not None and found.success, found
    result = found.result
    assert result.status == RelocalizationResult.LOCALIZED and result.header.frame_id == "reference"
    assert result.child_frame_id == CAMERA and not result.metric
    assert result.inliers >= 40 and 0 < result.inlier_ratio <= 1 and result.rmse_px > 0 and result.latency_ms > 0
    assert np.trace(np.reshape(result.pose.covariance, (6, 6))) > 0
    poses = client.heard["/st3r_relocalization/pose"]
    wait_until(lambda: poses, "the pose")
    assert poses[-1].header == result.header
    wait_until(lambda: live.newest("/st3r_relocalization/result").status == RelocalizationResult.LOCALIZED, "the result")
