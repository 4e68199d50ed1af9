# SPDX-License-Identifier: Apache-2.0
import re
import sys

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="bags are read with the optional library rosbags")

import bag_files as bags
from sample_images import encoded, number_of, picture

from st3r_ros.errors import InputError, MissingDependencyError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.bag import BagSequence, is_bag
from st3r_ros.io.sequence import Selection

START = 1_700_000_000_123_456_789
STEP = 66_666_667


def images(topic: str = "/camera/image_raw", count: int = 4) -> list:
    """Image messages of the pictures 0, 1, ...; recorded 5 ms after their stamps."""
    stamps = [START + i * STEP for i in range(count)]
    return [(topic, stamp + 5_000_000, bags.image(stamp, picture(i), padding=i)) for i, stamp in enumerate(stamps)]


def info(topic: str = "/camera/camera_info", focal: float = 40.0) -> tuple:
    return (topic, START, bags.camera_info(START, 48, 32, focal))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_raw_images_come_with_exact_stamps_and_their_camera(tmp_path, storage):
    path = bags.write_bag(tmp_path / "bag", [info(), *images(), ("/chatter", START, bags.text("hello"))], storage)
    sequence = BagSequence(path)
    for _ in range(2):
        frames = list(sequence)
        assert [frame.stamp_ns for frame in frames] == [START + i * STEP for i in range(4)]
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame.image, picture(i))
    assert sequence.length == 4 and sequence.kind == "bag" and sequence.topic == "/camera/image_raw"
    assert frames[0].camera == sequence.camera and sequence.camera.K[0, 0] == 40.0
    (file,) = (file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
    assert is_bag(path) and is_bag(file)
    assert [number_of(frame.image) for frame in BagSequence(file)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("suffix", "format"), [(".jpg", "bgr8; jpeg compressed bgr8"), (".png", "png")])
def test_compressed_images_find_the_camera_beside_the_raw_topic(tmp_path, suffix, format):
    topic = "/camera/image_raw/compressed"
    messages = [(topic, START + i, bags.compressed(START + i, encoded(picture(i), suffix), format)) for i in range(3)]
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [info(), *messages]))
    assert [number_of(frame.image) for frame in sequence] == [0, 1, 2] and sequence.camera is not None


def test_a_first_image_of_another_size_does_not_take_the_camera_from_the_others(tmp_path):
    odd = ("/camera/image_raw", START, bags.image(START, picture(0, 32, 48)))
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [info(), odd, *images()]))
    assert sequence.size == (48, 32)
    assert [frame.camera is not None for frame in sequence] == [False, True, True, True, True]


def test_of_as_many_images_of_two_sizes_those_of_the_given_calibration_are_taken(tmp_path):
    stamps = [START + i * STEP for i in range(4)]
    sizes = [(48, 32), (48, 32), (40, 30), (40, 30)]
    messages = [("/camera/image_raw", t, bags.image(t, picture(0, *size))) for t, size in zip(stamps, sizes, strict=True)]
    path = bags.write_bag(tmp_path / "bag", messages)
    assert BagSequence(path).size == (48, 32)
    assert BagSequence(path, Camera.from_fov(40, 30, 60.0)).size == (40, 30)


