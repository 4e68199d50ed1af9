# SPDX-License-Identifier: Apache-2.0
"""Where the camera is taken to sit and to look, by TF and the names of frames. TF is told to the node directly."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from rclpy.node import Node
from ros_harness import Ros
from tf2_msgs.msg import TFMessage

from st3r_ros.config import MappingNodeConfig
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import transform_message
from st3r_ros.ros.tf.camera_placement import CameraPlacement, optical_below, tell_axes
from st3r_ros.ros.tf.transforms import OPTICAL, MapAnchor
from st3r_ros.ros.tf.tree import TransformTree

I3 = np.eye(3)
DOWN = np.diag([1.0, -1.0, -1.0])
"""The optical axes of a camera that looks straight down, in a body's."""
AHEAD = SE3(I3, np.array([0.2, 0.0, 0.5]))
"""A body's frame before the robot's base."""
BASE = "base_link"


def turned(*angles_deg: float) -> np.ndarray:
    return so3.exp(np.radians(angles_deg))


@pytest.mark.parametrize(
    ("image", "R_base_image", "below", "axes", "words"),
    [
        ("camera_optical_frame", OPTICAL.rotation, "", "optical", ""),
        ("camera", OPTICAL.rotation, "", "optical", ""),
        ("camera_link", OPTICAL.rotation, "", "optical", ""),
        ("camera_link", I3, "", "body", "upright in base_link"),
        ("camera_link", turned(0, 0, 180), "", "body", "upright in base_link"),
        ("camera_link", turned(0, 30, 0), "", "body", "upright in base_link"),
        ("camera_link", turned(0, 80, 0), "camera_optical", "body", "'camera_optical' below it"),
        ("camera_link", turned(0, 80, 0), "", "optical", ""),
        ("down_camera", DOWN, "", "optical", ""),
        ("down_optical_frame", DOWN, "", "optical", ""),
        ("up_OPTICAL_frame", turned(0, 0, 90), "", "optical", ""),
        ("camera_optical_frame", I3, "", "optical", "look straight up"),
        (BASE, I3, "", "body", "the robot's own"),
    ],
)
def test_axes_are_told_by_tf_and_the_name(image: str, R_base_image: np.ndarray, below: str, axes: str, words: str) -> None:
    found, remark = tell_axes(BASE, image, R_base_image, below)
    assert found == axes
    assert words in remark and bool(words) == bool(remark)
    assert not remark or "camera_axes" in remark


def test_in_an_optical_base_nothing_is_told() -> None:
    assert tell_axes("left_optical_frame", "right_camera", I3, "") == ("optical", "")


def test_the_optical_frame_below_a_body_is_found() -> None:
    tree = TransformTree()
    links = [
        ("base_link", "camera_link", SE3.identity()),
        ("camera_link", "color_frame", AHEAD),
        ("color_frame", "color_optical", OPTICAL),
    ]
    tree.add(TFMessage(transforms=[transform_message(T, 0, parent, child) for parent, child, T in links]), static=True)
    assert optical_below(tree, "camera_link") == optical_below(tree, "/color_frame") == "color_optical"
    assert optical_below(tree, "color_optical") == optical_below(tree, "unknown") == ""


@pytest.fixture
def place(ros: Ros) -> Iterator[Callable[..., tuple[CameraPlacement, list[str]]]]:
    """Makes a placement that knows the transforms (parent, child, T), and the list of what it warns of."""
    made: list[tuple[CameraPlacement, Node]] = []

    def make(
        *links: tuple[str, str, SE3], map_begun: Callable[[], bool] = lambda: False, **config: Any
    ) -> tuple[CameraPlacement, list[str]]:
        ros.init()
        told: list[str] = []

        def say(text: str, **_: Any) -> None:
            told.append(text)

        class Listener(Node):
            def get_logger(self) -> Any:
                return SimpleNamespace(warning=say, info=say)

        node = Listener("listener")
        placement = CameraPlacement(node, MappingNodeConfig(**config), lambda frame, stamp_ns: False, "", map_begun)
        made.append((placement, node))
        add(placement, *links)
        return placement, told

    yield make
    for placement, node in made:
        placement.close()
        node.destroy_node()


def add(placement: CameraPlacement, *links: tuple[str, str, SE3]) -> None:
    message = TFMessage(transforms=[transform_message(T, 0, parent, child) for parent, child, T in links])
    placement.watch.tf.tree.add(message, static=True)


