# SPDX-License-Identifier: Apache-2.0
"""Video input: decodes the packets of an image topic in order on its own thread and delivers the newest image."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Header

from st3r_ros.io.video_decoder import VideoDecoder, VideoFrame, check_decoder
from st3r_ros.io.video_messages import stamp_of, video_packet

QUEUE = 120
"""Maximum number of packets that wait for the decoder, a few seconds of a video."""


@dataclass(frozen=True, eq=False)
class VideoImage:
    """A decoded image of a video with the header of its packet. The pixels are converted when they are asked for."""

    header: Header
    frame: VideoFrame

    @property
    def width(self) -> int:
        """Of the image, pixels; 0 when the packet gave none."""
        return 0 if self.frame.picture is None else int(self.frame.picture.width)

    @property
    def height(self) -> int:
        """Of the image, pixels; 0 when the packet gave none."""
        return 0 if self.frame.picture is None else int(self.frame.picture.height)

    def image(self) -> np.ndarray:
        """The (H, W, 3) uint8 RGB image."""
        return self.frame.image()


class VideoInput:
    """Takes packets on the executor and delivers images there.

    deliver: called with the newest image. count: called before, with the number of packets that came since and how many of them
    gave no image or one that was replaced. problem: why the last packet gave no image, "" when it did or may do so later.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, node: Node, topic: str, deliver: Callable[[VideoImage], None], count: Callable[[int, int], None]) -> None:
        check_decoder(f"The topic {topic} is a video. Decoding it")
        self._node, self._topic, self._deliver, self._count = node, topic, deliver, count
        self._condition = threading.Condition()
        self._packets: deque[Any] = deque()
        self._newest: VideoImage | None = None
        self._came = self._lost = 0
        self._scheduled = self._overrun = self._closed = False
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)
        self._thread.start()

    def put(self, message: Any) -> None:
        """One more packet. When too many wait, they are dropped, and decoding continues at the next key frame."""
        with self._condition:
            self._came += 1
            if len(self._packets) >= QUEUE:
                self._lost += len(self._packets)
                self._packets.clear()
                self._overrun = True
            self._packets.append(message)
            self._condition.notify()

    def close(self) -> None:
        """End the thread; nothing is handed on any more."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        decoder = VideoDecoder()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._packets or self._closed)
                if self._closed:
                    return
                message = self._packets.popleft()
                overrun, self._overrun = self._overrun, False
            if overrun:
                decoder = VideoDecoder()
                self._warn(
                    f"The video on {self._topic} comes faster than it can be decoded; images continue at the next key frame."
                )
            try:
                frames = decoder.decode(video_packet(message, tag=_header(message)))
            except Exception:  # the boundary of the thread: reported, and the next packet may be better
                traceback.print_exc()
                continue
            self._take(frames, decoder.waiting)

    def _take(self, frames: list[VideoFrame], waiting: str) -> None:
        with self._condition:
            self.problem = waiting
            for frame in frames:
                if frame.picture is None:
                    self._lost += 1
                    self.problem = frame.reason
                    continue
                self._lost += self._newest is not None
                self._newest = VideoImage(frame.tag, frame)
                self.problem = ""
            wanted, self._scheduled = not self._scheduled, True
        if self.problem:
            self._warn(f"A packet of the video on {self._topic} gives no image. {self.problem}")
        executor = self._node.executor
        if wanted and executor is not None:
            executor.create_task(self._hand_on)

    def _hand_on(self) -> None:
        """On the executor."""
        with self._condition:
            if self._closed:
                return
            newest, came, lost = self._newest, self._came, self._lost
            self._newest, self._came, self._lost, self._scheduled = None, 0, 0, False
        self._count(came, lost)
        if newest is not None:
            self._deliver(newest)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=5.0)


def _header(message: Any) -> Header:
    """The header of a packet; that of foxglove_msgs has its parts alone."""
    return message.header if hasattr(message, "header") else Header(stamp=stamp_of(message), frame_id=message.frame_id)
