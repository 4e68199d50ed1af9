# SPDX-License-Identifier: Apache-2.0
"""Docking: a robot at its dock, away from it and back, through the relocalization node and ROS topics.

A camera node plays a sequence that has depth and true poses. At a given time the live image, with its depth, becomes the
reference of the relocalization node (~/set_reference); from then on every answer is compared with ground truth. Prints the
answers by status, the errors, and whether result, pose, TF and picture of each query have the stamp of its image. Writes the
distance to the dock over time (distance.png) and the farthest refusal, the first answer after it and the nearest one
(moments.jpg, the pictures of ~/matches). Exit status 1: a message is missing, duplicate or has another stamp.

The pictures show images of the sequence: check its licence before publishing them.
"""

from __future__ import annotations

import argparse
import array
import io
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from mapping_bench.views import TrueViews
from matplotlib.figure import Figure
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from st3r_ros.errors import InputError, St3rError
from st3r_ros.eval.association import associate
from st3r_ros.geometry import so3
from st3r_ros.geometry.se3 import SE3
from st3r_ros.io.atomic import write_file
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros.child import Child
from st3r_ros.ros.conversions import image_from_message, stamp_to_ns
from st3r_ros.ros.isolation import isolated_environment
from st3r_ros.ros.qos import stream
from st3r_ros.sequences import open_sequence
from st3r_ros.srv import SetReference
from st3r_ros.types import Frame, LocalizationStatus, Trajectory

NAME = "/st3r_relocalization"
DOCK = "dock"
FAILED, USER_ERROR = 1, 2
PATIENCE_S = 60.0
WIDTH = 900  # of the pictures, pixels
DRAIN_S = 2.0
STATUSES = {getattr(RelocalizationResult, status.name): status.name for status in LocalizationStatus} | {0: "UNUSABLE"}
TRUE, FOUND = "#71717a", "#16a34a"
REFUSALS = {"TOO_FEW_MATCHES": "#dc2626", "AMBIGUOUS": "#d97706", "UNCERTAIN": "#7c3aed", "UNUSABLE": "#18181b"}
EXAMPLES = """examples:
  python bench/docking.py                                         the simulated room, at half its speed
  python bench/docking.py kitchen --dock 8 --rate 5"""


@dataclass(frozen=True, eq=False)
class Answer:
    """A result and the true pose of its camera in the dock's frame."""

    result: RelocalizationResult
    stamp_ns: int
    truth: SE3

    @property
    def status(self) -> str:
        return STATUSES[self.result.status]

    @property
    def distance(self) -> float:
        """True metres to the dock."""
        return float(_distance(self.truth))

    @property
    def turn_deg(self) -> float:
        """True angle to the dock's view."""
        return float(_turn_deg(self.truth))

    @property
    def pose(self) -> SE3 | None:
        """The answered pose, None where there is none or its length means nothing."""
        if self.result.status != RelocalizationResult.LOCALIZED or self.result.directional:
            return None
        p, q = self.result.pose.pose.position, self.result.pose.pose.orientation
        return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))


@dataclass(frozen=True, eq=False)
class Truth:
    """True poses (N,) of the camera in one frame, and their stamps (N,)."""

    stamps_ns: np.ndarray
    poses: SE3

    @staticmethod
    def of(trajectory: Trajectory) -> Truth:
        """In the frame of the trajectory."""
        poses = SE3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions)
        return Truth(trajectory.stamps_ns, poses)

    def since(self, dock_ns: int) -> Truth:
        """From a time on, in the frame that the camera was in at that time."""
        begin = int(np.argmin(np.abs(self.stamps_ns - dock_ns)))
        return Truth(self.stamps_ns[begin:], self.poses[begin].inverse() @ self.poses[begin:])

    def at(self, stamp_ns: int) -> SE3 | None:
        """The pose of one image, None where none is known within 20 ms."""
        found = associate(np.array([stamp_ns]), self.stamps_ns).references
        return self.poses[int(found[0])] if len(found) else None