def test_a_damaged_jpeg_is_skipped_with_its_topic(tmp_path, capfd):
    topic = "/camera/image_raw/compressed"
    rough = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    whole = encoded(rough, ".jpg")
    data = [whole, whole[: len(whole) // 2] + whole[len(whole) // 2 + 500 :], whole]
    messages = [(topic, START + i, bags.compressed(START + i, part, "jpeg")) for i, part in enumerate(data)]
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", messages))
    assert len(list(sequence)) == 2
    (skipped,) = sequence.skipped
    assert skipped.is_frame and skipped.source == f"{topic} message 1" and "Corrupt JPEG data" in skipped.reason
    assert capfd.readouterr().err == ""


def test_the_topic_is_chosen_when_there_are_several(tmp_path):
    path = bags.write_bag(tmp_path / "bag", [*images("/left/image"), *images("/right/image", 2), info("/right/camera_info")])
    with pytest.raises(
        InputError, match=r"several image topics: /left/image, /right/image; choose one with .*\?topic=/left/image"
    ):
        BagSequence(path)
    right = BagSequence(path, topic="/right/image", selection=Selection(every=2))
    assert [number_of(frame.image) for frame in right] == [0] and right.camera is not None
    assert BagSequence(path, topic="/left/image").camera is None
    with pytest.raises(InputError, match="no image topic /up; it has /left/image, /right/image"):
        BagSequence(path, topic="/up")
    with pytest.raises(InputError, match=r"no images on /right/camera_info \(sensor_msgs/msg/CameraInfo\); it has /left/image"):
        BagSequence(path, topic="/right/camera_info")


def test_a_given_camera_goes_first_and_an_uncalibrated_one_is_none(tmp_path):
    path = bags.write_bag(tmp_path / "bag", [info(focal=0.0), *images()])
    assert BagSequence(path).camera is None
    camera = Camera.from_fov(48, 32, 60.0)
    assert next(iter(BagSequence(path, camera=camera))).camera == camera


def lens(stamp_ns: int, **changes) -> tuple:
    """A camera_info with distortion and a P of a shorter focal length."""
    message = bags.camera_info(stamp_ns, 48, 32, 40.0)
    message.d, message.p = np.array([-0.3, 0.1, 0.0, 0.0, 0.0]), np.array([30.0, 0, 24, 0, 0, 30.0, 16, 0, 0, 0, 1, 0])
    for name, value in changes.items():
        setattr(message, name, value)
    return ("/camera/camera_info", stamp_ns, message)


@pytest.mark.parametrize(
    ("topic", "rectified", "focal"),
    [
        ("/camera/image_rect", "auto", 30.0),
        ("/camera/image_rect", "no", 40.0),
        ("/camera/image_raw", "auto", 40.0),
        ("/camera/image_raw", "yes", 30.0),
    ],
)
def test_rectified_images_are_not_undistorted_again(tmp_path, topic, rectified, focal):
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [lens(START), *images(topic)]), rectified=rectified)
    for camera in (sequence.camera, next(iter(sequence)).camera):
        assert (camera.K[0, 0], camera.has_distortion) == (focal, focal == 40.0)
    assert len(sequence.notes) == 1 and "rectified" in sequence.notes[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"distortion_model": "fov"}, "cannot be used: .*'distortion_model: fov' is a lens that is not supported"),
        ({"d": np.full(5, np.nan)}, "cannot be used: .*not finite"),
        ({"width": 640, "height": 480}, "cannot be used: .*is for images of 640x480 pixels, but these have 48x32"),
        ({"k": np.array([80.0, 0, 47.5, 0, 80.0, 31.5, 0, 0, 1])}, "cannot be used: .*so K is of images of about 96x64 pixels"),
        ({"d": np.full(5, 1e3)}, "cannot be used: .*leaves 0% of the undistorted image"),
        ({"k": np.zeros(9), "p": np.zeros(12)}, "has K = 0"),
    ],
)
def test_a_bag_is_not_refused_for_its_calibration(tmp_path, changes, reason):
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [lens(START, **changes), *images()]))
    assert [frame.camera for frame in sequence] == [None] * 4
    (note,) = sequence.notes
    assert re.search(f"/camera/camera_info .*{reason}", note) and "uncalibrated" in note and "--camera" in note


@pytest.mark.parametrize("topic", ["/camera/image_raw", "/camera/image_raw/compressed"])
def test_the_calibration_is_the_one_that_fits_the_image(tmp_path, topic):
    """A driver that begins in another mode, tells K = 0 or no size, and focuses later."""
    wrong = [lens(START, width=96, height=64), lens(START + 1, k=np.zeros(9), p=np.zeros(12))]
    closer = lens(START + 2 * STEP, k=np.array([41.0, 0, 24, 0, 41.0, 16, 0, 0, 1]))
    sizeless = lens(START + 1000, width=0, height=0)
    shown = images(topic)
    if topic.endswith("compressed"):
        shown = [(topic, ns, bags.compressed(ns, encoded(picture(i), ".jpg"), "jpeg")) for i, (_, ns, _) in enumerate(shown)]
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [*wrong, sizeless, shown[0], shown[1], closer, *shown[2:]]))
    for _ in range(2):
        assert [frame.camera.K[0, 0] for frame in sequence] == [40.0, 40.0, 41.0, 41.0]


