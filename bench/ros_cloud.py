# SPDX-License-Identifier: Apache-2.0
"""Time of a map cloud from arrays to a subscriber, and of the steps that build cloud and grid of a large map.

Run: python bench/ros_cloud.py [--points 1000000] [--repeats 15] [--keyframes 300]
The map is ground with bumps, seen by a camera that flies over it: with 300 keyframes of 512x384 pixels and voxels of 0.03,
more than 5 million points. 0 keyframes skip it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import harness
import numpy as np
import rclpy
import torch
from harness import Table
from sensor_msgs.msg import PointCloud2

from st3r_ros.config import CloudConfig, GridConfig
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.steps import Steps
from st3r_ros.ros.conversions import header
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.outputs.clouds import MapCloud, cloud_message
from st3r_ros.ros.outputs.grid import MapGrid
from st3r_ros.ros.qos import latched
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

WIDTH, HEIGHT, FOCAL = 512, 384, 440.0
ALTITUDE, SPACING, IN_A_ROW = 6.0, 2.6, 15
TIMES = (("median", "median", ">8", ".1f"), ("min", "min", ">8", ".1f"), ("max", "max", ">8", ".1f"))
MESSAGES = Table((("subscriber", "subscriber", "<12", ""), ("stage", "stage", "<18", ""), *TIMES), gap="")
STEPS = Table(
    (
        ("message", "message", "<22", ""),
        ("after", "after", "<16", ""),
        ("steps", "steps", ">7", ""),
        ("total", "total", ">8", ".0f"),
        ("median", "median", ">8", ".2f"),
        ("p95", "95 %", ">7", ".1f"),
        ("max", "max", ">7", ".1f"),
        ("size", "size", ">10", ""),
        ("kept_mb", "kept MB", ">9", ".0f"),
    ),
    gap="",
)


def measure(points: int, repeats: int, subscribe: bool) -> dict[str, list[float]]:
    """Milliseconds of each stage, per repeat."""
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (points, 3), dtype=np.uint8)
    conf = rng.random(points, dtype=np.float32)
    publisher = rclpy.create_node("bench").create_publisher(PointCloud2, "cloud", latched())
    arrived = threading.Event()
    listener = rclpy.create_node("listener")
    if subscribe:
        listener.create_subscription(PointCloud2, "cloud", lambda message: arrived.set(), latched(), raw=True)
    taken = []
    with harness.spinning(*[listener] * subscribe):
        harness.wait_until(lambda: not subscribe or publisher.get_subscription_count())
        for repeat in range(repeats + 2):
            arrived.clear()
            laps = harness.Laps()
            message = cloud_message(header(repeat, "map"), xyz, colors, conf)
            laps("pack")
            publisher.publish(message)
            laps("publish")
            taken.append({**laps.ms, "pack + publish": sum(laps.ms.values())})
            if subscribe:
                arrived.wait(5.0)
    return {stage: [ms[stage] for ms in taken[2:]] for stage in taken[0]}


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


def measure_large_map(keyframes: int) -> None:
    """Print how long the steps of cloud and grid are, from nothing and after changes."""
    m = flown_over(keyframes)
    cloud, grid = CloudConfig(voxel_size=0.03), GridConfig(enabled=True, min_height=0.1, max_height=1.0, max_range=12.0)
    print(f"\n{keyframes} keyframes, {WIDTH}x{HEIGHT}; steps in milliseconds")
    print(STEPS.header())
    kinds: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("cloud", MapCloud(), (replace(cloud, max_points=0), SE3.identity())),
        ("cloud, max_points 2M", MapCloud(), (cloud, SE3.identity())),
        ("grid", MapGrid(print), (grid,)),
    )
    for title, builder, settings in kinds:
        for after, count in (("the start", 0), ("nothing", 0), ("ten moved", 10), ("a loop", keyframes)):
            for keyframe in list(m.keyframes.values())[::-1][:count]:
                move(keyframe, 0.01)
            message, ms = run_steps(builder.steps(header(0, "map"), m, *settings))
            size = message.info.width * message.info.height if title == "grid" else message.width
            figures = {**harness.spread(ms), "steps": len(ms), "total": ms.sum(), "size": size, "kept_mb": builder.nbytes / 1e6}
            print(STEPS.line({"message": title, "after": after, **figures}), flush=True)


@harness.command
def main() -> None:
    """Print the tables."""
    parser = harness.parser(__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--keyframes", type=int, default=300)
    options = parser.parse_args()
    os.environ.update(isolated_environment())
    rclpy.init()
    print(f"PointCloud2 of {options.points} points, {options.repeats} repeats, milliseconds")
    print(MESSAGES.header())
    for subscribe in (False, True):
        for stage, ms in measure(options.points, options.repeats, subscribe).items():
            print(MESSAGES.line({"subscriber": "yes" if subscribe else "no", "stage": stage, **harness.spread(ms)}))
    rclpy.shutdown()
    if options.keyframes:
        measure_large_map(options.keyframes)


if __name__ == "__main__":
    harness.start(main)
