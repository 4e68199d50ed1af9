# SPDX-License-Identifier: Apache-2.0
"""How the relocalization node starts: with what it kept, what it is told, mistakes, nothing; and on a robot with TF."""

import signal
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from relocalization_robot import (
    FRAMES,
    QUERY,
    as_se3,
    assert_close,
    depth_of,
    image_of,
    info_of,
    saved_map,
    start,
    truth,
    with_robot,
)
from ros_harness import Ros, wait_until
from tf2_msgs.msg import TFMessage

from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros import conversions
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.nodes.relocalization_node import RelocalizationNode
from st3r_ros.ros.qos import latched
from st3r_ros.ros.tf.transforms import OPTICAL


def test_references_survive_a_restart(ros: Ros, tmp_path: Path) -> None:
    robot = with_robot(ros, "-p", f"reference_dir:={tmp_path}", watching=False)
    image, info = image_of(FRAMES[0]), info_of(FRAMES[0])
    assert robot.call("set_reference", image=image_of(FRAMES[3]), name="dock").success
    assert robot.call("set_reference", image=image, camera_info=info, depth=depth_of(0), name="dock").success
    pose = conversions.pose_message(truth(20))
    response = robot.call("set_reference", image=image_of(FRAMES[20]), pose=[pose], name="door")
    assert response.success, response.message
    assert "stored" in response.message
    ros.stop()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".png", ".png", ".png"]
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "old.json").write_text('{"format": "st3r_ros reference", "name": "old", "version": 7}')

    robot = with_robot(ros, "-p", f"reference_dir:={tmp_path}", watching=False)
    query = FRAMES[QUERY]
    response = robot.call("relocalize", image=image_of(query), camera_info=info_of(query))
    assert response.success, response.message
    assert (response.result.reference, response.result.metric) == ("dock", True)
    assert_close(as_se3(response.result.pose.pose), truth(QUERY))
    response = robot.call("set_reference", name="door", remove=True)
    assert (response.success, list(response.references)) == (True, ["dock"])
    assert not list(tmp_path.glob("door*"))
    assert (tmp_path / "broken.json").read_text() == "{"


def test_reference_and_map_come_from_parameters(ros: Ros, tmp_path: Path) -> None:
    picture = tmp_path / "reference.png"
    cv2.imwrite(str(picture), cv2.cvtColor(FRAMES[0].image, cv2.COLOR_RGB2BGR))
    node = start(ros, "-p", f"reference:={picture}", "-p", f"map_path:={saved_map(tmp_path / 'room')}")
    assert node.session is not None
    assert list(node.session.references) == ["reference"]
    assert node.session.map is not None


@pytest.mark.parametrize(
    "mistake", ["pair_model:=nothing", "reference:=/nowhere.png", "map_path:=/nowhere", "reference_dir:=/dev/null/kept"]
)
def test_it_cannot_be_configured_with_a_mistake(ros: Ros, mistake: str) -> None:
    ros.init("-p", mistake)
    stop = Stop()
    node = RelocalizationNode(stop)
    node.start()
    assert (stop.wait(0.0), stop.exit_code) == (True, 2)
    assert node.session is None
    node.close()


def test_cleanup_lets_go_of_model_and_map(ros: Ros, tmp_path: Path, loaded_models: list[weakref.ref]) -> None:
    """Else the memory of the GPU would not come back."""
    node = start(ros, "-p", f"map_path:={saved_map(tmp_path / 'room')}")
    session = node.session
    assert len(loaded_models) == 1
    held = [*loaded_models, *(weakref.ref(each) for each in (session, session.map, session.relocalizer))]
    del session
    ros.change(node, "deactivate")
    ros.change(node, "cleanup")
    assert not [each() for each in held if each() is not None]


def test_without_images_or_references_it_says_so(ros: Ros) -> None:
    robot = with_robot(ros, "-p", "image_wait:=0.2")
    response = robot.call("relocalize")
    assert not response.success
    assert "No images on /image" in response.message
    assert "no live image" in robot.call("set_reference", use_latest=True).message
    response = robot.call("relocalize", image=image_of(FRAMES[0]))
    assert response.result.status == RelocalizationResult.NO_REFERENCE


@pytest.mark.parametrize("axes", [SE3.identity(), OPTICAL], ids=["optical", "body"])
def test_the_robot_is_placed_where_tf_says_that_its_camera_is(ros: Ros, axes: SE3) -> None:
    """Be the frame of the images an optical one or a body's."""
    robot = with_robot(ros, "-p", "child_frame:=base_link")
    image, info = image_of(FRAMES[0]), info_of(FRAMES[0])
    assert robot.call("set_reference", image=image, camera_info=info, depth=depth_of(0)).success
    query = {"image": image_of(FRAMES[QUERY]), "camera_info": info_of(FRAMES[QUERY])}
    response = robot.call("relocalize", **query)
    assert not response.success
    assert "no TF from base_link" in response.message
    T_base_cam = SE3(OPTICAL.rotation, np.array([0.3, -0.1, 0.5]))
    static = robot.create_publisher(TFMessage, "/tf_static", latched())
    T_base_image = T_base_cam @ axes.inverse()
    static.publish(TFMessage(transforms=[conversions.transform_message(T_base_image, 0, "base_link", "camera")]))
    wait_until(lambda: robot.call("relocalize", **query).success, "TF to be known")
    wait_until(lambda: robot.heard["pose"] and robot.heard["tf"], "the pose")
    assert_close(as_se3(robot.heard["pose"][-1].pose.pose), truth(QUERY) @ T_base_cam.inverse())
    assert robot.heard["tf"][-1].transforms[0].child_frame_id == "base_link"
    result = robot.heard["result"][-1]
    assert result.child_frame_id == "camera"
    assert_close(as_se3(result.pose.pose), truth(QUERY) @ axes.inverse())


def test_sigterm_ends_it_cleanly() -> None:
    child = Child("relocalization_node", {"rate": 5.0}, {})
    try:
        wait_until(lambda: any("Subscribed" in line for line in child.lines), "the node to listen", 60.0)
        child.signal(signal.SIGTERM)
        wait_until(lambda: not child.running, "the end of the node")
    finally:
        child.stop(0.0)
    assert child.exit_code == 0
    assert "Traceback" not in "\n".join(child.lines)
