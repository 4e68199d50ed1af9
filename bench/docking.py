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

import array
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from noisy_depth.views import TrueViews
from st3r_ros.errors import InputError
from st3r_ros.eval.association import associate
from st3r_ros.eval.relocalization import pose_error
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.atomic import write_file
from st3r_ros.maps.pictures import encode_jpeg
from st3r_ros.msg import RelocalizationResult
from st3r_ros.ros.conversions import stamp_to_ns
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.input.image_input import image_from_message
from st3r_ros.ros.qos import stream
from st3r_ros.sequences import open_sequence
from st3r_ros.srv import SetReference
from st3r_ros.types import Frame, LocalizationStatus, Trajectory

NAME = "/st3r_relocalization"
DOCK = "dock"
FAILED = 1
PATIENCE_S = 60.0
WIDTH = 900  # of the pictures, pixels
DRAIN_S = 2.0
QUANTILES = {"median": 50, "90 %:": 90, "worst": 100}
STATUSES = {getattr(RelocalizationResult, status.name): status.name for status in LocalizationStatus} | {0: "UNUSABLE"}
TRUE, FOUND = "#71717a", "#16a34a"
REFUSALS = {"TOO_FEW_MATCHES": "#dc2626", "AMBIGUOUS": "#d97706", "UNCERTAIN": "#7c3aed", "UNUSABLE": "#18181b"}
EXAMPLES = """examples:
  python bench/docking.py                                         the simulated room, at half its speed
  python bench/docking.py kitchen --dock 8 --rate 5"""


@dataclass(frozen=True, eq=False)
class Answer:
    """A result, and the true pose of its camera in the dock's frame. pose: the answered one, None where there is none or its
    length means nothing."""

    result: RelocalizationResult
    truth: SE3

    @property
    def stamp_ns(self) -> int:
        return _stamp(self.result)

    @property
    def status(self) -> str:
        return STATUSES[self.result.status]

    @property
    def pose(self) -> SE3 | None:
        p, q = self.result.pose.pose.position, self.result.pose.pose.orientation
        given = _has_pose(self.result)
        return SE3.from_quaternion_xyzw(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z])) if given else None


def _has_pose(result: RelocalizationResult) -> bool:
    return result.status == RelocalizationResult.LOCALIZED and not result.directional


def since_dock(truth: Trajectory, dock_ns: int) -> tuple[np.ndarray, SE3]:
    """Stamps (N,) and true poses (N,) of the camera from the dock on, in the frame that it was in at the dock."""
    poses = SE3.from_quaternion_xyzw(truth.quaternions_xyzw, truth.positions)
    begin = int(np.argmin(np.abs(truth.stamps_ns - dock_ns)))
    return truth.stamps_ns[begin:], poses[begin].inverse() @ poses[begin:]


class Robot(Node):
    """Makes a live image the reference and keeps what the relocalization node says from then on, by stamps."""

    def __init__(self, views: TrueViews, dock_ns: int) -> None:
        super().__init__("robot")
        self._views, self._dock_ns, self._asked = views, dock_ns, False
        self._infos: list[CameraInfo] = []
        self.said, self.docked_ns = "", -1
        self.results: dict[int, RelocalizationResult] = {}
        self.poses: list[int] = []
        self.transforms: list[int] = []
        self.pictures: dict[int, bytes] = {}
        self.docking = self.create_client(SetReference, f"{NAME}/set_reference")
        hear = self.create_subscription
        hear(RelocalizationResult, f"{NAME}/result", lambda m: self.results.update({_stamp(m): m}), stream(100))
        hear(PoseWithCovarianceStamped, f"{NAME}/pose", lambda m: self.poses.append(_stamp(m)), stream(100))
        hear(TFMessage, "/tf", lambda m: self.transforms.extend(map(_stamp, m.transforms)), stream(100))
        hear(Image, f"{NAME}/matches", self._on_picture, stream(10))

    def look(self) -> None:
        """Subscribe to the camera."""
        self.create_subscription(CameraInfo, "camera_info", self._infos.append, stream(5))
        self.create_subscription(Image, "image", self._on_image, stream(5))

    def _on_image(self, image: Image) -> None:
        stamp_ns = _stamp(image)
        if self._asked or not self._infos or stamp_ns < self._dock_ns or not self._views.has(stamp_ns):
            return
        self._asked = True
        depth = Image(header=image.header, height=image.height, width=image.width, encoding="32FC1", step=4 * image.width)
        view = self._views.of(Frame(0, stamp_ns, image_from_message(image)))
        depth.data = array.array("B", view.depth.astype("<f4").tobytes())
        request = SetReference.Request(name=DOCK, image=image, camera_info=self._infos[-1], depth=depth)
        self.docking.call_async(request).add_done_callback(lambda done: self._on_docked(done.result(), stamp_ns))

    def _on_picture(self, picture: Image) -> None:
        self.pictures[_stamp(picture)] = encode_jpeg(image_from_message(picture))

    def _on_docked(self, response: SetReference.Response, stamp_ns: int) -> None:
        self.said, self.docked_ns = response.message, stamp_ns if response.success else -1

    def answers(self, truth_ns: np.ndarray, truth: SE3) -> list[Answer]:
        """The results about the dock, in order of time; those without a true pose are left out."""
        results = [self.results[stamp_ns] for stamp_ns in sorted(self.results) if self.results[stamp_ns].reference == DOCK]
        found = associate(np.array([_stamp(result) for result in results], np.int64), truth_ns)
        return [Answer(results[i], truth[j]) for i, j in zip(found.queries, found.references, strict=True)]

    def complaints(self) -> list[str]:
        """What is missing, too much or stamped otherwise: a success has one of each message, a refusal a result and a picture."""
        with_pose = {stamp for stamp, result in self.results.items() if _has_pose(result)}
        kinds = {"pose": (with_pose, self.poses), "TF": (with_pose, self.transforms)}
        texts = []
        for kind, (expected, stamps) in {**kinds, "picture": (set(self.results), [*self.pictures])}.items():
            counts = len(expected - set(stamps)), len(set(stamps) - expected), len(stamps) - len(set(stamps))
            if any(counts):
                texts.append("{}: {} missing, {} without such a result, {} twice".format(kind, *counts))
        return texts