class Robot(Node):
    """Makes a live image the reference and keeps what the relocalization node says from then on, by stamps."""

    def __init__(self, views: TrueViews, dock_ns: int) -> None:
        super().__init__("robot")
        self._views, self._dock_ns = views, dock_ns
        self._asked = False
        self.said = ""
        self.docked_ns: int | None = None
        self.results: dict[int, RelocalizationResult] = {}
        self.poses: list[int] = []
        self.transforms: list[int] = []
        self.pictures: dict[int, bytes] = {}
        self._info: CameraInfo | None = None
        self.docking = self.create_client(SetReference, f"{NAME}/set_reference")
        self.create_subscription(RelocalizationResult, f"{NAME}/result", self._on_result, stream(100))
        self.create_subscription(PoseWithCovarianceStamped, f"{NAME}/pose", lambda m: self.poses.append(_stamp(m)), stream(100))
        self.create_subscription(TFMessage, "/tf", self._on_tf, stream(100))
        self.create_subscription(Image, f"{NAME}/matches", self._on_picture, stream(10))

    def look(self) -> None:
        """Subscribe to the camera."""
        self.create_subscription(CameraInfo, "camera_info", self._on_info, stream(5))
        self.create_subscription(Image, "image", self._on_image, stream(5))

    def _on_info(self, info: CameraInfo) -> None:
        self._info = info

    def _on_image(self, image: Image) -> None:
        stamp_ns = _stamp(image)
        if self._asked or self._info is None or stamp_ns < self._dock_ns or not self._views.has(stamp_ns):
            return
        self._asked = True
        depth = Image(header=image.header, height=image.height, width=image.width, encoding="32FC1", step=4 * image.width)
        view = self._views.of(Frame(0, stamp_ns, image_from_message(image)))
        depth.data = array.array("B", view.depth.astype("<f4").tobytes())
        request = SetReference.Request(name=DOCK, image=image, camera_info=self._info, depth=depth)
        self.docking.call_async(request).add_done_callback(lambda done: self._on_docked(done.result(), stamp_ns))

    def _on_docked(self, response: SetReference.Response, stamp_ns: int) -> None:
        self.said = response.message
        if response.success:
            self.docked_ns = stamp_ns

    def _on_result(self, result: RelocalizationResult) -> None:
        self.results[_stamp(result)] = result

    def _on_tf(self, message: TFMessage) -> None:
        self.transforms += [_stamp(transform) for transform in message.transforms]

    def _on_picture(self, picture: Image) -> None:
        pixels = cv2.cvtColor(image_from_message(picture), cv2.COLOR_RGB2BGR)
        self.pictures[_stamp(picture)] = _jpeg(pixels)

    def answers(self, truth: Truth) -> list[Answer]:
        """The results about the dock, in order of time; those without a true pose are left out."""
        stamped = [(result, stamp_ns, truth.at(stamp_ns)) for stamp_ns, result in sorted(self.results.items())]
        return [Answer(result, stamp_ns, T) for result, stamp_ns, T in stamped if result.reference == DOCK and T is not None]

    def complaints(self) -> list[str]:
        """What is missing, too much or stamped otherwise: a success has one of each message, a refusal a result and a picture."""
        with_pose = {s for s, r in self.results.items() if r.status == RelocalizationResult.LOCALIZED and not r.directional}
        kinds = {
            "pose": (with_pose, self.poses),
            "TF": (with_pose, self.transforms),
            "picture": (set(self.results), [*self.pictures]),
        }
        texts = []
        for kind, (expected, stamps) in kinds.items():
            lacking, unexpected = expected - set(stamps), set(stamps) - expected
            if lacking or unexpected or len(stamps) != len(set(stamps)):
                twice = len(stamps) - len(set(stamps))
                texts.append(f"{kind}: {len(lacking)} missing, {len(unexpected)} without such a result, {twice} twice")
        return texts


def _stamp(message: Any) -> int:
    return stamp_to_ns(message.header.stamp)


