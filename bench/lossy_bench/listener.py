# SPDX-License-Identifier: Apache-2.0
"""The base station of a measurement: records which images, or poses of the mapping node, arrive and when.

Run, until SIGINT: python bench/lossy_bench/listener.py raw|compressed|mapping best_effort|reliable FILE
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CompressedImage, Image

from st3r_ros.msg import MappingStatus
from st3r_ros.ros.qos import images, latched, stream

TOPICS = {
    "raw": ("image", Image),
    "compressed": ("image/compressed", CompressedImage),
    "mapping": ("st3r_mapping/pose", PoseWithCovarianceStamped),
}


@dataclass
class Heard:
    """stamps: of the images, seconds. latencies: from the stamp to here, seconds.

    received, tracked: as the mapping node counts; without it, received are the images that came here.
    """

    stamps: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    received: int = 0
    tracked: int = 0


def main(what: str, reliability: str, target: str) -> None:
    """Subscribes like the mapping node, or to the mapping node, and writes the received messages as JSON."""
    topic, kind = TOPICS[what]
    heard = Heard()
    rclpy.init()
    node = rclpy.create_node("listener")

    def note(message: Image | CompressedImage | PoseWithCovarianceStamped) -> None:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        heard.stamps.append(stamp)
        heard.latencies.append(time.time() - stamp)
        if what != "mapping":
            heard.received += 1

    def count(status: MappingStatus) -> None:
        heard.received, heard.tracked = status.frames_received, status.frames_tracked

    if what == "mapping":
        node.create_subscription(kind, topic, note, stream(10))
        node.create_subscription(MappingStatus, "st3r_mapping/status", count, latched())
    else:
        node.create_subscription(kind, topic, note, images(reliability))
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    Path(target).write_text(json.dumps(asdict(heard)))


if __name__ == "__main__":
    main(*sys.argv[1:])
