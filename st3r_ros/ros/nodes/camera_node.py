# SPDX-License-Identifier: Apache-2.0
"""Node `st3r_camera`: plays a recording or a webcam as `image`, `image/compressed` and `camera_info`."""

from __future__ import annotations

import array
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING

import cv2
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from st3r_ros.config import CameraNodeConfig
from st3r_ros.errors import ConfigError, St3rError
from st3r_ros.io.calibration import read_calibration
from st3r_ros.ros.clocks import ClockWatch
from st3r_ros.ros.conversions import camera_message, header, image_message, stamp_from_ns
from st3r_ros.ros.nodes import parameters
from st3r_ros.ros.nodes.process import Stop, run
from st3r_ros.ros.qos import stream
from st3r_ros.sequences import FrameSequence, open_sequence

if TYPE_CHECKING:
    from st3r_ros.types import Frame

LIVE_KINDS = ("webcam", "stream")
MAX_LATE_S = 0.1
_SETTLE_S = 0.2
"""Seconds after the first subscriber in which other subscribers, and those of camera_info, are discovered."""


class CameraNode(Node):
    """Publishes `image` (rgb8) and `image/compressed` (JPEG), each when it has a subscriber, then ends the process.

    All are reliable. `camera_info` has K = 0 when the source is not calibrated.
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__("st3r_camera")
        parameters.declare(self, {"": CameraNodeConfig})
        self._config = parameters.read(self, "", CameraNodeConfig)
        self._stop = stop
        self._closing = threading.Event()
        self._sequence: FrameSequence | None = None
        self._sent = 0
        self._images = self.create_publisher(Image, "image", stream(5))
        self._compressed = self.create_publisher(CompressedImage, "image/compressed", stream(5))
        self._infos = self.create_publisher(CameraInfo, "camera_info", stream(5))
        self._clock_publisher = self.create_publisher(Clock, "/clock", stream(1)) if self._config.publish_clock else None
        self._player: threading.Thread | None = None

    def start(self) -> None:
        """Opens the source and starts playing.

        Raises:
            St3rError: no source is given, or it cannot be read.
        """
        config = self._config
        if not config.source:
            raise ConfigError("source is ''; set it to a folder, video, bag, stream address, webcam index or sim:room.")
        self._sequence = sequence = open_sequence(
            config.source,
            camera=read_calibration(config.camera) if config.camera else None,
            every=config.every,
            max_frames=config.max_frames or None,
        )
        if sequence.origin:
            self.get_logger().info(sequence.origin)
        for note in sequence.notes:
            self.get_logger().warning(note)
        self._player = threading.Thread(target=self._run, args=(sequence,), name="player", daemon=True)
        self._player.start()

    def close(self) -> None:
        """Stops playing and logs the number of sent images."""
        self._closing.set()
        if self._sequence is not None:
            self._sequence.stop()
        if self._player is not None:
            self._player.join()
        self.destroy_node()

    def _run(self, sequence: FrameSequence) -> None:
        try:
            self._play(sequence)
        except St3rError as error:
            self.get_logger().error(str(error))
            self._stop.finish(exit_code=2)
        except Exception:  # boundary of the thread: the error is reported and the process ends
            traceback.print_exc()
            self._stop.finish(exit_code=1)
        else:
            self._stop.finish()

    def _play(self, sequence: FrameSequence) -> None:
        frames = self._opened(sequence)
        if self._config.wait_for_subscriber and not self._subscriber_came(sequence.name):
            return
        if self._config.stamp_now and not self._clock_runs():
            return
        self.get_logger().info(f"Playing {sequence.name}.")
        begin = time.monotonic()
        while not self._closing.is_set():
            sent = self._sent
            self._play_once(frames)
            if not self._config.loop or self._sent == sent:
                break
            frames = iter(sequence)
        for publisher in (self._images, self._compressed):
            publisher.wait_for_all_acked(Duration(seconds=1))
        skipped = sequence.skipped
        for item in skipped[:10]:
            self.get_logger().warning(f"Skipped {item.source}: {item.reason}")
        self.get_logger().info(summary(self._sent, len(skipped), time.monotonic() - begin))

    def _opened(self, sequence: FrameSequence) -> Iterator[Frame]:
        """The frames of the source. The first one of a recording is read here, before anything waits for it."""
        frames = iter(sequence)
        if sequence.kind in LIVE_KINDS:
            return frames
        return chain(list(islice(frames, 1)), frames)

    def _play_once(self, frames: Iterator[Frame]) -> None:
        """Publishes the frames at the rate of their stamps, without a burst after a stall of the source."""
        begin = time.monotonic()
        first_ns: int | None = None
        for frame in frames:
            first_ns = frame.stamp_ns if first_ns is None else first_ns
            due = begin + (frame.stamp_ns - first_ns) * 1e-9 / self._config.rate if self._config.rate else 0.0
            late = time.monotonic() - due
            if self._config.rate and late > MAX_LATE_S:
                begin += late
            if self._closing.wait(max(0.0, -late)):
                return
            self._publish(frame)

    def _publish(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        frame_id = self._config.frame_id
        if self._config.stamp_now:
            frame = replace(frame, stamp_ns=self._now_ns())
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=stamp_from_ns(frame.stamp_ns)))
        self._infos.publish(camera_message(frame.camera, frame.stamp_ns, frame_id, width, height))
        if self._images.get_subscription_count():
            self._images.publish(image_message(frame, frame_id))
        if self._compressed.get_subscription_count():
            self._compressed.publish(compressed_image_message(frame, frame_id, self._config.jpeg_quality))
        self._sent += 1

    def _subscriber_came(self, name: str) -> bool:
        """Waits for a subscriber; False when the process ends before."""
        self.get_logger().info(f"Ready to play {name}; waiting for a subscriber of {self._images.topic_name}.")
        while not (self._images.get_subscription_count() or self._compressed.get_subscription_count()):
            if self._closing.wait(0.05):
                return False
        return not self._closing.wait(_SETTLE_S)

    def _clock_runs(self) -> bool:
        """Waits for simulated time; False when the process ends before."""
        watch = ClockWatch(self)
        while not self._now_ns():
            if watch.complaint:
                self.get_logger().warning(f"The images wait: {watch.complaint}", throttle_duration_sec=10.0)
            if self._closing.wait(0.05):
                return False
        return True

    def _now_ns(self) -> int:
        """The time for `stamp_now`, which is not that of /clock where this node publishes it."""
        return time.time_ns() if self._clock_publisher is not None else self.get_clock().now().nanoseconds


def compressed_image_message(frame: Frame, frame_id: str, quality: int) -> CompressedImage:
    """The JPEG message of a frame, with its stamp. quality: 1..100."""
    pixels = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    data = array.array("B")
    data.frombytes(jpeg.data)
    return CompressedImage(header=header(frame.stamp_ns, frame_id), format="rgb8; jpeg compressed bgr8", data=data)


def summary(sent: int, skipped: int, seconds: float) -> str:
    """The last line of the log."""
    return f"Sent {sent} images in {seconds:.1f} s, skipped {skipped}."


def sent_images(lines: list[str]) -> int | None:
    """Number of sent images from the node's output; None when it has not ended normally."""
    found = [match for line in lines if (match := re.search(r"Sent (\d+) images in ", line))]
    return int(found[-1].group(1)) if found else None


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable `camera_node`."""
    return run(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