# The run ---------------------------------------------------------------------------------------------------------------------


def play(source: str, dock_s: float, speed: float, rate: float, views: TrueViews) -> Robot:
    """Play the sequence past the relocalization node; what the robot heard.

    Raises:
        St3rError: a node ended early, or the reference was refused.
    """
    environment = isolated_environment()
    os.environ.update(environment)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    robot = Robot(views, round(dock_s * 1e9))
    node = Child("relocalization_node", {"rate": rate, "reference_frame": DOCK, "publish_tf": True}, environment)
    camera: Child | None = None
    try:
        _spin(
            robot,
            lambda: _running(node) and robot.count_subscribers("image") > 0 and robot.docking.service_is_ready(),
            PATIENCE_S,
        )
        robot.look()
        camera = Child("camera_node", {"source": source, "rate": speed}, environment)
        _spin(robot, lambda: not (_running(node) and camera.running), math.inf)
        _spin(robot, lambda: False, DRAIN_S)
    finally:
        for child in (camera, node):
            if child is not None:
                child.stop(10.0)
        rclpy.try_shutdown()
    if camera.exit_code != 0:
        raise InputError(f"The camera node failed: {camera.lines[-1:]}.")
    if robot.docked_ns is None:
        raise InputError(f"There was no reference. {robot.said or f'No image from {dock_s} s on has a depth.'}")
    return robot


def _running(node: Child) -> bool:
    if not node.running:
        raise InputError(f"The relocalization node ended: {' '.join(node.lines[-3:])}")
    return True


