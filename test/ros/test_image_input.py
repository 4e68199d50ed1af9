# SPDX-License-Identifier: Apache-2.0
"""What the mapping node makes of images, calibrations and TF as they arrive, or do not."""

import threading
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import rclpy
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from ros_harness import Ros, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from st3r_ros.config import MappingNodeConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros import conversions
from st3r_ros.ros.input.image_input import ImageCounts, ImageInput, ImageSource, image_from_message
from st3r_ros.ros.tf.transforms import OPTICAL
from st3r_ros.types import Frame

CAMERA = Camera.from_fov(32, 24, 60.0)
IMAGE = np.full((24, 32, 3), 99, np.uint8)
LATCHED_TF = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Setup:
    """An image source in a node, and the driver of a camera beside it."""

    def __init__(
        self,
        ros: Ros,
        *arguments: str,
        image: str = "image",
        info: str = "camera_info",
        one_map: bool = True,
        **config: object,
    ) -> None:
        ros.init(*arguments)
        self.node, self.driver = Node("listener"), Node("driver")
        self.counts = ImageCounts()
        self.inputs: list[ImageInput] = []
        self.frame_id = "camera"
        begun = self.map_begun = threading.Event()
        settings = MappingNodeConfig(**{"base_frame": "", "input_wait": 0.3, **config})
        self.source = ImageSource(
            self.node,
            settings,
            self.counts,
            self._take,
            lambda frame, stamp_ns: False,
            map_begun=begun.is_set if one_map else None,
            without_calibration="60 degrees are assumed",
        )
        self._compressed = settings.image_transport == "compressed"
        topic, kind = (f"{image}/compressed", CompressedImage) if self._compressed else (image, Image)
        self.images = self.driver.create_publisher(kind, topic, qos_profile_sensor_data)
        self.infos = self.driver.create_publisher(CameraInfo, info, qos_profile_sensor_data)
        self.tf = self.driver.create_publisher(TFMessage, "/tf_static", LATCHED_TF)
        ros.spin(self.node)
        wait_until(self.images.get_subscription_count, "the source to listen to the images")
        wait_until(self.infos.get_subscription_count, "the source to listen to camera_info")

    def _take(self, item: ImageInput) -> int:
        self.inputs.append(item)
        return 0

    def send_image(self) -> None:
        message = conversions.image_message(Frame(0, 1, IMAGE), self.frame_id)
        if self._compressed:
            data = cv2.imencode(".png", IMAGE)[1].tobytes()
            message = CompressedImage(header=message.header, format="png", data=data)
        self.images.publish(message)

    def send_info(self, change: Callable[[CameraInfo], None] = lambda info: None, camera: Camera | None = CAMERA) -> None:
        info = conversions.camera_message(camera, 1, "camera", 32, 24)
        change(info)
        self.infos.publish(info)

    def receive(self) -> ImageInput:
        """Send images until one is handed on."""
        known = len(self.inputs)

        def arrived() -> bool:
            self.send_image()
            return len(self.inputs) > known

        wait_until(arrived, "an image to be handed on")
        return self.inputs[known]


def test_an_image_comes_with_its_calibration(ros: Ros) -> None:
    setup = Setup(ros)
    setup.send_info()
    item = setup.receive()
    assert item.camera == CAMERA
    assert item.error is None
    assert item.anchor.frame_id == "camera"
    np.testing.assert_array_equal(image_from_message(item.message), IMAGE)


def test_k_of_zero_means_uncalibrated_soon(ros: Ros) -> None:
    setup = Setup(ros, input_wait=60.0)
    setup.send_info(camera=None)
    assert setup.receive().camera is None


def test_without_camera_info_the_first_images_wait_and_then_count_as_uncalibrated(ros: Ros) -> None:
    setup = Setup(ros)
    lines: list[Log] = []
    setup.driver.create_subscription(Log, "/rosout", lines.append, 100)
    ros.spin(setup.driver)
    assert setup.receive().camera is None
    said = "the camera is taken as uncalibrated; 60 degrees are assumed."
    wait_until(lambda: any(line.msg.endswith(said) for line in lines), "what is assumed to be said")
    assert setup.counts.dropped > 0
    wait_until(lambda: setup.counts.received == setup.counts.dropped + len(setup.inputs), "the counts to agree")
    setup.map_begun.set()
    setup.send_info()
    for _ in range(3):
        assert setup.receive().camera is None  # one map has one kind of camera
    setup.source.restart()

    def calibrated() -> bool:
        setup.send_info()
        return setup.receive().camera == CAMERA

    wait_until(calibrated, "the calibration to be used after a restart")


