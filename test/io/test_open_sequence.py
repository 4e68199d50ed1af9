# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
from sample_images import write_pictures

from st3r_ros.errors import InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.sequences import open_sequence


@pytest.fixture
def sources(tmp_path):
    """A folder with an odd name, a TUM sequence and a video."""
    write_pictures(tmp_path / "folder?fps=1", ["0.png", "1.png"])
    write_pictures(tmp_path / "folder", ["0.png", "1.png", "2.png"])
    write_pictures(tmp_path / "tum", ["0.png"])
    (tmp_path / "tum/rgb.txt").write_text("1.5 0.png\n")
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (48, 32))
    writer.write(np.zeros((32, 48, 3), dtype=np.uint8))
    writer.release()
    return tmp_path


@pytest.mark.parametrize(("name", "kind"), [("folder", "folder"), ("tum", "tum"), ("video.avi", "video")])
def test_every_kind_is_recognised(sources, name, kind):
    sequence = open_sequence(str(sources / name))
    assert sequence.kind == kind and len(list(sequence)) == sequence.length and not sequence.skipped


def test_a_bag_is_recognised_and_takes_a_topic(tmp_path):
    bags = pytest.importorskip("bag_files", reason="bags are read with the optional library rosbags")
    image = bags.image(10**9, np.zeros((4, 4, 3), dtype=np.uint8))
    path = bags.write_bag(tmp_path / "bag", [("/a", 1, image), ("/b", 2, image), ("/b", 3, image)])
    sequence = open_sequence(f"{path}?topic=/b")
    assert sequence.kind == "bag" and sequence.length == 2
    with pytest.raises(InputError, match="unknown option 'fps'; it takes topic"):
        open_sequence(f"{path}?fps=3")


def test_the_simulator_takes_its_options():
    sequence = open_sequence("sim:corridor?seed=5&frames=9&width=64&height=48&noise=0", every=4, max_frames=2)
    assert (sequence.kind, sequence.length, sequence.camera.width) == ("sim", 2, 64)
    assert sequence.truth.stamps_ns.tolist() == [0, 266_666_667]


def test_options_follow_a_question_mark_but_a_path_that_exists_is_taken_as_it_is(sources):
    stamps = [frame.stamp_ns for frame in open_sequence(f"{sources}/folder?fps=4")]
    assert stamps == [0, 250_000_000, 500_000_000]
    assert open_sequence(f"{sources}/folder?fps=1").length == 2


def test_selection_and_camera_reach_the_sequence(sources):
    camera = Camera.from_fov(48, 32, 50.0)
    frames = list(open_sequence(f"{sources}/folder", camera=camera, every=2, max_frames=5))
    assert [frame.id for frame in frames] == [0, 1] and frames[0].camera == camera


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("absent", "no file, folder or webcam 'absent'"),
        ("", "no file, folder or webcam ''"),
        ("97", "no webcam 97"),
        ("{}/empty", "holds no images"),
        ("{}", r"holds 3 sequences: folder, folder\?fps=1, tum. Select one: '.*/folder'"),
        ("{}/folder/0.png", "a single image; give the folder"),
        ("{}/folder/x.bag", "x.bag' cannot be read: 'x.bag' is empty"),
        ("{}/folder/text.txt", "is not a video; for a data set, give the folder: '.*/folder'"),
        ("{}/folder/text.avi", "is not a video that OpenCV can play"),
        ("{}/folder?fps=fast", "option fps .* 'fast', which is not a number"),
        ("{}/folder?fsp=3", "unknown option 'fsp'; it takes fps"),
        ("{}/folder?fps=0", "fps is 0"),
        ("{}/folder?fps", "form key=value"),
        ("{}/tum?topic=/a", "unknown option 'topic'; it takes fps, camera"),
        ("{}/tum?camera=cam1", "has no camera 'cam1'; there is only one"),
        ("sim:attic", "world is 'attic'; it must be one of room, corridor"),
        ("sim:room?sed=3", "unknown option 'sed'; it takes seed, frames, fps, width, height, fov_deg, noise, exposure"),
        ("sim:room?frames=0", "frames is 0; it must be between 1 and"),
        ("sim:room?seed=1&seed=2", "each key once"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(sources, source, reason):
    (sources / "folder/x.bag").write_bytes(b"")
    for name in ("text.txt", "text.avi"):
        (sources / "folder" / name).write_text("text")
    (sources / "empty").mkdir()
    with pytest.raises(InputError, match=reason):
        open_sequence(source.format(sources))


def test_every_below_one_and_a_camera_for_the_simulator_are_refused():
    with pytest.raises(InputError, match="every is 0"):
        open_sequence("sim:room", every=0)
    with pytest.raises(InputError, match="its own camera"):
        open_sequence("sim:room", camera=Camera.from_fov(640, 480, 60.0))
