# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
from sample_images import number_of, picture

from st3r_ros.errors import InputError
from st3r_ros.io.sequence import Selection
from st3r_ros.io.live import WebcamSequence
from st3r_ros.io.video import VideoSequence


@pytest.fixture(params=["MJPG.avi", "mp4v.mp4"])
def video(request, tmp_path):
    """Eight pictures at 20 Hz."""
    codec, _, suffix = request.param.partition(".")
    path = tmp_path / f"video.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 20.0, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec}")
    for number in range(8):
        writer.write(np.ascontiguousarray(picture(number, 64, 48)[..., ::-1]))
    writer.release()
    return path


def test_frames_come_in_order_with_their_times(video):
    sequence = VideoSequence(video)
    for _ in range(2):
        frames = list(sequence)
        assert [number_of(frame.image) for frame in frames] == list(range(8))
        intervals = np.diff([frame.stamp_ns for frame in frames])
        np.testing.assert_allclose(intervals, 50_000_000, atol=1_000_000)
    assert sequence.length == 8 and frames[0].image.shape == (48, 64, 3)
    assert np.abs(frames[3].image.astype(int) - picture(3, 64, 48)).mean() < 12  # RGB, not BGR


def test_selected_frames_keep_their_times(video):
    every = [frame.stamp_ns for frame in VideoSequence(video)]
    sequence = VideoSequence(video, selection=Selection(every=3, max_frames=2))
    assert [(number_of(frame.image), frame.stamp_ns) for frame in sequence] == [(0, every[0]), (3, every[3])]
    assert sequence.length == 2


def test_a_video_that_was_cut_short_gives_what_it_has_and_says_so(video):
    whole = video.read_bytes()
    video.write_bytes(whole[: int(0.8 * len(whole))])
    try:
        sequence = VideoSequence(video)
    except InputError as error:  # an mp4 has its index at the end
        assert video.suffix == ".mp4" and "its index (moov), which is written last, is missing" in str(error)
        return
    found = [number_of(frame.image) for frame in sequence]
    assert found == list(range(len(found))) and 1 < len(found) < 7
    assert "of the 8 frames" in sequence.skipped[-1].reason


def test_what_is_no_video_says_so(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    for path, reason in ((tmp_path / "text.mp4", "no video"), (tmp_path, "a folder"), (tmp_path / "absent.mp4", "no file")):
        with pytest.raises(InputError, match=reason):
            VideoSequence(path)


def test_a_webcam_that_does_not_exist_says_so():
    with pytest.raises(InputError, match="no webcam 97"):
        WebcamSequence(97)
