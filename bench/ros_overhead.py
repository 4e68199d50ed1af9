# SPDX-License-Identifier: Apache-2.0
"""What the mapping node costs beside the mapping: from the callback to the worker, idle, and when images come too fast.

callback: 1280x720 bgr8 images, one at a time from another process. idle: CPU time of an active node of its own without images,
with and without odometry and a TF of 100 Hz. flood: images of 60 Hz into a worker that takes 0.3 s longer for each than it would.
"""

from __future__ import annotations

import argparse
import array
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import harness
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros import conversions
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.input.image_input import ImageInput, ImageSource, image_from_message
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop, make_room_for_images
from st3r_ros.ros.nodes.session import MappingSession

SLOW_S = 0.3
SETTLE_S = 3.0
NOT_COUNTED = 10
"""Images at the beginning."""
Row = tuple[str, str, float, str]
"""What, of what, the figure, its unit."""


def play(width: int, height: int, rate: int) -> None:
    """Publish one and the same bgr8 image until killed; its stamp is the monotonic time at which it is handed to ROS."""
    rclpy.init()
    node = Node("camera")
    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    data = array.array("B", np.repeat(np.repeat(pixels, 8, 0), 8, 1).tobytes())
    image = Image(height=height, width=width, encoding="bgr8", step=3 * width, data=data)
    harness.wait_until(images.get_subscription_count)
    for _ in harness.paced(rate):
        infos.publish(conversions.camera_message(None, 0, "camera", width, height))
        image.header = conversions.header(time.monotonic_ns(), "camera")
        images.publish(image)


@contextmanager
def camera(width: int, height: int, rate: int) -> Iterator[None]:
    """A process that plays."""
    process = get_context("spawn").Process(target=play, args=(width, height, rate))
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


@contextmanager
def mapping(process: Callable[[Any, ImageInput], None]) -> Iterator[MappingNode]:
    """An active mapping node whose worker calls `process` with its session's own way and each image."""
    arguments = ["--ros-args", "-p", "base_frame:=''", "-p", "input_wait:=0.0"]
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    usual = MappingSession.process
    try:
        node = MappingNode(Stop())
        MappingSession.process = lambda session, item: process(partial(usual, session), item)  # type: ignore[method-assign]
        node.start()
        with harness.spinning(node):
            yield node
        node.close()
    finally:
        MappingSession.process = usual  # type: ignore[method-assign]
        rclpy.shutdown()


def age_ms(message: Image) -> float:
    """Since the image was handed to ROS."""
    return (time.monotonic_ns() - conversions.stamp_to_ns(message.header.stamp)) / 1e6


def measure_callback(images: int) -> list[Row]:
    """From the publisher to the callback, from the callback to the idle worker, and what the worker does first: decode it."""
    times: dict[str, list[float]] = {"publisher to callback": [], "callback to worker": [], "worker: decoded": []}
    transport, handed, decoding = times.values()
    on_image = ImageSource._on_image
    entered: dict[int, float] = {}

    def noting(source: ImageSource, message: Image) -> None:
        transport.append(age_ms(message))
        entered[conversions.stamp_to_ns(message.header.stamp)] = transport[-1]
        on_image(source, message)

    def process(usual: Callable[[ImageInput], None], item: ImageInput) -> None:
        handed.append(age_ms(item.message) - entered[conversions.stamp_to_ns(item.message.header.stamp)])
        decoding.append(harness.timed(partial(image_from_message, item.message))[1])

    ImageSource._on_image = noting  # type: ignore[method-assign]
    try:
        with mapping(process), camera(1280, 720, 10):
            harness.wait_until(lambda: len(decoding) >= images + NOT_COUNTED)
    finally:
        ImageSource._on_image = on_image  # type: ignore[method-assign]
    counted = slice(NOT_COUNTED, images + NOT_COUNTED)
    return [row for stage, values in times.items() for row in quantiles(stage, values[counted])]


def quantiles(what: str, ms: list[float]) -> list[Row]:
    """The middle and the slow end."""
    spread = harness.spread(ms)
    return [(what, "median", spread["median"], "ms"), (what, "95 %", spread["p95"], "ms"), (what, "most", spread["max"], "ms")]


