# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

pytest.importorskip("av", reason="videos are decoded with the optional library PyAV")

import av
from video_packets import Encoded, encode, index_of, ramp

from st3r_ros.errors import FrameError, MissingDependencyError
from st3r_ros.io.video_decoder import Packet, VideoDecoder, VideoFrame, check_decoder, codec_of

CODECS = [("h264", "libx264"), ("hevc", "libx265"), ("vp9", "libvpx-vp9")]
COUNT = 20


def decode(packets: list[Encoded], words: str = "h264") -> list[VideoFrame]:
    decoder = VideoDecoder()
    frames = [frame for packet in packets for frame in decoder.decode(Packet(words, packet.data, packet.index, packet.index))]
    return frames + decoder.flush()


def outcome(frames: list[VideoFrame]) -> tuple[list[int], list[int]]:
    """The tags of the frames with a picture, in order, and those without; the pictures are checked."""
    shown = [frame.tag for frame in frames if frame.picture is not None]
    assert [index_of(frame.image()) for frame in frames if frame.picture is not None] == shown
    return shown, sorted(frame.tag for frame in frames if frame.picture is None)


@pytest.fixture(scope="module", params=CODECS, ids=[codec for codec, _ in CODECS])
def video(request) -> tuple[str, list[Encoded]]:
    codec, encoder = request.param
    return codec, encode([ramp(i) for i in range(COUNT)], encoder)


def test_every_packet_becomes_its_image(video):
    codec, packets = video
    assert outcome(decode(packets, codec)) == (list(range(COUNT)), [])


def test_images_begin_at_a_key_frame_and_go_on_at_one_after_a_loss(video):
    codec, packets = video
    frames = decode([packet for packet in packets if packet.index not in (0, 1, 8)], codec)
    shown, missing = outcome(frames)
    assert shown == [6, 7, *range(12, COUNT)]
    assert missing == [2, 3, 4, 5, 9, 10, 11]
    reasons = {frame.tag: frame.reason for frame in frames}
    assert "before the first key frame" in reasons[2] and "lost or damaged" in reasons[9]
    with pytest.raises(FrameError, match="before the first key frame"):
        next(frame for frame in frames if frame.tag == 2).image()


@pytest.mark.parametrize("lost", range(1, 12))
def test_no_loss_gives_a_wrong_image_with_b_frames(lost):
    packets = encode([ramp(i) for i in range(COUNT)], b_frames=2)
    assert [packet.index for packet in packets] != list(range(COUNT))
    shown, missing = outcome(decode([packet for packet in packets if packet.index != lost]))
    assert shown == sorted(shown)
    assert set(shown) | set(missing) | {lost} == set(range(COUNT))
    assert set(range(12, COUNT)) <= set(shown)


def test_parameters_may_come_in_packets_of_their_own():
    whole, *others = encode([ramp(i) for i in range(3)])
    begin = whole.data.index(b"\0\0\1\x65")
    packets = [Encoded(whole.data[:begin], -1), Encoded(whole.data[begin:], 0), *others]
    assert outcome(decode(packets)) == ([0, 1, 2], [])


def test_another_codec_begins_a_new_video():
    decoder = VideoDecoder()
    frames = []
    for words, encoder in (("hevc_nvenc", "libx265"), ("libx264;yuv420p;bgr8;bgr8", "libx264")):
        for packet in encode([ramp(i) for i in range(3)], encoder):
            frames += decoder.decode(Packet(words, packet.data, packet.index))
    assert outcome(frames + decoder.flush())[0] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("words", ["h264", "h265", "vp9", "av1", "mjpeg"])
@pytest.mark.parametrize("data", [b"", b"abc", b"\0\0\1", b"\0\0\0\1\x65" + b"junk" * 50, b"\0\0\1\x67\xff" * 9, bytes(100)])
def test_what_is_no_video_gives_reasons(words, data):
    frames = decode([Encoded(data, 0), Encoded(data, 1)], words)
    assert outcome(frames)[0] == [] and all(frame.reason.endswith(".") for frame in frames)


def test_packets_without_a_picture_are_counted():
    frames = decode([Encoded(b"\0\0\1\xf4abc", index) for index in range(12)])
    assert outcome(frames) == ([], list(range(12)))
    assert frames[0].reason == "The packet contains no picture data."


def test_lengths_instead_of_start_codes_are_said():
    (frame,) = decode([Encoded(b"\0\0\2\x10\x65abc", 0)])
    assert "begins with 00 00 02 10, not with a start code" in frame.reason


@pytest.mark.parametrize(
    ("words", "codec"),
    [
        *[
            (words, "h264")
            for words in ("h264", "H264", "libx264", "libx264;yuv420p;bgr8;bgr8", "h264_nvenc", "h264_vaapi", "avc")
        ],
        *[(words, "hevc") for words in ("hevc", "h265", "libx265", "hevc_nvenc;nv12;bgr8;rgb8", "hevc_vaapi")],
        *[("libvpx-vp9", "vp9"), ("vp8", "vp8"), ("av1_nvenc", "av1"), ("libsvtav1", "av1"), ("libaom-av1", "av1")],
        *[(words, "") for words in ("", "bgr8; jpeg compressed bgr8", "png", "theora", "rgb8")],
    ],
)
def test_codecs_are_known_by_the_names_of_their_encoders(words, codec):
    assert codec_of(words) == codec


def test_an_unknown_codec_is_said():
    (frame,) = decode([Encoded(b"x", 0)], "theora")
    assert "codec 'theora', which is not supported; supported are av1, h264, hevc" in frame.reason


def test_without_pyav_or_with_an_old_one_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(av, "__version__", "12.3.0")
    with pytest.raises(MissingDependencyError, match=r"This needs PyAV 16 or later, but 12\.3\.0 is installed"):
        check_decoder("This")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match="pip install av"):
        check_decoder("This")