def _stamp(message: Any) -> int:
    return stamp_to_ns(message.header.stamp)


def play(source: str, dock_s: float, speed: float, rate: float, views: TrueViews) -> Robot:
    """Play the sequence past the relocalization node; what the robot heard."""
    environment = isolated_environment()
    os.environ.update(environment)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    robot = Robot(views, round(dock_s * 1e9))

    def spin(done: Callable[[], bool], patience_s: float) -> None:
        end = time.monotonic() + patience_s
        while not done() and time.monotonic() < end:
            if not node.running:
                raise InputError(f"The relocalization node ended: {' '.join(node.lines[-3:])}")
            rclpy.spin_once(robot, timeout_sec=0.1)

    with ExitStack() as stack:
        stack.callback(rclpy.try_shutdown)
        node = Child("relocalization_node", {"rate": rate, "reference_frame": DOCK, "publish_tf": True}, environment)
        stack.callback(node.stop, 10.0)
        spin(lambda: robot.count_subscribers("image") > 0 and robot.docking.service_is_ready(), PATIENCE_S)
        robot.look()
        camera = Child("camera_node", {"source": source, "rate": speed}, environment)
        stack.callback(camera.stop, 10.0)
        spin(lambda: not camera.running, math.inf)
        spin(lambda: False, DRAIN_S)
    if camera.exit_code != 0:
        raise InputError(f"The camera node failed: {camera.lines[-1:]}.")
    if robot.docked_ns < 0:
        raise InputError(f"There was no reference. {robot.said or f'No image from {dock_s} s on has a depth.'}")
    return robot


def report(answers: list[Answer], robot: Robot) -> bool:
    """Print what came of the run; whether every message was as it must be."""
    by_status = Counter(answer.status for answer in answers).most_common()
    print(robot.said, f"{len(answers)} answers: {', '.join(f'{n} {status}' for status, n in by_status)}", sep="\n")
    errors = [pose_error(pose, answer.truth, metric=True) for answer in answers if (pose := answer.pose) is not None]
    if errors:
        off = np.array([(error.translation, error.rotation_deg) for error in errors])
        texts = ["{} {:.3f} m, {:.2f} degrees".format(name, *np.percentile(off, q, axis=0)) for name, q in QUANTILES.items()]
        ms = np.median([answer.result.latency_ms for answer in answers])
        print(f"error: {'; '.join(texts)}; median {ms:.0f} ms per answer")
    complaints = robot.complaints()
    print("stamps: " + ("; ".join(complaints) or "result, pose, TF and picture of every query carry that of its image"))
    return not complaints