def measure_flood(seconds: float) -> list[Row]:
    """Images of 60 Hz, each slowly processed: what is counted, how old the processed ones are, and the memory over the time."""
    ages: list[float] = []

    def process(usual: Callable[[ImageInput], None], item: ImageInput) -> None:
        ages.append(age_ms(item.message))
        time.sleep(SLOW_S)
        usual(item)

    memory: list[float] = []
    with mapping(process) as node:
        with camera(640, 480, 60):
            harness.wait_until(lambda: len(ages) >= NOT_COUNTED)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                memory.append(harness.rss_mb())
                time.sleep(0.25)
        counts, before = node.counts, -1
        while before != counts.received or node.worker.discard():  # what waited counts as such: it is in none of the others
            before = counts.received
            time.sleep(1.0)
    tenth, half = max(len(memory) // 10, 1), len(memory) // 2
    counted = {
        "received": counts.received,
        "processed": len(ages),
        "dropped": counts.dropped,
        "received - processed - dropped (0 or 1 waits)": counts.received - len(ages) - counts.dropped,
    }
    spans = {"first tenth": memory[:tenth], "half way": memory[half : half + tenth], "last tenth": memory[-tenth:]}
    return [
        *(("60 Hz, slow model", of, count, "images") for of, count in counted.items()),
        *quantiles("age when processing begins", ages[3:]),
        *(("memory", of, harness.median(values), "MB") for of, values in spans.items()),
        ("memory", "most", max(memory), "MB"),
    ]


@contextmanager
def transforms(rate: float) -> Iterator[None]:
    """odom -> base_link on /tf at a rate, from a thread; none at rate 0."""
    node = Node("robot")
    publisher = node.create_publisher(TFMessage, "/tf", 100)

    def publish() -> None:
        now = node.get_clock().now().nanoseconds
        publisher.publish(TFMessage(transforms=[conversions.transform_message(SE3.identity(), now, "odom", "base_link")]))

    if rate:
        node.create_timer(1.0 / rate, publish)
    with harness.spinning(node):
        yield
    node.destroy_node()


def measure_idle(seconds: float) -> list[Row]:
    """CPU time of an active node without images."""
    rclpy.init()
    rows: list[Row] = []
    for odom_frame, rate in itertools.product(("", "odom"), (0.0, 100.0)):
        child = Child("mapping_node", {"odom_frame": odom_frame}, {})
        try:
            harness.wait_until(lambda: not child.running or any("Subscribed" in line for line in child.lines))  # noqa: B023
            if not child.running:
                raise SystemExit("\n".join(child.lines))
            with transforms(rate):
                time.sleep(SETTLE_S)
                share = cpu_share(child.pid, seconds)
        finally:
            child.stop(10.0)
        rows.append(("idle", f"odometry {'on' if odom_frame else 'off'}, /tf {rate:.0f} Hz", 100.0 * share, "% of a core"))
    rclpy.shutdown()
    return rows


def cpu_share(process: int, seconds: float) -> float:
    """CPU time of a process over the next seconds, per second."""
    taken: list[tuple[float, float]] = []

    def used() -> float:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with harness.clocks(taken, used):
        time.sleep(seconds)
    return taken[0][1] / taken[0][0]


@harness.command
def main() -> None:
    """Print the table."""
    parts: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
        "callback": lambda options: measure_callback(options.images),
        "idle": lambda options: measure_idle(options.seconds),
        "flood": lambda options: measure_flood(options.flood_seconds),
    }
    parser = harness.parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--images", type=int, default=200, help="of the part callback")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each case of the part idle")
    parser.add_argument("--flood-seconds", type=float, default=60.0)
    harness.add_outputs(parser, "also write the figures here")
    options = parser.parse_args()
    os.environ.update(isolated_environment())
    make_room_for_images()
    rows = []
    for part in options.parts:
        for row in parts[part](options):
            rows.append(dict(zip(("what", "of", "value", "unit"), row, strict=True)))
            print("{what:<28}{of:<48}{value:10.2f} {unit}".format(**rows[-1]), flush=True)
    harness.write_json(options.json, rows)


if __name__ == "__main__":
    harness.start(main)
