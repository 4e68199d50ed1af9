# SPDX-License-Identifier: Apache-2.0
"""Requests to the relocalization node that it must refuse with a reason."""

import array
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion
from relocalization_robot import FRAMES, QUERY, SERVICES, depth_of, image_of, info_of, with_robot
from ros_harness import Ros
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from st3r_ros.msg import RelocalizationResult


def changed(message: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def bad_image(rng: np.random.Generator) -> Image:
    side = int(rng.integers(1, 16))
    if rng.integers(4) == 0:
        return Image(height=side, width=side, encoding="mono8", step=side, data=bytes(side * side))
    good = image_of(FRAMES[0])
    stamp = Time(sec=-1) if rng.integers(2) else Time(nanosec=2_000_000_000)
    changes: list[dict[str, Any]] = [
        {"height": 0, "width": 0, "step": 0, "data": array.array("B")},
        {"encoding": str(rng.choice(["", "no such", "rgb9", "jpeg", "\u00fc", "rgb8?"]))},
        {"height": int(rng.integers(241, 2**32)), "width": int(rng.integers(321, 2**32))},
        {"data": good.data[: int(rng.integers(0, len(good.data)))]},
        {"step": int(rng.integers(0, 960))},
        {"step": 2**32 - 1},
        {"header": Header(stamp=stamp)},
    ]
    return changed(good, **changes[rng.integers(len(changes))])


def bad_info(rng: np.random.Generator) -> CameraInfo:
    info = info_of(FRAMES[0])
    values = [0.0, -300.0, math.nan, math.inf]
    kind = rng.integers(5)
    if kind == 0:
        return changed(info, k=[0.0] * 9, p=[0.0] * 12)
    if kind == 1:
        return changed(info, k=[values[rng.integers(1, 4)], *info.k[1:]])
    if kind == 2:
        return changed(info, width=int(rng.integers(0, 320)))
    if kind == 3:
        return changed(info, distortion_model="no such", d=[math.nan] * int(rng.integers(0, 30)))
    return changed(info, binning_x=2**31)


def bad_pose(rng: np.random.Generator) -> Pose:
    if rng.integers(2):
        return Pose(orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=float(rng.choice([0.0, math.nan, math.inf]))))
    return Pose(position=Point(x=float(rng.choice([math.nan, math.inf, -math.inf]))))


def bad_depth(rng: np.random.Generator) -> Image:
    good = depth_of(0)
    bads = [{"encoding": "rgb8"}, {"height": 2**31}, {"data": array.array("B")}, {"step": 1}, {"width": 160, "step": 320}]
    return changed(good, **bads[rng.integers(len(bads))])


def malformed(rng: np.random.Generator, folder: Path) -> tuple[str, Any]:
    """A service and a request that it must refuse."""
    image, info = image_of(FRAMES[0]), info_of(FRAMES[0])
    paths = ["/no/such/file.png", str(folder), "/dev/zero", "\n", str(folder / "text.png"), str(folder / "half.png"), "x" * 5000]
    path = str(rng.choice(paths))
    makers: list[tuple[str, dict[str, Any]]] = [
        ("set_reference", {}),
        ("set_reference", {"image": bad_image(rng)}),
        ("set_reference", {"path": path}),
        ("set_reference", {"image": image, "path": path}),
        ("set_reference", {"image": image, "camera_info": bad_info(rng)}),
        ("set_reference", {"image": image, "pose": [bad_pose(rng)]}),
        ("set_reference", {"image": image, "camera_info": info, "depth": bad_depth(rng)}),
        ("set_reference", {"image": image, "depth": depth_of(0)}),
        ("set_reference", {"image": image, "name": str(rng.choice(["../up", "/", ".", "a b", "x" * 500, "\u00fc", "con/prn"]))}),
        ("set_reference", {"remove": True, "name": "nobody"}),
        ("relocalize", {"image": bad_image(rng)}),
        ("relocalize", {"image": image, "camera_info": bad_info(rng)}),
        ("load_map", {"folder": path}),
    ]
    service, fields = makers[rng.integers(len(makers))]
    return service, SERVICES[service].Request(**fields)


@pytest.mark.parametrize("requests", [200, pytest.param(1000, marks=pytest.mark.full)])
def test_malformed_requests_are_answered_with_a_reason(ros: Ros, tmp_path: Path, requests: int) -> None:
    robot = with_robot(ros, watching=False)
    assert robot.call("set_reference", image=image_of(FRAMES[0]), camera_info=info_of(FRAMES[0]), depth=depth_of(0)).success
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "half.png").write_bytes(cv2.imencode(".png", FRAMES[0].image)[1].tobytes()[:5000])
    rng = np.random.default_rng(1)
    for number in range(requests):
        service, request = malformed(rng, tmp_path)
        response = robot.call(service, request)
        assert not response.success, (number, request)
        assert len(response.message) > 20, (number, request)
        assert "Internal error" not in response.message, (response.message, number)
        if service == "relocalize":
            assert response.result.status == RelocalizationResult.UNUSABLE
            assert response.result.message == response.message
        else:
            assert list(getattr(response, "references", ["reference"])) == ["reference"]
    assert robot.call("relocalize", image=image_of(FRAMES[QUERY]), camera_info=info_of(FRAMES[QUERY])).success
