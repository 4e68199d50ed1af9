# SPDX-License-Identifier: Apache-2.0
import array

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Transform
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.errors import EncodingError, FrameError, GeometryError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.calibration import camera_from_info
from st3r_ros.io.encodings import ENCODINGS, Pixels, find_encoding
from st3r_ros.io.image_encoding import decode_image
from st3r_ros.io.picture import ToneRange
from st3r_ros.ros import conversions
from st3r_ros.ros.input.image_input import image_from_message
from st3r_ros.types import Frame

HEIGHT, WIDTH = 6, 8
PIXELS = [name for name in ENCODINGS if isinstance(find_encoding(name), Pixels)]


def random_pixels(encoding: str) -> np.ndarray:
    """(HEIGHT, WIDTH, channels) values that every format can hold."""
    layout = find_encoding(encoding)
    assert isinstance(layout, Pixels)
    values = np.random.default_rng(len(encoding)).integers(1, 256, (HEIGHT, WIDTH, layout.channels))
    return (values if layout.dtype == "u1" else values * 100).astype("<" + layout.dtype)


def image_of(encoding: str, pixels: np.ndarray, padding: int = 0, big_endian: bool = False) -> Image:
    """The message as it comes out of a socket."""
    rows = (pixels.byteswap() if big_endian else pixels).reshape(HEIGHT, -1).view(np.uint8)
    rows = np.hstack([rows, np.full((HEIGHT, padding), 0xAB, np.uint8)])
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=rows.shape[1], is_bigendian=int(big_endian))
    message.data = array.array("B", rows.tobytes())
    return deserialize_message(serialize_message(message), Image)


@pytest.mark.parametrize("encoding", PIXELS)
def test_every_encoding_survives_padding_and_byte_order(encoding: str) -> None:
    pixels = random_pixels(encoding)
    stored = decode_image(pixels.tobytes(), height=HEIGHT, width=WIDTH, encoding=encoding, step=pixels.nbytes // HEIGHT)
    expected = ToneRange().to_rgb(stored)
    assert expected.shape == (HEIGHT, WIDTH, 3)
    assert expected.dtype == np.uint8
    for padding in (0, 12):
        for big_endian in (False, True):
            image = image_from_message(image_of(encoding, pixels, padding, big_endian))
            np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0]), ("rgba8", [0, 1, 2]), ("bgra8", [2, 1, 0])]
)
def test_colours_keep_their_channel(encoding: str, order: list[int]) -> None:
    pixels = random_pixels(encoding)
    np.testing.assert_array_equal(image_from_message(image_of(encoding, pixels)), pixels[..., order])


def test_compressed_png_is_exact_and_jpeg_is_close() -> None:
    grid = np.mgrid[0:64, 0:96]
    rgb = np.stack([grid[0] * 3, grid[1] * 2, grid[0] + grid[1]], axis=-1).astype(np.uint8)
    for suffix, tolerance in (("png", 0), ("jpeg", 24)):
        data = cv2.imencode(f".{suffix}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
        message = CompressedImage(format=f"rgb8; {suffix} compressed bgr8", data=array.array("B", data))
        image = image_from_message(deserialize_message(serialize_message(message), CompressedImage))
        assert np.abs(image.astype(int) - rgb).max() <= tolerance


def test_a_jpeg_message_that_lost_bytes_on_the_way_is_refused() -> None:
    noise = cv2.resize(random_pixels("rgb8"), (320, 240), interpolation=cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    begin = (data.find(b"\xff\xda") + len(data)) // 2
    whole, damaged = (
        CompressedImage(format="jpeg", data=array.array("B", d)) for d in (data, data[:begin] + data[begin + len(data) // 16 :])
    )
    assert image_from_message(whole).shape == (240, 320, 3)
    with pytest.raises(EncodingError, match=r"format 'jpeg' cannot be decoded: .*damaged"):
        image_from_message(damaged)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoding": "foo"}, "foo"),
        ({"step": 3}, "step"),
        ({"data": array.array("B", bytes(10))}, "10 bytes"),
        ({"width": 0, "height": 0}, "0x0"),
    ],
)
def test_malformed_image_is_a_clear_error(change: dict, sentence: str) -> None:
    message = image_of("rgb8", random_pixels("rgb8"))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(EncodingError, match=sentence):
        image_from_message(message)


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_pass_through_exactly(stamp_ns: int) -> None:
    assert conversions.stamp_to_ns(conversions.stamp_from_ns(stamp_ns)) == stamp_ns


@pytest.mark.parametrize("stamp", [Time(sec=-1), Time(nanosec=10**9)])
def test_a_stamp_that_is_no_time_is_refused(stamp: Time) -> None:
    with pytest.raises(FrameError, match="not a valid time"):
        conversions.stamp_to_ns(stamp)


def test_a_stamp_after_2038_is_refused() -> None:
    with pytest.raises(FrameError, match="2038"):
        conversions.stamp_from_ns(2**31 * 10**9)


def test_frame_to_message_and_back() -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for view in (image, image[:, ::2], image[::-1]):
        message = conversions.image_message(Frame(0, 1_234_567_891_234_567_891, view), "camera")
        message = deserialize_message(serialize_message(message), Image)
        np.testing.assert_array_equal(image_from_message(message), view)
        assert conversions.stamp_to_ns(message.header.stamp) == 1_234_567_891_234_567_891
        assert message.header.frame_id == "camera"


def test_camera_to_message_and_back() -> None:
    K = np.array([[500.0, 0.0, 320.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]])
    for model, count in (("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)):
        camera = Camera(640, 480, K, model, np.linspace(0.01, 0.02, count))
        message = conversions.camera_message(camera, 5, "camera", 640, 480)
        assert camera_from_info(deserialize_message(serialize_message(message), CameraInfo)) == camera
    assert camera_from_info(conversions.camera_message(None, 5, "camera", 640, 480)) is None


@given(st.lists(st.floats(-3.0, 3.0), min_size=6, max_size=6))
def test_transform_to_message_and_back(xi: list[float]) -> None:
    T = SE3.exp(np.array(xi))
    message = conversions.transform_message(T, 7, "map", "base")
    assert (message.header.frame_id, message.child_frame_id) == ("map", "base")
    np.testing.assert_allclose(conversions.transform_from_message(message.transform).as_matrix(), T.as_matrix(), atol=1e-12)
    pose = conversions.pose_message(T)
    q = pose.orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], T.quaternion_xyzw)
    np.testing.assert_allclose([pose.position.x, pose.position.y, pose.position.z], T.translation)


def test_a_transform_without_rotation_is_refused() -> None:
    message = Transform()
    message.rotation.w = 0.0
    with pytest.raises(GeometryError):
        conversions.transform_from_message(message)
