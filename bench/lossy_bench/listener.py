# SPDX-License-Identifier: Apache-2.0
"""The base station of a measurement: records which images, or poses of the mapping node, arrive and when.

Run, until SIGINT: python bench/lossy_bench/listener.py raw|compressed|mapping best_effort|reliable FILE
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CompressedImage, Image

from st3r_ros.msg import MappingStatus
from st3r_ros.ros.conversions import stamp_to_ns
from st3r_ros.ros.qos import images, latched, stream

TOPICS = {
    "raw": ("image", Image),
    "compressed": ("image/compressed", CompressedImage),
    "mapping": ("st3r_mapping/pose", PoseWithCovarianceStamped),
}


def main(what: str, reliability: str, target: str) -> None:
    """Subscribes like the mapping node, or to the mapping node, and writes the received messages as JSON.

    stamps: of the images, seconds. latencies: from the stamp to here, seconds. received, tracked: as the mapping node counts;
    without it, received are the images that came here.
    """
    topic, kind = TOPICS[what]
    stamps, latencies, counts = [], [], {}
    rclpy.init()
    node = rclpy.create_node("listener")

    def note(message: Image | CompressedImage | PoseWithCovarianceStamped) -> None:
        stamps.append(1e-9 * stamp_to_ns(message.header.stamp))
        latencies.append(time.time() - stamps[-1])

    def count(status: MappingStatus) -> None:
        counts.update(received=status.frames_received, tracked=status.frames_tracked)

    node.create_subscription(kind, topic, note, stream(10) if what == "mapping" else images(reliability))
    if what == "mapping":
        node.create_subscription(MappingStatus, "st3r_mapping/status", count, latched())
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    received = 0 if what == "mapping" else len(stamps)
    heard = {"stamps": stamps, "latencies": latencies, "received": received, "tracked": 0, **counts}
    Path(target).write_text(json.dumps(heard))


if __name__ == "__main__":
    main(*sys.argv[1:])
