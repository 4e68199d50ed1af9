# SPDX-License-Identifier: Apache-2.0
"""Map clouds of the mapping node: as messages, and of a map of 6 million points.

messages: time of a cloud from arrays to a subscriber. steps: those that build cloud and grid of the large map. loop: time to the
new cloud after a loop while images arrive, and time to shut down. Each image takes a fixed amount of computation, like in the
mapper; the cloud is built on the same thread, as in the mapping node. The shutdown does what Ctrl-C does with `output_dir` set,
with an up-to-date and with a completely outdated cloud.

The map is ground with bumps, seen by a camera that flies over it: with 300 keyframes of 512x384 pixels and voxels of 0.03,
more than 5 million points.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
import rclpy
import torch
from harness import Table
from sensor_msgs.msg import PointCloud2

from st3r_ros.config import CloudConfig, GridConfig
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.steps import Steps, finish
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, write_results
from st3r_ros.ros.conversions import header
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.outputs.latched import GradualOutput
from st3r_ros.ros.outputs.map_messages import MapCloud, MapGrid, cloud_message
from st3r_ros.ros.qos import latched
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

PERIOD_S = 1.0
CONFIG = CloudConfig(voxel_size=0.03, max_points=0)
GRID = GridConfig(enabled=True, min_height=0.1, max_height=1.0, max_range=12.0)
WIDTH, HEIGHT, FOCAL = 512, 384, 440.0
ALTITUDE, SPACING, IN_A_ROW = 6.0, 2.6, 15
TIMES = (("median", "median", ">8", ".1f"), ("min", "min", ">8", ".1f"), ("max", "max", ">8", ".1f"))
MESSAGES = Table((("subscriber", "subscriber", "<12", ""), ("stage", "stage", "<18", ""), *TIMES), gap="")
COLUMNS = (("message", "message", "<22", ""), ("after", "after", "<16", ""), ("steps", "steps", ">7", ""))
COLUMNS += (("total", "total", ">8", ".0f"), ("median", "median", ">8", ".2f"), ("p95", "95 %", ">7", ".1f"))
COLUMNS += (("max", "max", ">7", ".1f"), ("size", "size", ">10", ""), ("kept_mb", "kept MB", ">9", ".0f"))
STEPS = Table(COLUMNS, gap="")


def measure_messages(points: int, repeats: int) -> None:
    """Print the milliseconds of each stage, with and without a subscriber."""
    os.environ.update(isolated_environment())
    rclpy.init()
    print(f"PointCloud2 of {points} points, {repeats} repeats, milliseconds")
    print(MESSAGES.header())
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (points, 3), dtype=np.uint8)
    conf = rng.random(points, dtype=np.float32)
    arrived, listener = threading.Event(), rclpy.create_node("listener")
    publisher = rclpy.create_node("bench").create_publisher(PointCloud2, "cloud", latched())
    for subscriber in ("no", "yes"):
        if subscriber == "yes":
            listener.create_subscription(PointCloud2, "cloud", lambda message: arrived.set(), latched(), raw=True)
        taken = []
        with harness.spinning(listener):
            harness.wait_until(lambda: subscriber == "no" or publisher.get_subscription_count())  # noqa: B023
            for repeat in range(repeats + 2):
                arrived.clear()
                laps = harness.Laps()
                message = cloud_message(header(repeat, "map"), xyz, colors, conf)
                laps("pack")
                publisher.publish(message)
                laps("publish")
                taken.append({**laps.ms, "pack + publish": sum(laps.ms.values())})
                if subscriber == "yes":
                    arrived.wait(5.0)
        for stage in taken[0]:
            ms = [laps[stage] for laps in taken[2:]]
            print(MESSAGES.line({"subscriber": subscriber, "stage": stage, **harness.spread(ms)}), flush=True)
    rclpy.shutdown()


def flown_over(keyframes: int) -> KeyframeMap:
    """A map of ground with bumps and noise, from keyframes that look straight down and overlap."""
    result, rng = KeyframeMap(), np.random.default_rng(0)
    result.T_map_world = SE3.identity()
    u, v = np.meshgrid((np.arange(WIDTH) - WIDTH / 2 + 0.5) / FOCAL, (np.arange(HEIGHT) - HEIGHT / 2 + 0.5) / FOCAL)
    K = np.array([[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]])
    for number in range(keyframes):
        x, y = SPACING * (number % IN_A_ROW), SPACING * (number // IN_A_ROW)
        bumps = 0.3 * np.sin(2.0 * (x + ALTITUDE * u)) * np.cos(1.7 * (y - ALTITUDE * v))
        depth = ALTITUDE - bumps + rng.normal(0.0, 0.003, u.shape)
        X = torch.from_numpy(np.stack([u * depth, v * depth, depth], axis=-1).astype(np.float16))
        conf = torch.from_numpy(rng.uniform(1.0, 5.0, u.shape).astype(np.float16))
        image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        T_world_cam = Sim3(np.diag([1.0, -1.0, -1.0]), np.array([x, y, ALTITUDE]), np.float64(1.0))
        result.add_keyframe(Keyframe(number, number, number, T_world_cam, X, conf, image, K))
    return result


def move(keyframe: Keyframe, by: np.ndarray | float) -> None:
    """As an optimization does."""
    T = keyframe.T_world_cam
    keyframe.T_world_cam = Sim3(T.rotation, T.translation + by, T.scale)


def run_steps(steps: Steps[Any]) -> tuple[Any, np.ndarray]:
    """The result, and the milliseconds of each step."""
    taken: list[tuple[float, float]] = []
    while True:
        try:
            with harness.clocks(taken):
                next(steps)
        except StopIteration as done:
            return done.value, np.array(taken)[:, 0]


def measure_steps(keyframes: int) -> None:
    """Print how long the steps of cloud and grid are, from nothing and after changes."""
    m = flown_over(keyframes)
    print(f"{keyframes} keyframes, {WIDTH}x{HEIGHT}; steps in milliseconds")
    print(STEPS.header())
    kinds: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("cloud", MapCloud(), (CONFIG, SE3.identity())),
        ("cloud, max_points 2M", MapCloud(), (replace(CONFIG, max_points=CloudConfig.max_points), SE3.identity())),
        ("grid", MapGrid(print), (GRID,)),
    )
    for title, builder, settings in kinds:
        for after, count in (("the start", 0), ("nothing", 0), ("ten moved", 10), ("a loop", keyframes)):
            for keyframe in list(m.keyframes.values())[::-1][:count]:
                move(keyframe, 0.01)
            message, ms = run_steps(builder.steps(header(0, "map"), m, *settings))
            size = message.info.width * message.info.height if title == "grid" else message.width
            figures = {**harness.spread(ms), "steps": len(ms), "total": ms.sum(), "size": size, "kept_mb": builder.nbytes / 1e6}
            print(STEPS.line({"message": title, "after": after, **figures}), flush=True)


@dataclass(eq=False)
class Publisher:
    """A publisher with one subscriber that keeps when messages were sent."""

    sent: list[float] = field(default_factory=list)
    is_activated = True

    def get_subscription_count(self) -> int:
        """One."""
        return 1

    def publish(self, message: Any) -> None:
        """Note the time."""
        self.sent.append(time.perf_counter())


@dataclass(eq=False)
class Images:
    """Images at a rate to a worker that also makes the cloud; how long each took from coming to being done, milliseconds."""

    output: GradualOutput
    rate: float
    image_s: float
    latencies: list[float] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        idle = partial(self.output.poll, PERIOD_S, idle=True)
        self.worker: Worker[float] = Worker(self._process, idle=idle, spare=self.output.go_on, report=_fail)
        self.worker.start()

    def run(self, until: Callable[[], bool], limit_s: float = 300.0) -> None:
        """Send images until it is true."""
        end = time.perf_counter() + limit_s
        for _ in harness.paced(self.rate):
            if until() or time.perf_counter() > end:
                return
            self.dropped += self.worker.submit(time.perf_counter())

    def _process(self, came: float) -> None:
        end = time.thread_time() + self.image_s
        a = np.ones(20_000, np.float32)
        while time.thread_time() < end:
            a = np.sqrt(a)
        self.latencies.append(1e3 * (time.perf_counter() - came))
        self.output.poll(PERIOD_S, idle=False)


def _fail(error: Exception) -> None:
    raise error


def close_loop(keyframe_map: KeyframeMap) -> None:
    """Moves all keyframes, the last one by half a metre along x and y."""
    count = len(keyframe_map.keyframes)
    for number, keyframe in enumerate(keyframe_map.keyframes.values()):
        move(keyframe, 0.5 * (number + 1) / count * np.array([1.0, 1.0, 0.0]))


def measure_loop(m: KeyframeMap, cloud: MapCloud, rate: float, image_s: float) -> None:
    """Print the seconds from the loop to the cloud, and the latencies of the images before and meanwhile."""
    publisher = Publisher()
    output = GradualOutput(publisher, lambda: cloud.steps(header(0, "map"), m, CONFIG, SE3.identity()))  # type: ignore[arg-type]
    images = Images(output, rate, image_s)
    images.run(lambda: False, limit_s=5.0)
    calm = images.latencies.copy()
    close_loop(m)
    images.latencies.clear()
    begin = time.perf_counter()
    output.mark()
    images.run(lambda: bool(publisher.sent))
    images.worker.stop()
    after = publisher.sent[0] - begin if publisher.sent else float("nan")
    print(f"new cloud {after:.1f} s after the loop; {len(images.latencies)} images meanwhile, {images.dropped} dropped")
    for name, ms in (("before", calm), ("meanwhile", images.latencies)):
        spread = harness.spread(ms)
        print("  image latency {:<10} median {median:4.0f} ms, 95 % {p95:4.0f}, max {max:4.0f}".format(name, **spread))


def measure_end(m: KeyframeMap, cloud: MapCloud, title: str) -> None:
    """Print the seconds of making the cloud and of writing the results."""
    laps, used = harness.Laps(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        points = cloud.whole(m, CONFIG)
        laps("cloud")
        write_results(Path(folder), m, RunRecorder(), RunInfo("bench", "none"), cloud_config=CONFIG, cloud=points)
        laps("results")
    made, written = (1e-3 * ms for ms in laps.ms.values())
    print(
        f"end, {title:<18} {made + written:5.1f} s ({time.process_time() - used:.1f} s of a core): cloud of {len(points)} points "
        f"{made:.1f} s, results {written:.1f} s",
        flush=True,
    )


def measure_loop_and_end(keyframes: int, rate: float, image_s: float) -> None:
    """Print how long the first cloud takes, the one after a loop, and the end."""
    m, cloud = flown_over(keyframes), MapCloud()
    taken: list[tuple[float, float]] = []
    with harness.clocks(taken, time.process_time):
        finish(cloud.steps(header(0, "map"), m, CONFIG, SE3.identity()))
    print("first cloud in {:.1f} s ({:.1f} s of a core)".format(*(1e-3 * ms for ms in taken[0])), flush=True)
    measure_loop(m, cloud, rate, image_s)
    measure_end(m, cloud, "nothing stale")
    close_loop(m)
    measure_end(m, cloud, "all stale")


@harness.command
def main() -> None:
    """Print the tables."""
    parser = harness.parser(__doc__)
    parts = ("messages", "steps", "loop")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--points", type=harness.positive, default=1_000_000, help="of the messages")
    parser.add_argument("--repeats", type=harness.positive, default=15, help="of the messages")
    parser.add_argument("--keyframes", type=harness.positive, default=300, help="of the large map")
    parser.add_argument("--rate", type=float, default=15.0, help="of the images beside the loop, 1/s")
    parser.add_argument("--image-ms", type=float, default=35.0, help="computation for each of these images")
    options = parser.parse_args()
    if "messages" in options.parts:
        measure_messages(options.points, options.repeats)
    if "steps" in options.parts:
        measure_steps(options.keyframes)
    if "loop" in options.parts:
        measure_loop_and_end(options.keyframes, options.rate, 1e-3 * options.image_ms)


if __name__ == "__main__":
    harness.start(main)
