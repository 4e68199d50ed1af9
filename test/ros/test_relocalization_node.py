# SPDX-License-Identifier: Apache-2.0
"""The relocalization node with simulated images, through real topics and services."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from relocalization_robot import (
    FRAMES,
    NAME,
    QUERY,
    UNSEEN,
    Robot,
    as_se3,
    assert_close,
    depth_of,
    image_of,
    info_of,
    saved_map,
    stamp_of,
    truth,
    with_robot,
)
from ros_harness import Ros, wait_until

from st3r_ros.geometry.transforms import SE3
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros import conversions
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.types import LocalizationStatus


@pytest.fixture(scope="module")
def module_ros() -> Iterator[Ros]:
    ros = Ros()
    yield ros
    ros.stop()


@pytest.fixture(scope="module")
def shared_robot(module_ros: Ros) -> Robot:
    return with_robot(module_ros)


@pytest.fixture
def robot(shared_robot: Robot) -> Robot:
    """A robot whose node has frame 0 with its depth as reference."""
    response = shared_robot.call("set_reference", image=image_of(FRAMES[0]), camera_info=info_of(FRAMES[0]), depth=depth_of(0))
    assert response.success, response.message
    assert list(response.references) == ["reference"]
    shared_robot.forget()
    return shared_robot


def test_a_given_image_is_localized_with_its_own_stamp(robot: Robot) -> None:
    query = FRAMES[QUERY]
    response = robot.call("relocalize", image=image_of(query), camera_info=info_of(query))
    assert response.success, response.message
    result = response.result
    wait_until(lambda: all(robot.heard[topic] for topic in ("result", "pose", "tf", "matches")), "all that a success publishes")
    assert robot.heard["result"][-1] == result
    pose, transform, picture = robot.heard["pose"][-1], robot.heard["tf"][-1].transforms[-1], robot.heard["matches"][-1]
    assert {stamp_of(message) for message in (result, pose, transform, picture)} == {query.stamp_ns}
    assert (result.header.frame_id, pose.header.frame_id, transform.header.frame_id) == ("dock", "dock", "dock")
    assert (result.child_frame_id, transform.child_frame_id, picture.header.frame_id) == ("camera", "camera", "camera")
    assert (result.status, result.reference, result.metric, result.directional) == (1, "reference", True, False)
    assert_close(as_se3(result.pose.pose), truth(QUERY))
    assert as_se3(pose.pose.pose).as_matrix() == pytest.approx(as_se3(result.pose.pose).as_matrix(), abs=1e-12)
    T = conversions.transform_from_message(transform.transform)
    assert T.as_matrix() == pytest.approx(as_se3(result.pose.pose).as_matrix(), abs=1e-12)
    covariance = np.reshape(pose.pose.covariance, (6, 6))
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert covariance == pytest.approx(np.reshape(result.pose.covariance, (6, 6)))
    assert 0 < result.inliers <= result.matches
    assert result.inlier_ratio == pytest.approx(result.inliers / result.matches)
    assert 0 < result.rmse_px < 3
    assert result.latency_ms > 0
    assert (picture.encoding, picture.width) == ("rgb8", 320 + 8 + 320)


def test_the_next_live_image_is_localized(robot: Robot) -> None:
    frames = itertools.cycle(FRAMES[3:QUERY])
    response = robot.call("relocalize", while_waiting=lambda: robot.send(next(frames)))
    assert response.success, response.message
    index = next(i for i, frame in enumerate(FRAMES) if frame.stamp_ns == stamp_of(response.result))
    assert_close(as_se3(response.result.pose.pose), truth(index))


def test_a_failure_publishes_a_result_and_no_pose(robot: Robot) -> None:
    response = robot.call("relocalize", image=image_of(UNSEEN), camera_info=info_of(UNSEEN))
    assert not response.success
    assert response.message == response.result.message != ""
    assert response.result.status == RelocalizationResult.TOO_FEW_MATCHES
    wait_until(lambda: robot.heard["result"] and robot.heard["matches"], "the result and the picture")
    assert stamp_of(robot.heard["result"][-1]) == stamp_of(robot.heard["matches"][-1]) == UNSEEN.stamp_ns
    pose = robot.heard["result"][-1].pose
    assert np.isnan([pose.pose.position.x, pose.pose.orientation.w, *pose.covariance]).all()
    # A pose would have come before the result of what follows.
    robot.call("relocalize", image=image_of(FRAMES[0]))
    wait_until(lambda: robot.heard["pose"] and robot.heard["tf"], "a pose after all")
    assert {stamp_of(pose) for pose in robot.heard["pose"]} == {FRAMES[0].stamp_ns}
    assert {stamp_of(item) for message in robot.heard["tf"] for item in message.transforms} == {FRAMES[0].stamp_ns}


def test_a_direction_is_a_result_and_no_pose(robot: Robot) -> None:
    """Without a depth, the model without weights knows no distance."""
    assert robot.call("set_reference", image=image_of(FRAMES[12]), camera_info=info_of(FRAMES[12])).success
    response = robot.call("relocalize", image=image_of(FRAMES[16]), camera_info=info_of(FRAMES[16]))
    assert response.success, response.message
    assert (response.result.directional, response.result.metric) == (True, False)
    T, expected = as_se3(response.result.pose.pose), truth(16, 12)
    assert_close(T, SE3(expected.rotation, expected.translation / np.linalg.norm(expected.translation)))
    wait_until(lambda: robot.heard["matches"], "the picture, which comes last")
    assert repr(robot.heard["result"][-1]) == repr(response.result)  # it has NaN
    assert not robot.heard["pose"]
    assert not robot.heard["tf"]


def test_cameras_that_are_assumed_are_called_so(robot: Robot) -> None:
    assert robot.call("set_reference", image=image_of(FRAMES[12])).success
    response = robot.call("relocalize", image=image_of(FRAMES[16]))
    assert response.success and response.result.focal_estimated, response.message
    assert "The camera is assumed" in response.result.message
    assert "The camera of the reference is assumed" in response.result.message
    told = robot.beside.report_health()[0]
    values = {item.key: item.value for item in told.values}
    assert values["camera"] == values["reference camera"] == "assumed" and "assumed" in told.message


def test_the_newest_live_image_becomes_a_reference(robot: Robot) -> None:
    robot.call("relocalize", while_waiting=lambda: robot.send(FRAMES[12]))
    response = robot.call("set_reference", use_latest=True)
    assert response.success, response.message
    assert "320x240" in response.message
    response = robot.call("relocalize", image=image_of(FRAMES[16]), camera_info=info_of(FRAMES[16]))
    assert response.success, response.message
    np.testing.assert_allclose(as_se3(response.result.pose.pose).rotation, truth(16, 12).rotation, atol=math.radians(1))


def test_several_references_share_one_frame(robot: Robot) -> None:
    other = {"name": "other", "image": image_of(FRAMES[20]), "camera_info": info_of(FRAMES[20]), "depth": depth_of(20)}
    response = robot.call("set_reference", **other)
    assert not response.success
    assert "'reference' has no pose" in response.message
    response = robot.call("set_reference", pose=[conversions.pose_message(truth(20))], **other)
    assert response.success, response.message
    assert list(response.references) == ["reference", "other"]
    query = FRAMES[18]
    response = robot.call("relocalize", image=image_of(query), camera_info=info_of(query))
    assert response.success, response.message
    assert_close(as_se3(response.result.pose.pose), truth(18))
    response = robot.call("set_reference", name="other", remove=True)
    assert (response.success, list(response.references)) == (True, ["reference"])
    assert not robot.call("set_reference", name="other", remove=True).success


def test_it_runs_continuously_at_a_rate(robot: Robot) -> None:
    node_parameters = robot.create_client(SetParameters, f"{NAME}/set_parameters")
    assert node_parameters.wait_for_service(20.0)

    def set_rate(rate: float) -> None:
        request = SetParameters.Request(parameters=[Parameter("rate", value=rate).to_parameter_msg()])
        future = node_parameters.call_async(request)
        wait_until(future.done, "the parameter")
        assert future.result().results[0].successful

    set_rate(50.0)
    frames = itertools.cycle(FRAMES[:QUERY])
    wait_until(lambda: robot.send(next(frames)) or len(robot.heard["pose"]) >= 5, "five poses")
    set_rate(0.0)
    assert {stamp_of(pose) for pose in robot.heard["pose"]} <= {frame.stamp_ns for frame in FRAMES[:QUERY]}


def test_a_map_goes_before_references_and_is_level(robot: Robot, tmp_path: Path) -> None:
    response = robot.call("load_map", folder=str(saved_map(tmp_path / "room")))
    assert response.success, response.message
    robot.call("relocalize", image=image_of(FRAMES[0]), camera_info=info_of(FRAMES[0]))
    response = robot.call("relocalize", image=image_of(FRAMES[QUERY]), camera_info=info_of(FRAMES[QUERY]))
    assert response.success, response.message
    assert response.result.reference.startswith("keyframe ")
    wait_until(lambda: robot.heard["pose"], "a pose")
    R_map_cam = as_se3(response.result.pose.pose).rotation
    np.testing.assert_allclose(R_map_cam, OPTICAL.rotation @ truth(QUERY).rotation, atol=math.radians(2))
    assert "unloaded" in robot.call("load_map").message
    response = robot.call("relocalize", image=image_of(FRAMES[QUERY]), camera_info=info_of(FRAMES[QUERY]))
    assert response.result.reference == "reference"


def test_what_is_said_of_the_last_query_ends_with_it(robot: Robot) -> None:
    def told() -> str:
        return robot.beside.report_health()[0].message

    assert told() == "No query yet."  # about this reference
    assert robot.call("relocalize", image=image_of(FRAMES[QUERY]), camera_info=info_of(FRAMES[QUERY])).success
    assert told().startswith("The last query: ")
    broken = image_of(FRAMES[QUERY])
    broken.encoding = "foo"
    assert not robot.call("relocalize", image=broken).success
    assert told().startswith("An image cannot be used: ")
    assert robot.call("set_reference", name="reference", remove=True).success
    assert told() in ("There is no reference and no map yet.", "No query yet.")


def test_the_message_has_every_status() -> None:
    values = [getattr(RelocalizationResult, status.name) for status in LocalizationStatus]
    assert len({*values, RelocalizationResult.UNUSABLE}) == len(LocalizationStatus) + 1
    assert RelocalizationResult().status == RelocalizationResult.UNUSABLE