def _spin(robot: Robot, done: Callable[[], bool], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while not done() and time.monotonic() < end:
        rclpy.spin_once(robot, timeout_sec=0.1)


# The report ------------------------------------------------------------------------------------------------------------------


def report(answers: list[Answer], robot: Robot) -> bool:
    """Print what came of the run; whether every message was as it must be."""
    print(robot.said)
    print(
        f"{len(answers)} answers: {', '.join(f'{n} {status}' for status, n in Counter(a.status for a in answers).most_common())}"
    )
    found = [(a, a.pose) for a in answers if a.pose is not None]
    if found:
        errors = np.array([_errors(a.truth, pose) for a, pose in found])
        ms = [a.result.latency_ms for a in answers]
        print(f"error: median {np.median(errors[:, 0]):.3f} m, {np.median(errors[:, 1]):.2f} degrees;", end=" ")
        print(f"90 %: {np.percentile(errors[:, 0], 90):.3f} m, {np.percentile(errors[:, 1], 90):.2f} degrees;", end=" ")
        print(f"worst {errors[:, 0].max():.3f} m, {errors[:, 1].max():.2f} degrees; median {np.median(ms):.0f} ms per answer")
    complaints = robot.complaints()
    print("stamps: " + ("; ".join(complaints) or "result, pose, TF and picture of every query carry that of its image"))
    return not complaints


def write(out: Path, answers: list[Answer], truth: Truth, robot: Robot) -> None:
    """The pictures and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    moments = {
        name: answer for name, answer in chosen(answers).items() if answer is not None and answer.stamp_ns in robot.pictures
    }
    for name, answer in moments.items():
        where = f"{answer.distance:.2f} m and {answer.turn_deg:.0f} degrees away"
        print(f"{name} at {answer.stamp_ns * 1e-9:.1f} s, {where}: {answer.result.message}")
    files = {out / "distance.png": plot(answers, moments, truth)}
    if moments:
        files[out / "moments.jpg"] = _below_each_other([robot.pictures[answer.stamp_ns] for answer in moments.values()])
    for file, data in files.items():
        write_file(file, data)
    print("Written:", *files)


def _below_each_other(pictures: list[bytes]) -> bytes:
    decoded = [cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) for picture in pictures]
    sizes = [(WIDTH, round(image.shape[0] * WIDTH / image.shape[1])) for image in decoded]
    smaller = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image, size in zip(decoded, sizes, strict=True)]
    return _jpeg(np.concatenate(smaller))


def _jpeg(image: np.ndarray) -> bytes:
    data: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return data


def chosen(answers: list[Answer]) -> dict[str, Answer | None]:
    """The refusal farthest away, the first answer after it, and the nearest answer after it."""
    away = max((a for a in answers if a.pose is None), key=lambda a: a.distance, default=None)
    back = [a for a in answers if away is not None and a.pose is not None and a.stamp_ns > away.stamp_ns]
    return {"away": away, "found": back[0] if back else None, "back": min(back, key=lambda a: a.distance, default=None)}


def plot(answers: list[Answer], moments: dict[str, Answer], truth: Truth) -> bytes:
    """Distance and angle to the dock over time, true and answered; PNG."""
    figure = Figure(figsize=(9.5, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    seconds = truth.stamps_ns * 1e-9
    upper.plot(seconds, _distance(truth.poses), color=TRUE, label="true")
    lower.plot(seconds, _turn_deg(truth.poses), color=TRUE)
    found = [(a, a.pose) for a in answers if a.pose is not None]
    at = [a.stamp_ns * 1e-9 for a, _ in found]
    upper.plot(at, [_distance(pose) for _, pose in found], ".", color=FOUND, label=f"answered ({len(found)})")
    lower.plot(at, [_turn_deg(pose) for _, pose in found], ".", color=FOUND)
    for status, color in REFUSALS.items():
        stamps = [a.stamp_ns * 1e-9 for a in answers if a.status == status]
        if stamps:
            label = f"{status} ({len(stamps)})"
            upper.plot(stamps, np.zeros(len(stamps)), "|", color=color, markersize=9, label=label)
    for name, answer in moments.items():
        upper.axvline(answer.stamp_ns * 1e-9, color="#a1a1aa", linewidth=0.8, zorder=0)
        upper.annotate(
            name, (answer.stamp_ns * 1e-9, 1.0), (2, -10), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    upper.set_ylabel("distance to the dock, m")
    lower.set_ylabel("turned by, degrees")
    lower.set_xlabel("time of the recording, s")
    upper.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    return buffer.getvalue()


def _distance(T: SE3) -> np.ndarray:
    return np.linalg.norm(T.translation, axis=-1)


def _turn_deg(T: SE3) -> np.ndarray:
    return np.degrees(np.linalg.norm(so3.log(T.rotation), axis=-1))


def _errors(truth: SE3, found: SE3) -> tuple[float, float]:
    """Metres and degrees."""
    return float(np.linalg.norm(truth.translation - found.translation)), float(_turn_deg(truth.inverse() @ found))


def main(arguments: list[str] | None = None) -> int:
    """Play, compare, print, write. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", nargs="?", default="sim:room?frames=300", help="a sequence with depth, true poses and a calibration"
    )
    parser.add_argument("--dock", type=float, default=0.0, metavar="S", help="stamp from which an image with depth is the dock")
    parser.add_argument("--rate", type=float, default=5.0, help="maximum rate of answers, 1/s")
    parser.add_argument(
        "--speed", type=float, help="playback speed; by default 1, and 0.5 for the simulation, which is rendered meanwhile"
    )
    parser.add_argument("--out", type=Path, default=Path("docking"), help="folder for the pictures")
    options = parser.parse_args(arguments)
    speed = options.speed or (0.5 if options.source.startswith("sim:") else 1.0)
    try:
        sequence = open_sequence(options.source)
        views = TrueViews(sequence, max(sequence.camera.width, sequence.camera.height) if sequence.camera else 1)
        robot = play(options.source, options.dock, speed, options.rate, views)
    except St3rError as error:
        print(f"Error: {error}", file=sys.stderr)
        return USER_ERROR
    assert robot.docked_ns is not None
    truth = Truth.of(sequence.truth).since(robot.docked_ns)
    answers = robot.answers(truth)
    good = report(answers, robot)
    write(options.out, answers, truth, robot)
    return 0 if good else FAILED


if __name__ == "__main__":
    sys.exit(main())