@pytest.mark.parametrize("one_map", [True, False])
def test_a_late_camera_info_is_used_while_there_is_no_map(ros: Ros, one_map: bool) -> None:
    """Always, where every image is used on its own."""
    setup = Setup(ros, one_map=one_map)
    assert setup.receive().camera is None

    def calibrated() -> bool:
        setup.send_info()
        return setup.receive().camera == CAMERA

    wait_until(calibrated, "the calibration to be used")
    assert setup.source.calibration == "calibrated"
    setup.map_begun.set()
    assert setup.receive().camera == CAMERA


def test_images_with_a_wrong_calibration_are_uncalibrated_and_the_reason_is_told(ros: Ros) -> None:
    def lose_coefficients(info: CameraInfo) -> None:
        info.d = [0.1, 0.2, 0.3]

    setup = Setup(ros)
    setup.send_info(lose_coefficients)
    item = setup.receive()
    assert item.camera is None
    assert item.error is None
    assert "coefficients" in setup.source.error
    assert setup.source.calibration == "unusable"
    setup.source.restart()

    def corrected() -> bool:
        setup.send_info()
        return setup.receive().camera == CAMERA

    wait_until(corrected, "the corrected calibration to be used")


def test_while_images_wait_it_is_told_why_the_calibration_that_came_cannot_be_used(ros: Ros) -> None:
    def lose_coefficients(info: CameraInfo) -> None:
        info.d = [0.1, 0.2, 0.3]

    setup = Setup(ros, input_wait=60.0)

    def told() -> bool:
        setup.send_info(lose_coefficients)
        setup.send_image()
        return "coefficients" in setup.source.holding

    wait_until(told, "the reason")
    assert setup.source.holding.startswith("Images wait up to 60 s for camera_info on ")


def test_a_calibration_that_cannot_be_right_is_not_used_and_one_that_is_doubtful_is(ros: Ros) -> None:
    def make_twice_as_large(info: CameraInfo) -> None:
        info.k[:] = [1.0 if i == 8 else 2.0 * value for i, value in enumerate(info.k)]

    setup = Setup(ros)
    lines: list[Log] = []
    setup.driver.create_subscription(Log, "/rosout", lines.append, 100)
    ros.spin(setup.driver)
    setup.send_info(make_twice_as_large)
    assert setup.receive().camera is None
    assert "at 98% of the width and 98% of the height of 32x24 pixels" in setup.source.error
    wait_until(lambda: any("98% of the width" in line.msg and line.level == 30 for line in lines), "a warning in the log")
    doubtful = Camera(32, 24, CAMERA.K + np.array([[0.0, 0.0, 8.0], [0.0] * 3, [0.0] * 3]))
    setup.source.restart()

    def used() -> bool:
        setup.send_info(camera=doubtful)
        return setup.receive().camera == doubtful

    wait_until(used, "the doubtful calibration to be used")
    wait_until(lambda: any("is doubtful, but used" in line.msg and line.level == 30 for line in lines), "a warning of it")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda info: info.k.fill(0.0),
        lambda info: info.k.fill(np.nan),
        lambda info: setattr(info, "width", 640),
        lambda info: setattr(info, "distortion_model", "fov"),
    ],
)
def test_a_first_message_that_is_wrong_does_not_matter(ros: Ros, spoil: Callable[[CameraInfo], None]) -> None:
    setup = Setup(ros, input_wait=60.0)
    setup.send_info(spoil)
    setup.send_image()
    wait_until(lambda: setup.counts.received, "the image to be waiting")
    setup.send_info()
    assert setup.receive().camera == CAMERA
    setup.send_info(spoil)
    assert setup.receive().camera == CAMERA


