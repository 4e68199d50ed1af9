# SPDX-License-Identifier: Apache-2.0
"""A map of 6 million points: time to the new cloud after a loop while images arrive, and time to shut down.

The map is that of ros_cloud.py. Each image takes a fixed amount of computation, like in the mapper; the cloud is built on the
same thread, as in the mapping node. The shutdown does what Ctrl-C does with `output_dir` set, with an up-to-date and with a
completely outdated cloud.

Run: python bench/large_map.py [--keyframes 300] [--rate 15] [--image-ms 35]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import numpy as np
from ros_cloud import flown_over, move

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.transforms import SE3
from st3r_ros.products.steps import finish
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import RunInfo, write_results
from st3r_ros.ros.conversions import header
from st3r_ros.ros.nodes.worker import Worker
from st3r_ros.ros.outputs.clouds import MapCloud
from st3r_ros.ros.outputs.latched import GradualOutput
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

PERIOD_S = 1.0
CONFIG = CloudConfig(voxel_size=0.03, max_points=0)


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
        idle = lambda: self.output.poll(PERIOD_S, idle=True)  # noqa: E731
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


@harness.command
def main() -> None:
    """Print the figures."""
    parser = harness.parser(__doc__)
    parser.add_argument("--keyframes", type=int, default=300)
    parser.add_argument("--rate", type=float, default=15.0)
    parser.add_argument("--image-ms", type=float, default=35.0)
    options = parser.parse_args()
    m, cloud = flown_over(options.keyframes), MapCloud()
    taken: list[tuple[float, float]] = []
    with harness.clocks(taken, time.process_time):
        finish(cloud.steps(header(0, "map"), m, CONFIG, SE3.identity()))
    print("first cloud in {:.1f} s ({:.1f} s of a core)".format(*(1e-3 * ms for ms in taken[0])), flush=True)
    measure_loop(m, cloud, options.rate, 1e-3 * options.image_ms)
    measure_end(m, cloud, "nothing stale")
    close_loop(m)
    measure_end(m, cloud, "all stale")


if __name__ == "__main__":
    harness.start(main)