def image_of(placement: CameraPlacement, frame: str) -> MapAnchor:
    anchor = placement.of_image(frame, patient=False)
    assert anchor is not None
    return anchor


def assert_drives_forward(anchor: MapAnchor) -> None:
    """The camera moves a metre along its optical axis: the base moves a metre ahead."""
    moved = anchor.T_map_frame(SE3(I3, np.array([0.0, 0.0, 1.0])))
    np.testing.assert_allclose(moved.as_matrix(), SE3(I3, np.array([1.0, 0.0, 0.0])).as_matrix(), atol=1e-9)


@pytest.mark.parametrize(("axes", "warnings"), [("auto", 1), ("body", 0)])
def test_a_camera_with_body_axes_looks_along_x(place: Any, axes: str, warnings: int) -> None:
    placement, told = place(("/base_link", "/camera_link", AHEAD), camera_axes=axes)
    for _ in range(3):
        anchor = image_of(placement, "camera_link")
    assert_drives_forward(anchor)
    assert (anchor.image_frame, len(told)) == ("camera_link", warnings)
    # A point before the lens lies on the x axis of the frame that its cloud is published in.
    np.testing.assert_allclose(anchor.T_image_cam @ np.array([0.0, 0.0, 2.0]), [2.0, 0.0, 0.0], atol=1e-12)


def test_who_says_optical_gets_optical(place: Any) -> None:
    placement, told = place(("base_link", "camera_link", AHEAD), camera_axes="optical")
    anchor = image_of(placement, "camera_link")
    np.testing.assert_allclose(anchor.T_frame_cam.as_matrix(), AHEAD.as_matrix())
    assert not told


def test_optical_frames_are_as_ever(place: Any) -> None:
    placement, told = place(("base_link", "camera_optical_frame", AHEAD @ OPTICAL))
    anchor = image_of(placement, "camera_optical_frame")
    assert_drives_forward(anchor)
    np.testing.assert_array_equal(anchor.T_image_cam.as_matrix(), np.eye(4))
    assert not told


def test_a_camera_that_is_the_base(place: Any) -> None:
    """`base_frame` is the frame of the images: with an optical name the map is level with the first image."""
    placement, told = place(base_frame="optical_frame")
    anchor = image_of(placement, "optical_frame")
    np.testing.assert_allclose(anchor.T_map_frame(SE3.identity()).as_matrix(), OPTICAL.as_matrix(), atol=1e-12)
    assert anchor.is_optical and not told


def test_images_named_after_the_base_have_its_axes(place: Any) -> None:
    placement, told = place()
    anchor = image_of(placement, "base_link")
    assert_drives_forward(anchor)
    assert not anchor.is_optical and len(told) == 1


@pytest.mark.parametrize("axes", ["auto", "body"])
def test_without_tf_the_camera_looks_forward(place: Any, axes: str) -> None:
    placement, told = place(camera_axes=axes)
    assert placement.of_image("camera_link", patient=True) is None
    assert placement.missing == "TF from base_link to the camera frame 'camera_link'"
    anchor = image_of(placement, "camera_link")
    assert_drives_forward(anchor)
    ahead = [2.0, 0.0, 0.0] if axes == "body" else [0.0, 0.0, 2.0]
    np.testing.assert_allclose(anchor.T_image_cam @ np.array([0.0, 0.0, 2.0]), ahead, atol=1e-12)
    assert len(told) == 1 and "No TF from base_link" in told[0]


@pytest.mark.parametrize(("frame", "warnings"), [("", 1), ("map", 2), ("odom", 2)])
def test_images_without_a_frame_belong_to_the_base(place: Any, frame: str, warnings: int) -> None:
    """Those of the map and of odometry are none of a camera."""
    placement, told = place(("map", "base_link", AHEAD), odom_frame="odom")
    anchor = image_of(placement, frame)
    assert_drives_forward(anchor)
    assert anchor.image_frame == "base_link"
    np.testing.assert_allclose(anchor.T_image_cam @ np.array([0.0, 0.0, 2.0]), [2.0, 0.0, 0.0], atol=1e-12)
    assert len(told) == warnings and "no camera frame (header.frame_id)" in told[-1]


