# SPDX-License-Identifier: Apache-2.0
import struct

import cv2
import numpy as np
import pytest
from sample_images import number_of, picture

from st3r_ros.errors import InputError
from st3r_ros.io import av_file
from st3r_ros.io.live import WebcamSequence
from st3r_ros.io.sequence import Selection
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


@pytest.mark.parametrize(("rate", "skipped"), [(4.0, 0), (1.0, 1)], ids=["as_long_as_announced", "shorter"])
def test_a_guessed_number_of_frames_does_not_make_a_video_cut_short(video, monkeypatch, rate, skipped):
    count = len(list(VideoSequence(video)))

    class Announcing:
        """A capture of a file that announces four times its frames, at a rate of its own."""

        def __init__(self, path):
            self.capture = opened(path)

        def get(self, item):
            return self.capture.get(item) * {cv2.CAP_PROP_FRAME_COUNT: 4, cv2.CAP_PROP_FPS: rate}.get(item, 1)

        def __getattr__(self, name):
            return getattr(self.capture, name)

    opened = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Announcing)
    sequence = VideoSequence(video)
    assert sequence.length == 4 * count
    assert len(list(sequence)) == count and len(sequence.skipped) == skipped


def test_what_is_no_video_says_so(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    for path, reason in ((tmp_path / "text.mp4", "not a video"), (tmp_path, "a folder"), (tmp_path / "absent.mp4", "no file")):
        with pytest.raises(InputError, match=reason):
            VideoSequence(path)


def test_a_webcam_that_does_not_exist_says_so():
    with pytest.raises(InputError, match="no webcam 97"):
        WebcamSequence(97)


def write_av(path, codec: str, **options: str) -> None:
    """Eight pictures at 20 Hz, with PyAV."""
    av = pytest.importorskip("av", reason="PyAV, which is optional, decodes what OpenCV cannot")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, 64, 48), format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def av1(tmp_path_factory):
    path = tmp_path_factory.mktemp("av1") / "my video.mp4"
    write_av(path, "libsvtav1", preset="8", crf="10")
    return path


def test_av1_is_decoded_by_pyav(av1):
    sequence = VideoSequence(av1)
    frames = list(sequence)
    assert [number_of(frame.image) for frame in frames] == list(range(8)) and sequence.length == 8
    np.testing.assert_allclose(np.diff([frame.stamp_ns for frame in frames]), 50_000_000, atol=1_000_000)


def test_without_pyav_the_codec_is_named_with_the_way_out(av1, monkeypatch, capfd):
    if cv2.VideoCapture(str(av1)).grab():
        pytest.skip("this OpenCV decodes AV1")
    monkeypatch.setattr(av_file, "is_installed", lambda: False)
    with pytest.raises(
        InputError, match=r"is AV1 \(AV01\), which OpenCV cannot decode here.* pip install av.*ffmpeg -i '.*my video.mp4' -c:v"
    ):
        VideoSequence(av1)
    assert capfd.readouterr().err == "", "the library speaks for itself"


@pytest.mark.parametrize("by_opencv", [True, False])
def test_a_video_of_a_phone_is_turned_upright(tmp_path, monkeypatch, by_opencv):
    path = tmp_path / "phone.mp4"
    write_av(path, "mpeg4")
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44  # its matrix, here the one of a turn by 90 degrees
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    if not by_opencv:
        closed = cv2.VideoCapture()
        monkeypatch.setattr(cv2, "VideoCapture", lambda *_: closed)  # as of a codec that it cannot decode
    first = next(iter(VideoSequence(path)))
    assert first.image.shape == (64, 48, 3)
    np.testing.assert_allclose(first.image, np.rot90(picture(0, 64, 48), -1), atol=40)


def test_a_damaged_video_is_told_from_an_unknown_codec(tmp_path, monkeypatch):
    path = tmp_path / "zeros.mp4"
    write_av(path, "libx264")
    data = bytearray(path.read_bytes())
    at = data.find(b"mdat") + 4
    data[at : at + int.from_bytes(data[at - 8 : at - 4], "big") - 8] = bytes(int.from_bytes(data[at - 8 : at - 4], "big") - 8)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is H.264 \(.*\), but not one frame of it can be decoded: it is damaged"):
        VideoSequence(path)
