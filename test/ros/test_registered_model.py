# SPDX-License-Identifier: Apache-2.0
"""A pair model that is only in the registry, in the mapping node."""

from dataclasses import replace

import pytest
import toy_pair
from rclpy.node import Node
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, Image

from st3r_ros.config import SimulationConfig
from st3r_ros.msg import MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched
from st3r_ros.sim.sequence import SimulatedSequence

FIRST_NS = 1_700_000_000_000_000_000
FRAMES = SimulatedSequence(SimulationConfig(frames=12, fps=5.0, width=320, height=240))


def test_the_node_maps_with_it_and_has_its_parameters(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_pair.register(monkeypatch)
    ros.init("-p", "pair_model:=toy", "-p", "toy.white:=240", "-p", "base_frame:=''", "-p", "status_period:=0.02")
    mapping, camera = MappingNode(Stop()), Node("camera")
    assert mapping.describe_parameter("toy.white").description == "What black becomes, grey levels."
    images, infos = camera.create_publisher(Image, "image", 1), camera.create_publisher(CameraInfo, "camera_info", 1)
    heard: list[MappingStatus] = [MappingStatus()]
    camera.create_subscription(MappingStatus, "st3r_mapping/status", heard.append, latched())
    mapping.start()
    ros.spin(mapping)
    ros.spin(camera)
    wait_until(lambda: images.get_subscription_count() and infos.get_subscription_count(), "the node to listen")
    assert toy_pair.LOADED[-1].white == 240
    for frame in FRAMES:
        stamp_ns = FIRST_NS + frame.stamp_ns
        message = conversions.image_message(replace(frame, stamp_ns=stamp_ns), "camera")
        before = heard[-1].frames_processed + heard[-1].frames_dropped
        infos.publish(conversions.camera_message(frame.camera, stamp_ns, "camera", 320, 240))
        images.publish(message)
        wait_until(lambda before=before: heard[-1].frames_processed + heard[-1].frames_dropped > before, f"frame {frame.id}")
    wait_until(lambda: heard[-1].state == MappingStatus.TRACKING, "tracking")