def test_a_calibration_that_changes_is_used_and_one_of_nan_does_not_replace_it(ros: Ros) -> None:
    setup = Setup(ros)
    other = Camera(32, 24, CAMERA.K * [[1.0, 1.0, 1.0], [1.0, 1.1, 1.0], [1.0, 1.0, 1.0]])  # all but one number stay
    for camera in (CAMERA, other):

        def used(camera: Camera = camera) -> bool:
            setup.send_info(camera=camera)
            return setup.receive().camera == camera

        wait_until(used, "the calibration to be used")
    for _ in range(5):
        setup.send_info(lambda info: info.k.fill(np.nan))
        assert setup.receive().camera == other


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_camera_info_without_a_size_is_for_the_images_that_come(ros: Ros, transport: str) -> None:
    def forget_size(info: CameraInfo) -> None:
        info.width = info.height = 0

    setup = Setup(ros, image_transport=transport)
    setup.send_info(forget_size)
    assert setup.receive().camera == CAMERA


def test_a_camera_info_that_was_latched_before_is_heard(ros: Ros) -> None:
    setup = Setup(ros, input_wait=60.0)
    latched = setup.driver.create_publisher(CameraInfo, "camera_info", LATCHED_TF)
    latched.publish(conversions.camera_message(CAMERA, 1, "camera", 32, 24))
    assert setup.receive().camera == CAMERA


@pytest.mark.parametrize(
    ("image", "rectified", "undistorted"),
    [("/left/image_rect", "auto", True), ("/left/image_rect", "no", False), ("/left/image_raw", "yes", True)],
)
def test_rectified_images_have_the_camera_of_p(ros: Ros, image: str, rectified: str, undistorted: bool) -> None:
    def distort(info: CameraInfo) -> None:
        info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
        info.p[0] = info.p[5] = 20.0

    setup = Setup(ros, "-r", f"image:={image}", image=image, info="/left/camera_info", rectified=rectified)
    setup.send_info(distort)
    camera = setup.receive().camera
    assert camera is not None
    assert camera.has_distortion is not undistorted
    assert (camera.K[0, 0] < 20.1) == undistorted


def test_camera_info_is_the_sibling_of_the_remapped_image(ros: Ros) -> None:
    setup = Setup(ros, "-r", "image:=/left/image_raw", image="/left/image_raw", info="/left/camera_info")
    assert (setup.source.topic, setup.source.info_topic) == ("/left/image_raw", "/left/camera_info")
    setup.send_info()
    assert setup.receive().camera == CAMERA


def test_a_remapped_camera_info_is_taken(ros: Ros) -> None:
    setup = Setup(
        ros, "-r", "image:=/left/image_raw", "-r", "camera_info:=/calibration", image="/left/image_raw", info="/calibration"
    )
    assert setup.source.info_topic == "/calibration"


def test_compressed_images(ros: Ros) -> None:
    setup = Setup(ros, image_transport="compressed")
    assert setup.source.topic == "/image/compressed"
    setup.send_info()
    np.testing.assert_array_equal(image_from_message(setup.receive().message), IMAGE)


