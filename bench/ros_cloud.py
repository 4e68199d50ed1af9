# SPDX-License-Identifier: Apache-2.0
"""How long a map cloud takes from arrays to a subscriber: packing it and publishing it, with and without a subscriber.

Run: python bench/ros_cloud.py [--points 1000000] [--repeats 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import PointCloud2

from st3r_ros.ros.clouds import cloud_message
from st3r_ros.ros.conversions import header
from st3r_ros.ros.isolation import isolated_environment
from st3r_ros.ros.qos import LATCHED


def measure(points: int, repeats: int, subscribe: bool) -> dict[str, list[float]]:
    """Milliseconds of each stage, per repeat."""
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (points, 3), dtype=np.uint8)
    conf = rng.random(points, dtype=np.float32)
    node = rclpy.create_node("bench")
    publisher = node.create_publisher(PointCloud2, "cloud", LATCHED)
    arrived = threading.Event()
    executor = SingleThreadedExecutor()
    spinning = threading.Thread(target=executor.spin)
    if subscribe:
        listener = rclpy.create_node("listener")
        listener.create_subscription(PointCloud2, "cloud", lambda message: arrived.set(), LATCHED, raw=True)
        executor.add_node(listener)
        spinning.start()
        while not publisher.get_subscription_count():
            time.sleep(0.01)
    times: dict[str, list[float]] = {"pack": [], "publish": [], "pack + publish": []}
    for repeat in range(repeats + 2):
        arrived.clear()
        begin = time.perf_counter()
        message = cloud_message(header(repeat, "map"), xyz, colors, conf)
        packed = time.perf_counter()
        publisher.publish(message)
        published = time.perf_counter()
        if subscribe:
            arrived.wait(5.0)
        if repeat >= 2:
            for name, seconds in zip(times, (packed - begin, published - packed, published - begin), strict=True):
                times[name].append(1e3 * seconds)
    executor.shutdown()
    if spinning.is_alive():
        spinning.join()
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.environ.update(isolated_environment())
    rclpy.init()
    print(f"PointCloud2 of {options.points} points, {options.repeats} repeats, milliseconds")
    print(f"{'subscriber':<12}{'stage':<18}{'median':>8}{'min':>8}{'max':>8}")
    for subscribe in (False, True):
        for stage, values in measure(options.points, options.repeats, subscribe).items():
            median = statistics.median(values)
            print(f"{'yes' if subscribe else 'no':<12}{stage:<18}{median:8.1f}{min(values):8.1f}{max(values):8.1f}")
    rclpy.shutdown()


if __name__ == "__main__":
    main()
