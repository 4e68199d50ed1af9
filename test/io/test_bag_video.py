# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="videos are decoded with the optional library PyAV")

import bag_files as bags
from video_packets import encode, index_of, ramp

from st3r_ros.errors import InputError, MissingDependencyError
from st3r_ros.io.bag import BagSequence
from st3r_ros.io.sequence import Selection

START, STEP = 1_700_000_000_000_000_000, 66_000_000
COUNT = 20
FORMS = {
    "foxglove": lambda stamp_ns, packet: bags.foxglove_video(stamp_ns, packet.data, "h264"),
    "ffmpeg": lambda stamp_ns, packet: bags.ffmpeg_packet(stamp_ns, packet.data, "libx264;yuv420p;bgr8;bgr8", packet.index),
    "compressed": lambda stamp_ns, packet: bags.compressed(stamp_ns, packet.data, "h264"),
}


def write_video(path: Path, form: str, *, b_frames: int = 0, without: tuple[int, ...] = ()) -> Path:
    """Image i has the stamp START + i * STEP; packets are recorded in the order in which they were encoded."""
    topic = f"/camera/image_raw/{form}"
    messages: list[tuple[str, int, Any]] = [("/camera/camera_info", START, bags.camera_info(START, 64, 48, 50.0))]
    for order, packet in enumerate(encode([ramp(i) for i in range(COUNT)], b_frames=b_frames)):
        if packet.index not in without:
            messages.append((topic, START + order * STEP, FORMS[form](START + packet.index * STEP, packet)))
    return bags.write_bag(path, messages)


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("form", FORMS)
def test_images_come_with_the_stamps_of_their_packets_and_the_camera(tmp_path, form, b_frames):
    sequence = BagSequence(write_video(tmp_path / "bag", form, b_frames=b_frames))
    for _ in range(2):
        frames = list(sequence)
        assert [frame.stamp_ns for frame in frames] == [START + i * STEP for i in range(COUNT)]
        assert [index_of(frame.image) for frame in frames] == list(range(COUNT))
    assert sequence.camera is not None and not sequence.skipped and sequence.length == COUNT


def test_every_third_image_is_the_third_though_all_are_decoded(tmp_path):
    path = write_video(tmp_path / "bag", "foxglove")
    assert [index_of(frame.image) for frame in BagSequence(path, selection=Selection(every=3))] == list(range(0, COUNT, 3))


def test_what_cannot_be_decoded_is_skipped_and_counted(tmp_path):
    sequence = BagSequence(write_video(tmp_path / "bag", "ffmpeg", without=(0, 1, 8)))
    assert [index_of(frame.image) for frame in sequence] == [6, 7, *range(12, COUNT)]
    reasons = [item.reason for item in sequence.skipped]
    assert len(reasons) == 7 and "before the first key frame" in reasons[0] and "lost or damaged" in reasons[-1]
    assert sequence.skipped[0].source == "/camera/image_raw/ffmpeg message 0"


def test_a_video_after_a_file_that_is_lost_is_read(tmp_path):
    (file,) = write_video(tmp_path / "bag", "foxglove").glob("*.mcap")
    file.rename(tmp_path / "bag" / "drive_1.mcap")
    (tmp_path / "bag" / "drive_0.mcap").write_bytes(b"")
    sequence = BagSequence(tmp_path / "bag")
    assert sequence.size == (64, 48) and [index_of(frame.image) for frame in sequence] == list(range(COUNT))
    assert "'drive_0.mcap' is empty" in sequence.skipped[0].reason


def test_a_video_without_a_key_frame_says_so(tmp_path):
    path = write_video(tmp_path / "bag", "foxglove", without=(0, 6, 12, 18))
    with pytest.raises(InputError, match=r"Not one image .* \(16 tried\).*before the first key frame"):
        list(BagSequence(path))


def test_without_pyav_the_topic_and_the_way_out_are_named(tmp_path, monkeypatch):
    path = write_video(tmp_path / "bag", "foxglove")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingDependencyError, match=r"/foxglove \(foxglove_msgs/msg/CompressedVideo\) is a video.*pip install av"
    ):
        BagSequence(path)