def test_a_calibration_that_changes_its_size_is_said(tmp_path, caplog):
    later = lens(START + 2 * STEP, width=96, height=64)
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", [lens(START), *images()[:2], later, *images()[2:]]))
    assert [frame.camera.K[0, 0] for frame in sequence] == [40.0] * 4
    assert [record.message for record in caplog.records] == [
        "/camera/camera_info now gives another image size; the last one for 48x32 pixels is kept."
    ]


def test_a_calibration_elsewhere_is_named(tmp_path):
    path = bags.write_bag(tmp_path / "bag", [info("/calibration/camera_info"), *images()])
    sequence = BagSequence(path)
    assert sequence.camera is None and "?camera_info=<topic> (there are /calibration/camera_info)" in sequence.notes[0]
    assert BagSequence(path, camera_info="/calibration/camera_info").camera is not None
    note = BagSequence(path, camera_info="/misspelt").notes[0]
    assert "no camera_info /misspelt in the bag" in note and "(there are /calibration/camera_info)" in note


def test_bad_messages_are_skipped_and_counted(tmp_path):
    messages = images()
    messages[1][2].encoding = "foo"
    messages[2][2].step = 10_000
    messages[3][2].header.stamp.sec = messages[3][2].header.stamp.nanosec = 0
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", messages))
    frames = list(sequence)
    assert [frame.id for frame in frames] == [0, 3]
    assert frames[1].stamp_ns == START + 3 * STEP + 5_000_000  # without a stamp, the time of recording
    assert [item.index for item in sequence.skipped] == [1, 2]
    assert "encoding 'foo', which is not known" in sequence.skipped[0].reason and "10000" in sequence.skipped[1].reason
    assert sequence.skipped[0].source == "/camera/image_raw message 1"


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("shift_s", [3600, -3600])
@pytest.mark.parametrize("offset_s", [0, 500_000_000])
def test_an_image_whose_stamp_is_far_from_its_neighbours_is_skipped(tmp_path, at, shift_s, offset_s):
    """offset_s: of the recording from the clock of the camera."""
    messages = [(topic, recorded_ns + offset_s * 10**9, message) for topic, recorded_ns, message in images(count=5)]
    messages[at][2].header.stamp.sec += shift_s
    sequence = BagSequence(bags.write_bag(tmp_path / "bag", messages))
    assert [frame.id for frame in sequence] == [i for i in range(5) if i != at]
    (skipped,) = sequence.skipped
    when, neighbour = "after" if shift_s > 0 else "before", "last" if at else "next"
    assert skipped.index == at and f"1.0 h {when} the {neighbour} image's" in skipped.reason


def test_an_image_alone_and_a_jump_in_time_are_read_whole(tmp_path):
    messages = images(count=4)
    for _, _, message in messages[2:]:
        message.header.stamp.sec += 3600
    assert [frame.id for frame in BagSequence(bags.write_bag(tmp_path / "jump", messages))] == [0, 1, 2, 3]
    assert [frame.id for frame in BagSequence(bags.write_bag(tmp_path / "one", messages[3:]))] == [0]


def test_bags_without_images_say_what_they_hold(tmp_path):
    path = bags.write_bag(tmp_path / "bag", [("/chatter", START, bags.text("hello"))])
    with pytest.raises(InputError, match=r"holds no images .*/chatter \(std_msgs/msg/String\)"):
        BagSequence(path)
    with pytest.raises(InputError, match="no bag"):
        BagSequence(tmp_path / "absent.mcap")


def test_a_recording_that_crashed_is_read_without_its_metadata(tmp_path):
    path = bags.write_bag(tmp_path / "bag", images(), "sqlite3")
    (path / "metadata.yaml").unlink()
    assert is_bag(path) and [number_of(frame.image) for frame in BagSequence(path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.95])
def test_a_bag_that_was_cut_short_gives_images_or_a_sentence(tmp_path, storage, kept):
    path = bags.write_bag(tmp_path / "bag", images(count=12), storage)
    (file,) = (file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    for source in (path, file):
        try:
            sequence = BagSequence(source)
            found = [number_of(frame.image) for frame in sequence]
        except InputError as error:
            assert "bag" in str(error)
        else:
            assert found == list(range(len(found))) and (len(found) == 12 or sequence.skipped)


def test_without_the_library_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    path = bags.write_bag(tmp_path / "bag", images())
    monkeypatch.setitem(sys.modules, "mcap", None)
    with pytest.raises(MissingDependencyError, match=r"mcap is not installed.*pip install rosbags mcap"):
        BagSequence(path)