def test_the_place_of_the_camera_comes_from_tf(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.tf.listener.LISTEN_S", 0.1)
    T_base_cam = SE3.exp(np.arange(6) * 0.1)
    setup = Setup(ros, base_frame="base_link", input_wait=60.0)
    setup.send_info()
    setup.tf.publish(TFMessage(transforms=[conversions.transform_message(T_base_cam, 0, "base_link", "camera")]))
    item = setup.receive()
    assert item.anchor.frame_id == "base_link"
    np.testing.assert_allclose(item.anchor.T_frame_cam.as_matrix(), T_base_cam.as_matrix(), atol=1e-12)
    assert item.odometry is None

    def left() -> bool:
        setup.receive()
        return setup.tf.get_subscription_count() == 0

    wait_until(left, "the source to stop listening to TF")


def test_without_tf_the_camera_sits_at_the_base_and_looks_forward(ros: Ros) -> None:
    setup = Setup(ros, base_frame="base_link")
    setup.send_info()
    anchor = setup.receive().anchor
    assert anchor.frame_id == "base_link"
    np.testing.assert_array_equal(anchor.T_frame_cam.as_matrix(), OPTICAL.as_matrix())
    assert setup.counts.dropped > 0


@pytest.mark.parametrize(("parent", "told"), [("odom", "odom"), ("map", None)])
def test_another_parent_of_the_base_is_noticed(ros: Ros, parent: str, told: str | None) -> None:
    """The map itself is none: that is what the node broadcasts."""
    setup = Setup(ros, base_frame="base_link", input_wait=60.0)
    setup.send_info()
    transforms = [
        conversions.transform_message(SE3.identity(), 0, parent, "base_link"),
        conversions.transform_message(SE3.identity(), 0, "base_link", "camera"),
    ]
    setup.tf.publish(TFMessage(transforms=transforms))
    assert setup.receive().parent == told


def test_a_parent_that_is_told_of_no_more_is_forgotten(ros: Ros, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("st3r_ros.ros.tf.listener.LISTEN_S", 0.3)
    monkeypatch.setattr("st3r_ros.ros.tf.listener.PERIOD_S", 0.6)
    setup = Setup(ros, base_frame="", input_wait=0.0)
    setup.send_info()
    rival = setup.driver.create_publisher(TFMessage, "/tf", 10)  # what /tf_static tells holds for ever

    def conflict(*, told: bool) -> bool:
        if told:
            rival.publish(TFMessage(transforms=[conversions.transform_message(SE3.identity(), 0, "other", "camera")]))
        return (setup.receive().parent == "other") == bool(setup.source.conflict) == told

    for told in (False, True, False, True):
        wait_until(lambda told=told: conflict(told=told), f"the parent to be {'noticed' if told else 'forgotten'}")
    setup.source.follow(MappingNodeConfig(publish_tf=False))
    assert setup.source.conflict == ""


def test_the_first_images_wait_for_odometry(ros: Ros) -> None:
    setup = Setup(ros, odom_frame="odom", input_wait=60.0)
    setup.send_info()
    wait_until(lambda: setup.tf.get_subscription_count() > 0, "the source to listen to TF")
    for _ in range(10):
        setup.send_image()
    wait_until(lambda: setup.counts.dropped > 0, "an image to be held back")
    assert setup.source.holding == "Images wait up to 60 s for TF from odom to camera."
    assert not setup.inputs
    T_odom_cam = SE3.exp(np.arange(6) * 0.1)
    setup.tf.publish(TFMessage(transforms=[conversions.transform_message(T_odom_cam, 0, "odom", "camera")]))
    item = setup.receive()
    assert item.odometry is not None
    assert item.parent is None
    pose = item.odometry.pose("camera", 123)
    assert pose is not None
    np.testing.assert_allclose(pose.as_matrix(), T_odom_cam.as_matrix(), atol=1e-12)
    assert setup.tf.get_subscription_count() > 0


def test_without_odometry_the_images_come_nevertheless(ros: Ros) -> None:
    setup = Setup(ros, odom_frame="odom", odom_wait=0.0)
    setup.send_info()
    item = setup.receive()
    assert item.odometry is not None
    assert item.odometry.pose("camera", 1) is None


def test_muted_it_hands_nothing_on(ros: Ros) -> None:
    setup = Setup(ros)
    setup.send_info()
    setup.receive()
    setup.source.muted = True
    before, received = setup.source.last_image, setup.counts.received

    def heard() -> bool:
        setup.send_image()
        return setup.source.last_image > before

    wait_until(heard, "the image to arrive")
    assert setup.counts.received == received


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "it has no publisher; images are on /elsewhere"),
        (Image, "does not publish"),
        (CompressedImage, "it carries sensor_msgs/msg/CompressedImage, not"),
    ],
)
def test_silence_is_explained(ros: Ros, kind: type | None, words: str) -> None:
    explain_silence(ros, kind, 1, MappingNodeConfig(base_frame=""), words)


@pytest.mark.parametrize(
    ("quality", "words"), [(qos_profile_sensor_data, "best effort, but image_reliability is reliable"), (1, "does not publish")]
)
def test_a_publisher_that_cannot_be_reliable_is_told(ros: Ros, quality: QoSProfile | int, words: str) -> None:
    explain_silence(ros, Image, quality, MappingNodeConfig(base_frame="", image_reliability="reliable"), words)


def explain_silence(ros: Ros, kind: type | None, quality: QoSProfile | int, config: MappingNodeConfig, words: str) -> None:
    """A driver that does not publish, in a context of its own, and what the source says about it."""
    ros.init()
    elsewhere = Context()
    rclpy.init(context=elsewhere)
    driver, node = Node("driver", context=elsewhere), Node("listener")
    driver.create_publisher(Image, "/elsewhere", 1)
    if kind is not None:
        driver.create_publisher(kind, "image", quality)
    source = ImageSource(node, config, ImageCounts(), lambda item: 0, lambda frame, stamp_ns: False)
    try:
        wait_until(lambda: words in source.silence(), f"'{words}'")
    finally:
        driver.destroy_node()
        elsewhere.shutdown()
