# SPDX-License-Identifier: Apache-2.0
"""Masks as they arrive at the mapping node, or do not."""

import cv2
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_harness import Ros, wait_until
from sensor_msgs.msg import Image

from st3r_ros.errors import FrameError
from st3r_ros.ros.conversions import header
from st3r_ros.ros.input.mask_input import MaskInput, read_mask

USABLE = np.ones((24, 32), bool)
USABLE[:, :9] = False
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def message(mask: np.ndarray, stamp_ns: int) -> Image:
    height, width = mask.shape
    data = (mask * 255).astype(np.uint8).tobytes()
    return Image(header=header(stamp_ns, "camera"), height=height, width=width, encoding="mono8", step=width, data=data)


def test_without_masks_images_are_used_whole(ros: Ros) -> None:
    ros.init()
    assert MaskInput(Node("listener")).of(5, 32, 24) is None


def test_the_mask_of_the_stamp_is_taken_and_otherwise_the_newest(ros: Ros) -> None:
    ros.init()
    node, driver = Node("listener"), Node("driver")
    masks = MaskInput(node)
    publisher = driver.create_publisher(Image, "mask", qos_profile_sensor_data)
    ros.spin(node)
    wait_until(publisher.get_subscription_count, "the node to listen to masks")
    for stamp_ns, mask in ((10, USABLE), (20, ~USABLE)):
        publisher.publish(message(mask, stamp_ns))
        wait_until(lambda mask=mask: np.array_equal(masks.of(99, 32, 24), mask), "the mask to arrive")
    np.testing.assert_array_equal(masks.of(10, 32, 24), USABLE)
    np.testing.assert_array_equal(masks.of(15, 32, 24), ~USABLE)
    with pytest.raises(FrameError, match="The mask on /mask cannot be used: The mask is 32x24 pixels, but the image is 24x32"):
        masks.of(10, 24, 32)


@pytest.mark.parametrize(
    ("static", "newest", "where"),
    [
        (USABLE & False, None, "in mask_file"),
        (None, USABLE & False, "on /mask"),
        (USABLE, ~USABLE, "in mask_file, together with that on /mask"),
    ],
)
def test_masks_that_leave_nothing_are_said(
    ros: Ros, static: np.ndarray | None, newest: np.ndarray | None, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ros.init()
    node, driver = Node("listener"), Node("driver")
    masks = MaskInput(node, static)
    ros.spin(node)
    if newest is not None:
        driver.create_publisher(Image, "mask", LATCHED).publish(message(newest, 1))

    def dark() -> bool:
        mask = masks.of(1, 32, 24)
        return mask is not None and not mask.any()

    wait_until(dark, "the mask to arrive")
    for _ in range(3):
        mask = masks.of(1, 32, 24)
        assert mask is not None and not mask.any()
    said = f"The mask {where} is dark everywhere: nothing of the image is used."
    assert capfd.readouterr().err.count(said) == 1


def test_a_latched_mask_is_heard_and_combined_with_that_of_the_file(ros: Ros, tmp_path) -> None:
    ros.init()
    node, driver = Node("listener"), Node("driver")
    driver.create_publisher(Image, "mask", LATCHED).publish(message(USABLE, 1))
    cv2.imwrite(str(tmp_path / "mask.png"), np.flipud(np.triu(np.full((48, 64), 255, np.uint8))))
    static = read_mask(str(tmp_path / "mask.png"))
    assert static is not None and read_mask("") is None
    masks = MaskInput(node, static)
    ros.spin(node)
    wait_until(lambda: not masks.of(7, 32, 24)[:, :9].any(), "the latched mask to arrive")
    np.testing.assert_array_equal(masks.of(7, 32, 24), USABLE & static[::2, ::2])