@pytest.mark.parametrize(("frame", "name"), [("", "camera"), ("map", "camera"), ("webcam", "webcam")])
def test_without_a_robot_the_camera_is_what_moves(place: Any, frame: str, name: str) -> None:
    placement, told = place(base_frame="/")
    anchor = image_of(placement, frame)
    assert (anchor.frame_id, anchor.image_frame) == (name, name)
    assert len(told) == (frame == "map")


def test_without_a_robot_body_axes_are_told_only_where_they_are_sure(place: Any) -> None:
    placement, told = place(base_frame="")
    image_of(placement, "camera_link")
    assert not told
    add(placement, ("camera_link", "camera_optical_frame", OPTICAL))
    for _ in range(3):
        assert image_of(placement, "camera_link").is_optical
    assert len(told) == 1 and "'camera_optical_frame'" in told[0]


def test_without_a_robot_body_axes_can_be_set(place: Any) -> None:
    placement, told = place(base_frame="", camera_axes="body")
    anchor = image_of(placement, "camera_link")
    assert_drives_forward(anchor)
    assert not anchor.is_optical and not told


def test_a_frame_that_changes_is_looked_up_again(place: Any) -> None:
    T_base_rear = SE3(turned(0, 0, 180), np.array([-0.3, 0.0, 0.5]))
    placement, told = place(("base_link", "front", AHEAD @ OPTICAL), ("base_link", "rear", T_base_rear @ OPTICAL))
    front = image_of(placement, "front")
    assert image_of(placement, "") is front  # a frame that is missing is no other one
    assert not told
    rear = image_of(placement, "rear")
    np.testing.assert_allclose(rear.T_frame_cam.as_matrix(), (T_base_rear @ OPTICAL).as_matrix(), atol=1e-12)
    assert len(told) == 1 and "changed from 'front' to 'rear'" in told[0]
    assert image_of(placement, "nowhere") is rear
    assert "TF does not have it" in told[1]


@pytest.mark.parametrize(("x", "w", "words"), [(0.2, 0.0, "its quaternion"), (np.nan, 1.0, "its translation is (nan,")])
def test_a_mounting_that_cannot_be_true_is_named(place: Any, x: float, w: float, words: str) -> None:
    broken = transform_message(AHEAD @ OPTICAL, 0, "base_link", "camera")
    broken.transform.translation.x = x
    if not w:
        broken.transform.rotation = Quaternion(w=0.0)
    placement, told = place()
    placement.watch.tf.tree.add(TFMessage(transforms=[broken]), static=True)
    assert image_of(placement, "camera").is_assumed
    of_tf, assumed = told
    assert "No TF from base_link to the camera frame 'camera': the camera is assumed to be at base_link" in assumed
    assert f"base_link -> camera in TF cannot be used: {words}" in assumed
    assert of_tf == placement.fault and placement.fault in assumed
    add(placement, ("base_link", "camera", AHEAD @ OPTICAL))
    assert not image_of(placement, "camera").is_assumed
    assert placement.fault == ""


def test_a_mounting_that_arrives_late_is_used_until_a_map_has_begun(place: Any) -> None:
    begun = False
    placement, told = place(map_begun=lambda: begun)
    assert image_of(placement, "camera").is_assumed
    add(placement, ("base_link", "camera", AHEAD @ OPTICAL))
    anchor = image_of(placement, "camera")
    np.testing.assert_allclose(anchor.T_frame_cam.as_matrix(), (AHEAD @ OPTICAL).as_matrix(), atol=1e-12)
    assert [("arrived and is used" in text) for text in told] == [False, True]


def test_a_mounting_that_arrives_for_a_map_that_has_begun_waits_for_a_reset(place: Any) -> None:
    placement, told = place(map_begun=lambda: True)
    assumed = image_of(placement, "camera")
    add(placement, ("base_link", "camera", AHEAD @ OPTICAL))
    for _ in range(3):
        assert image_of(placement, "camera") is assumed
    assert len(told) == 2 and "arrived after mapping had started without it; call ~/reset" in told[1]
    placement.restart()
    assert not image_of(placement, "camera").is_assumed


def test_a_mounting_in_millimetres_is_said(place: Any) -> None:
    placement, told = place(("base_link", "camera", SE3(OPTICAL.rotation, np.array([200.0, 0.0, 500.0]))))
    for _ in range(3):
        image_of(placement, "camera")
    assert len(told) == 1 and "'camera' 539 m away from base_link" in told[0] and "millimetres" in told[0]