def write(out: Path, answers: list[Answer], truth_ns: np.ndarray, truth: SE3, robot: Robot) -> None:
    """The pictures and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    moments = {name: answer for name, answer in chosen(answers).items() if answer and answer.stamp_ns in robot.pictures}
    for name, answer in moments.items():
        where = f"{_distance(answer.truth):.2f} m and {_turn_deg(answer.truth):.0f} degrees away"
        print(f"{name} at {answer.stamp_ns * 1e-9:.1f} s, {where}: {answer.result.message}")
    harness.write_png(out / "distance.png", lambda: plot(answers, moments, truth_ns, truth))
    print("Written:", out / "distance.png", end=" " if moments else "\n")
    if moments:
        write_file(out / "moments.jpg", _below_each_other([robot.pictures[answer.stamp_ns] for answer in moments.values()]))
        print(out / "moments.jpg")


def _below_each_other(pictures: list[bytes]) -> bytes:
    images = [cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) for picture in pictures]
    sizes = [(WIDTH, round(image.shape[0] * WIDTH / image.shape[1])) for image in images]
    smaller = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image, size in zip(images, sizes, strict=True)]
    return encode_jpeg(np.concatenate(smaller)[..., ::-1])


def chosen(answers: list[Answer]) -> dict[str, Answer | None]:
    """The refusal farthest away, the first answer after it, and the nearest answer after it."""
    away = max((a for a in answers if a.pose is None), key=lambda a: _distance(a.truth), default=None)
    back = [a for a in answers if away is not None and a.pose is not None and a.stamp_ns > away.stamp_ns]
    return {"away": away, "found": back[0] if back else None, "back": min(back, key=lambda a: _distance(a.truth), default=None)}


def plot(answers: list[Answer], moments: dict[str, Answer], truth_ns: np.ndarray, truth: SE3) -> harness.Figure:
    """Distance and angle to the dock over time, true and answered."""
    figure = harness.new_figure(9.5, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    found = [(answer, pose) for answer in answers if (pose := answer.pose) is not None]
    at = [answer.stamp_ns * 1e-9 for answer, _ in found]
    for axes, of, label in ((upper, _distance, "distance to the dock, m"), (lower, _turn_deg, "turned by, degrees")):
        axes.plot(truth_ns * 1e-9, of(truth), color=TRUE, label="true")
        axes.plot(at, [of(pose) for _, pose in found], ".", color=FOUND, label=f"answered ({len(found)})")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for status, color in REFUSALS.items():
        stamps = [answer.stamp_ns * 1e-9 for answer in answers if answer.status == status]
        if stamps:
            upper.plot(stamps, 0 * np.array(stamps), "|", color=color, markersize=9, label=f"{status} ({len(stamps)})")
    for name, answer in moments.items():
        upper.axvline(answer.stamp_ns * 1e-9, color="#a1a1aa", linewidth=0.8, zorder=0)
        at_top = (answer.stamp_ns * 1e-9, 1.0)
        upper.annotate(name, at_top, (2, -10), xycoords=("data", "axes fraction"), textcoords="offset points")
    lower.set_xlabel("time of the recording, s")
    upper.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def _distance(T: SE3) -> np.ndarray:
    return np.linalg.norm(T.translation, axis=-1)


def _turn_deg(T: SE3) -> np.ndarray:
    return np.degrees(np.linalg.norm(so3.log(T.rotation), axis=-1))


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Play, compare, print, write. Returns the exit code."""
    parser = harness.parser(__doc__, EXAMPLES)
    source = "sim:room?frames=300"
    parser.add_argument("source", nargs="?", default=source, help="a sequence with depth, true poses and a calibration")
    parser.add_argument("--dock", type=float, default=0.0, metavar="S", help="stamp from which an image with depth is the dock")
    parser.add_argument("--rate", type=float, default=5.0, help="maximum rate of answers, 1/s")
    speed = "playback speed; by default 1, and 0.5 for the simulation, which is rendered meanwhile"
    parser.add_argument("--speed", type=float, help=speed)
    parser.add_argument("--out", type=Path, default=Path("docking"), help="folder for the pictures")
    options = parser.parse_args(arguments)
    sequence = open_sequence(options.source)
    views = TrueViews(sequence, max(sequence.camera.width, sequence.camera.height) if sequence.camera else 1)
    speed = options.speed or (0.5 if options.source.startswith("sim:") else 1.0)
    robot = play(options.source, options.dock, speed, options.rate, views)
    truth_ns, truth = since_dock(sequence.truth, robot.docked_ns)
    answers = robot.answers(truth_ns, truth)
    good = report(answers, robot)
    write(options.out, answers, truth_ns, truth, robot)
    return 0 if good else FAILED


if __name__ == "__main__":
    harness.start(main)
