# SPDX-License-Identifier: Apache-2.0
"""Images and calibrations as broken drivers, bad links and mean people send them. Every generator gives the same for one seed."""

import array
import functools
import struct
import zlib

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.io.encodings import ENCODINGS
from st3r_ros.ros import conversions
from st3r_ros.types import Frame

Message = Image | CompressedImage | CameraInfo
HUGE = (0, 1, 15, 2**15, 2**16 + 1, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = ("", "foo", "RGB8", "rgb8 ", "bgr8\0", "64FC9", "png", "jpeg", "16UC1; compressedDepth png", "\u00e4\u4e16", "x" * 5000)
FLOATS = (0.0, -1.0, 3e38, -3e38, float("nan"), float("inf"))
NUMBERS = (0.0, -1.0, 1e-300, 1e300, -1e300, 1e18, float("nan"), float("inf"), -float("inf"))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG whose header claims a size, with as many pixels as `rows` holds: a few bytes."""
    start = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@functools.cache
def bomb() -> bytes:
    """30000x30000 pixels, for which a decoder takes 2.7 GB before it sees that only 50 rows are there."""
    return png_claiming(30000, 30000, bytes(50 * (1 + 3 * 30000)))


class Fuzzer:
    """Corrupts messages of one stream of frames. seed: of all that is random."""

    def __init__(self, frames: list[Frame], seed: int) -> None:
        self._frames = frames
        self._rng = np.random.default_rng(seed)
        self._jpegs = [cv2.imencode(".jpg", frame.image)[1].tobytes() for frame in frames[:4]]
        self._pngs = [cv2.imencode(".png", frame.image[::4, ::4])[1].tobytes() for frame in frames[:4]]

    def image(self, stamp_ns: int) -> Image:
        """An image with one to three things wrong with it."""
        frame = self._pick(self._frames)
        message = conversions.image_message(Frame(0, stamp_ns, frame.image), "camera")
        for _ in range(self._rng.integers(1, 4)):
            self._pick((self._encoding, self._step, self._size, self._data, self._order, self._header, self._floats))(message)
        return message

    def compressed(self, stamp_ns: int) -> CompressedImage:
        """A compressed image that was damaged on its way, or made to do damage."""
        data = bytearray(self._pick(self._jpegs + self._pngs))
        kind = self._rng.integers(8)
        if kind == 0:
            data = data[: self._rng.integers(len(data))]
        elif kind == 1:
            for at in self._rng.integers(len(data), size=self._rng.integers(1, 50)):
                data[at] = self._rng.integers(256)
        elif kind == 2:
            at = self._rng.integers(2, min(700, len(data)))
            data[at] ^= 1 << int(self._rng.integers(8))  # in the header
        elif kind == 3:
            sizes = self._rng.choice((3, 20000, 2**31 - 1), 2).tolist()
            data = bytearray(bomb() if self._rng.integers(2) else png_claiming(*sizes))
        elif kind == 4:
            data = bytearray(self._rng.bytes(int(self._rng.integers(2000))))
        elif kind == 5:
            data = data + data
        elif kind == 6:
            data = bytearray(self._pick((b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF", b"II*\0", b"P6 9 9")))
            data += self._rng.bytes(60)
        message = CompressedImage(header=conversions.header(stamp_ns, "camera"), format=self._pick(WORDS))
        message.data = array.array("B", bytes(data))
        if self._rng.integers(10) == 0:
            self._header(message)
        return message

    def info(self) -> CameraInfo:
        """A calibration with one to three things wrong with it."""
        camera = self._frames[0].camera
        assert camera is not None
        info = conversions.camera_message(camera, 0, "camera", camera.width, camera.height)
        for _ in range(self._rng.integers(1, 4)):
            kind = self._rng.integers(7)
            if kind == 0:
                setattr(info, self._pick(("width", "height")), self._pick(HUGE))
            elif kind == 1:
                info.k[self._rng.integers(9)] = self._pick(NUMBERS)
            elif kind == 2:
                info.k = self._rng.normal(size=9) * 10.0 ** self._rng.integers(-3, 6)
            elif kind == 3:
                info.d = (self._rng.normal(size=self._rng.integers(15)) * 10.0 ** self._rng.integers(-3, 6)).tolist()
            elif kind == 4:
                info.d = [self._pick(NUMBERS) for _ in range(5)]
            elif kind == 5:
                info.distortion_model = self._pick((*WORDS, "equidistant", "rational_polynomial"))
            else:
                part = self._pick((info.roi, info))
                name = self._pick(("width", "height", "x_offset", "y_offset") if part is info.roi else ("binning_x", "binning_y"))
                setattr(part, name, self._pick(HUGE))
        return info

    def _pick(self, choices):
        return choices[self._rng.integers(len(choices))]

    def _encoding(self, message: Image) -> None:
        message.encoding = self._pick(WORDS + ENCODINGS)

    def _step(self, message: Image) -> None:
        message.step = self._pick((*HUGE, message.step - 1, message.step + 1, 2 * message.step % 2**32))

    def _size(self, message: Image) -> None:
        name = self._pick(("width", "height"))
        setattr(message, name, self._pick((*HUGE, getattr(message, name) // 2, min(getattr(message, name) + 1, 2**32 - 1))))

    def _data(self, message: Image) -> None:
        kept = self._pick((0, 1, len(message.data) // 2, max(len(message.data) - 1, 0)))
        message.data = self._pick((message.data[:kept], message.data + message.data[:kept]))

    def _order(self, message: Image) -> None:
        message.is_bigendian = int(self._rng.integers(256))

    def _floats(self, message: Image) -> None:
        """A depth image of any numbers, in which some are none."""
        values = np.frombuffer(self._rng.bytes(4 * 240 * 320), np.float32).copy()
        values[self._rng.integers(values.size, size=5000)] = self._pick(FLOATS)
        message.encoding, message.width, message.height, message.step = "32FC1", 320, 240, 1280
        message.data = array.array("B", values.tobytes())

    def _header(self, message: Image | CompressedImage) -> None:
        stamp = message.header.stamp
        stamp.sec = int(self._pick((0, -1, -(2**31), 2**31 - 1, stamp.sec)))
        stamp.nanosec = int(self._pick((0, 10**9, 2**32 - 1, stamp.nanosec)))
        message.header.frame_id = self._pick(WORDS)
