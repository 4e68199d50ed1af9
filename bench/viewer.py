# SPDX-License-Identifier: Apache-2.0
"""A large map cloud in the viewer: from the message to the browser, how much is sent, and how fast the browser turns it.

Publishes a cloud on the topic of a mapping node, shows it in Chromium without a screen, and turns it with the mouse. Without GPU
the browser draws on the processor: its pictures per second are then a lower bound.

Each row shows another number of points at most: as many at once, and as the viewer does by itself, fewer while the view turns.
The second number of pictures is that after some seconds, when the page and the viewer have settled.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import harness
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from st3r_ros.ros.conversions import header
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.outputs.map_messages import cloud_message
from st3r_ros.ros.qos import latched
from st3r_ros.ros.viewer.messages import finite_cloud
from st3r_ros.ros.viewer.node import ViewerNode
from st3r_ros.viewer.thinning import layers
from st3r_ros.viewer.turning import FEWEST_POINTS

sys.path.append(str(harness.TEST / "viewer"))

from browser import drawn_share, find_chromium, open_page

BLOCK = 1 << 20


class Meter:
    """Stands between the browser and the viewer, and counts what the browser gets."""

    def __init__(self, port: int) -> None:
        self._port, self.received, self.last = port, 0, 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            browser, viewer = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._port))
            for source, target, counts in ((browser, viewer, False), (viewer, browser, True)):
                threading.Thread(target=self._pump, args=(source, target, counts), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):  # the other side has gone
            while data := source.recv(BLOCK):
                target.sendall(data)
                if counts:
                    self.received, self.last = self.received + len(data), time.perf_counter()
            target.shutdown(socket.SHUT_WR)


def room(count: int, seed: int) -> PointCloud2:
    """Points on the walls of a box of 10 x 8 x 3 m, coloured by place."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.0, 1.0, (count, 3)).astype(np.float32)
    rows, axis = np.arange(count), rng.integers(0, 3, count)
    points[rows, axis] = np.round(points[rows, axis])
    colors = (points * 255).astype(np.uint8)
    return cloud_message(header(seed, "map"), points * np.float32([10, 8, 3]), colors, np.ones(count, np.float32))


def stages(message: PointCloud2, limit: int) -> dict[str, float]:
    """Milliseconds of each step on the viewer's worker, the best of three."""
    data = serialize_message(message)
    best: dict[str, float] = {}
    for _ in range(3):
        laps = harness.Laps()
        read = deserialize_message(data, PointCloud2)
        laps("deserialize")
        points, colors = finite_cloud(read)
        laps("decode")
        for part in layers(points, FEWEST_POINTS, limit):
            points[part], colors[part]
        laps("thin")
        times = {**laps.ms, "all": sum(laps.ms.values())}
        best = {name: min(ms, best.get(name, ms)) for name, ms in times.items()}
    return best


def measure(count: int, shown: int, adapts: bool, folder: Path) -> str:
    """One row of the table."""
    rclpy.init(args=["--ros-args", "-p", "port:=0", "-p", f"max_points:={shown}", "-p", "update_period:=0.05"])
    mapping, viewer = Node("st3r_mapping"), ViewerNode(Stop())
    viewer.start()
    publisher = mapping.create_publisher(PointCloud2, "~/map_cloud", latched())
    meter = Meter(viewer._server.get_port())
    try:
        with harness.spinning(viewer), open_page(meter.url, folder) as page:
            page.wait_for_text("Thousand points")
            viewer.scene._adapts.value = adapts
            publisher.publish(room(count // 10, 0))
            page.wait_for(lambda: viewer.scene.points == count // 10, "the first cloud")
            page.wait_for(lambda: drawn_share(page.canvas()) > 0.1, "the first picture")
            message, before = room(count, 1), meter.received
            begin = time.perf_counter()
            publisher.publish(message)
            page.wait_for(lambda: viewer.scene.points == count, "the cloud")
            handed = time.perf_counter() - begin
            time.sleep(3.0)
            sent, arrived = meter.received - before, meter.last - begin
            at_once = later = 0.0
            with contextlib.suppress(TimeoutError):  # the browser has not drawn for a minute
                at_once = page.frames_per_second(5.0)
                for _ in range(3):
                    later = page.frames_per_second(5.0)
            turned = viewer.scene.cloud.drawn
            time.sleep(2.0)
            at_rest = viewer.scene.cloud.drawn
    finally:
        viewer.close()
        mapping.destroy_node()
        rclpy.try_shutdown()
    work = stages(message, shown)["all"]
    return (
        f"{shown:>9,} {'fewer' if adapts else 'all':>5} | {work:4.0f} ms | {handed:5.2f} s | {arrived:5.2f} s | "
        f"{sent / 1e6:5.1f} MB | {at_once:4.1f} | {later:4.1f} | {turned:9,} | {at_rest:9,}"
    )


@harness.command
def main() -> None:
    """Print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--points", type=harness.positive, default=2_000_000)
    parser.add_argument("--shown", type=harness.positive, nargs="+", default=[20_000, 100_000, 500_000, 2_000_000])
    options = parser.parse_args()
    if find_chromium() is None:
        print("There is no chromium; install it with: apt install chromium")
        return
    os.environ.update(isolated_environment())
    parts = stages(room(options.points, 1), options.shown[0])
    print(f"{options.points:,} points on the worker: " + ", ".join(f"{name} {value:.0f} ms" for name, value in parts.items()))
    print("shown at most | worker | handed over | at the browser | sent | pictures/s at once | later | drawn turning | at rest")
    for shown, adapts in itertools.product(options.shown, (False, True)):
        with tempfile.TemporaryDirectory() as folder:
            print(measure(options.points, shown, adapts, Path(folder)), flush=True)


if __name__ == "__main__":
    harness.start(main)
