# SPDX-License-Identifier: Apache-2.0
"""Decodes packets of a video (H.264, H.265, VP9, AV1 ...) with PyAV, in display order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from st3r_ros.errors import FrameError, MissingDependencyError
from st3r_ros.io.h264 import FrameNumbers, has_picture, is_annex_b

if TYPE_CHECKING:
    import av
    from av.video.codeccontext import VideoCodecContext

_DECODERS = {name: name for name in ("h264", "hevc", "vp8", "vp9", "mjpeg")} | {"av1": "libdav1d"}
_SYNONYMS = {
    **{"x264": "h264", "openh264": "h264", "avc": "h264", "avc1": "h264", "h265": "hevc", "x265": "hevc"},
    **{"vpx": "vp8", "vpx-vp9": "vp9", "aom-av1": "av1", "dav1d": "av1", "svtav1": "av1", "rav1e": "av1"},
}
_UNITS = ("h264", "hevc")  # the codecs that are streams of units with start codes
_REORDERED = 16
"""Maximum number of packets between a packet and its image; more than 0 with B-frames."""

_PARAMETERS = 8
"""Maximum number of consecutive packets that contain only parameters."""
_OLDEST = 16  # earlier ones show H.265 frames that build on lost ones

_BEFORE_KEY_FRAME = "It comes before the first key frame of the video, where the images start."
_AFTER_LOSS = "An earlier packet of the video was lost or damaged; the images continue at the next key frame."


def codec_of(words: str) -> str:
    """The codec of the codec or encoder name in a message: hevc for 'h265', 'hevc_nvenc' and 'libx265;yuv420p;bgr8'; '' for
    an unknown one."""
    word = re.split(r"[;,:\s]", words.strip().lower(), maxsplit=1)[0].removeprefix("lib")
    name = word.split("_")[0]
    name = _SYNONYMS.get(word, _SYNONYMS.get(name, name))
    return name if name in _DECODERS else ""


def check_decoder(what: str) -> None:
    """Raises MissingDependencyError where no usable PyAV is installed. what: is to be decoded, for the message."""
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the library PyAV, which is not installed; get it with: pip install av"
        ) from error
    if int(av.__version__.split(".")[0]) < _OLDEST:
        raise MissingDependencyError(
            f"{what} needs PyAV {_OLDEST} or later, but {av.__version__} is installed, which shows wrong pixels after a lost "
            f"packet; upgrade it with: pip install 'av>={_OLDEST}'"
        )


@dataclass(frozen=True, eq=False)
class Packet:
    """One encoded frame. words: the codec as the message names it; tag: returned with the image; number: the
    encoder's count, where it has one."""

    words: str
    data: bytes
    tag: Any
    number: int | None = None


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """The result of a packet: a picture, or the reason why there is none."""

    tag: Any
    picture: av.VideoFrame | None
    reason: str = ""

    def image(self) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image.

        Raises:
            FrameError: the packet could not be decoded.
        """
        if self.picture is None:
            raise FrameError(self.reason)
        return self.picture.to_ndarray(format="rgb24")


class VideoDecoder:
    """Decodes every packet of one video, in order. Nothing is shown before the first key frame, and nothing between a lost packet
    and the next key frame. A loss is seen in the frame numbers of H.264, by the decoder of H.265, else by the encoder's count.

    waiting: why nothing is shown now, "" while images come.
    """

    def __init__(self) -> None:
        self._codec = ""
        self._context: VideoCodecContext | None = None
        self._numbers = FrameNumbers()
        self._last_number: int | None = None
        self._counts_by_one = False
        self._held = b""
        self._held_tags: list[Any] = []
        self._pending: dict[int, Any] = {}
        self._next = 0
        self.waiting = _BEFORE_KEY_FRAME

    def decode(self, packet: Packet) -> list[VideoFrame]:
        """What is known after one more packet, in the order of display: none, one or several frames, of earlier packets too.

        Raises:
            MissingDependencyError: PyAV is not installed.
        """
        codec = codec_of(packet.words)
        if not codec:
            known = ", ".join(sorted(_DECODERS))
            return [
                VideoFrame(
                    packet.tag,
                    None,
                    f"The video has the codec {packet.words[:50]!r}, which is not supported; supported are {known}.",
                )
            ]
        before = self._begin(codec) if codec != self._codec else []
        return before + self._decode(packet)

    def flush(self) -> list[VideoFrame]:
        """The frames that are still in the decoder at the end of the video."""
        if self._context is None:
            return []
        from av.error import FFmpegError

        try:
            frames = self._shown(self._context.decode(None))
        except FFmpegError:
            frames = []
        self._context.flush_buffers()
        return frames + self._given_up(self._next) + self._without_picture()

    def _begin(self, codec: str) -> list[VideoFrame]:
        check_decoder(f"Decoding {codec} video")
        import av

        before = self.flush()
        self.__init__()  # type: ignore[misc]
        self._codec = codec
        context = cast("VideoCodecContext", av.CodecContext.create(_DECODERS[codec], "r"))
        if codec == "av1":
            context.options = {"max_frame_delay": "1"}
        context.thread_type = "SLICE"  # threads that take a frame each delay the images
        self._context = context
        return before

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        import av
        from av.error import FFmpegError

        assert self._context is not None
        data = self._held + packet.data
        if not packet.data:
            return [VideoFrame(packet.tag, None, "The packet is empty.")]
        if self._codec in _UNITS:
            if not is_annex_b(data):
                begin = f"The packet begins with {data[:4].hex(' ')}, not with a start code (00 00 01)"
                return [VideoFrame(packet.tag, None, f"{begin}; configure the encoder to write {self._codec} as Annex B.")]
            if not has_picture(data, self._codec):
                self._held = data[-(1 << 16) :]  # parameters, which belong to the next picture
                self._held_tags.append(packet.tag)
                return self._without_picture() if len(self._held_tags) > _PARAMETERS else []
        self._held, self._held_tags = b"", []
        lost = self._lost(packet, data)
        given_up = self._wait_for_key_frame() if lost else []
        number, self._next = self._next, self._next + 1
        self._pending[number] = packet.tag
        encoded = av.Packet(data)
        encoded.pts = number
        try:
            shown = self._shown(self._context.decode(encoded))
        except FFmpegError:
            if not self.waiting:
                return given_up + self._wait_for_key_frame()
            return given_up + self._given_up(self._next)
        return given_up + shown + self._given_up(number - _REORDERED)

    def _lost(self, packet: Packet, data: bytes) -> bool:
        """Whether a packet before this one is missing."""
        if self._codec == "h264":
            return not self._numbers.continues(data)
        if self._codec == "hevc" or packet.number is None:
            return False  # the decoder of H.265 shows no frame that misses another
        step = None if self._last_number is None else packet.number - self._last_number
        lost = self._counts_by_one and step != 1
        self._counts_by_one, self._last_number = step == 1, packet.number
        return lost

    def _wait_for_key_frame(self) -> list[VideoFrame]:
        """Forget the frames that others build on; those that have not been shown are given up."""
        assert self._context is not None
        self.waiting = self.waiting or _AFTER_LOSS
        self._context.flush_buffers()
        self._numbers.restart()
        return self._given_up(self._next)

    def _shown(self, pictures: list[av.VideoFrame]) -> list[VideoFrame]:
        frames = []
        for picture in pictures:
            number = picture.pts
            if number is None or number not in self._pending:
                continue  # a second picture of one packet
            if self.waiting:
                frames += self._given_up(number)
                self.waiting = ""
            frames.append(VideoFrame(self._pending.pop(number), picture))
        return frames

    def _without_picture(self) -> list[VideoFrame]:
        tags, self._held_tags = self._held_tags, []
        return [VideoFrame(tag, None, "The packet contains no picture data.") for tag in tags]

    def _given_up(self, end: int) -> list[VideoFrame]:
        """The packets before number `end` that gave no picture."""
        numbers = [number for number in self._pending if number < end]
        return [VideoFrame(self._pending.pop(number), None, self.waiting or _AFTER_LOSS) for number in numbers]
