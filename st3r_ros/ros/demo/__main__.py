# SPDX-License-Identifier: Apache-2.0
"""The demo: a camera node and a mapping node as two processes, real topics between them, progress, and a report at the end.

Run: python -m st3r_ros.ros.demo --input SOURCE --out FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from st3r_ros.commands.interrupt import Interrupt
from st3r_ros.commands.progress import Display, make_display
from st3r_ros.commands.report import input_lines
from st3r_ros.config import DemoConfig
from st3r_ros.errors import St3rError
from st3r_ros.io.calibration import read_calibration
from st3r_ros.msg import MappingStatus
from st3r_ros.results import check_output_folder
from st3r_ros.ros.demo.child import Child, last_words
from st3r_ros.ros.demo.isolation import isolated_environment
from st3r_ros.ros.demo.report import compare_with_truth, print_report
from st3r_ros.ros.demo.viewer import DemoViewer
from st3r_ros.ros.nodes.camera_node import sent_images
from st3r_ros.ros.qos import latched
from st3r_ros.sequences import FrameSequence, open_sequence
from st3r_ros.types import MappingState

FAILED, USER_ERROR = 1, 2
_SETTLE_S = 1.5
_SAVE_S = 120.0
_STATES = {getattr(MappingStatus, state.name): state for state in MappingState}


@dataclass(frozen=True)
class Seen:
    """The numbers for the display, from the status message."""

    frames: int
    skipped: int
    recent_fps: float
    state: MappingState

    @staticmethod
    def of(status: MappingStatus) -> Seen:
        """What a status says; a dropped image was seen, too."""
        seen = status.frames_processed + status.frames_dropped
        return Seen(seen, status.frames_skipped, status.fps, _STATES[status.state])


class Watch(Node):
    """Stores the last status of the mapping node."""

    def __init__(self) -> None:
        super().__init__("st3r_demo")
        self.status = MappingStatus()
        self._changed = time.monotonic()
        self.create_subscription(MappingStatus, "st3r_mapping/status", self._on_status, latched())

    @property
    def drained(self) -> bool:
        """Whether all received images are finished and no new one has arrived for a while."""
        status = self.status
        done = status.frames_processed + status.frames_dropped + status.frames_skipped
        return done >= status.frames_received and time.monotonic() - self._changed > _SETTLE_S

    def _on_status(self, status: MappingStatus) -> None:
        if (status.frames_received, status.frames_processed) != (self.status.frames_received, self.status.frames_processed):
            self._changed = time.monotonic()
        self.status = status


def run_demo(options: argparse.Namespace) -> int:
    """Plays the input through both nodes. Returns the exit code.

    Raises:
        St3rError: the input, the calibration or the output folder cannot be used.
    """
    out = Path(options.out)
    sequence = open_sequence(options.input, camera=read_calibration(options.camera) if options.camera else None)
    for line in input_lines(sequence):
        print(line, file=sys.stderr)
    check_output_folder(out)
    (out / "summary.json").unlink(missing_ok=True)  # shows that this run has written its results
    environment = isolated_environment()
    with Interrupt() as interrupt, contextlib.ExitStack() as ending:
        viewer = ending.enter_context(DemoViewer(environment, browser=True)) if options.view else None
        mapping = Child("mapping_node", {"base_frame": "", "output_dir": str(out)}, environment)
        camera = Child(
            "camera_node",
            {"source": options.input, "camera": options.camera, "rate": options.rate, "max_frames": options.max_frames},
            environment,
        )
        try:
            os.environ.update(environment)
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            watch = Watch()
            with make_display(sequence.name, options.max_frames or sequence.length) as display:
                _follow(watch, camera, mapping, display, interrupt)
        finally:
            camera.stop(10.0)
            mapping.stop(_SAVE_S)
            rclpy.try_shutdown()
        failed = interrupt.signal is None and _tell_failure([camera, mapping])
        _report(watch.status, camera, out, sequence, interrupt.name if interrupt.signal else "")
        exit_code = interrupt.exit_code or (0 if watch.status.frames_tracked and not failed else FAILED)
        if viewer is not None and exit_code == 0:
            viewer.wait(interrupt)
    return exit_code


def _follow(watch: Watch, camera: Child, mapping: Child, display: Display, interrupt: Interrupt) -> None:
    """Shows the progress until the end of the sequence, a signal, or the end of the mapping node."""
    while mapping.running and interrupt.signal is None:
        rclpy.spin_once(watch, timeout_sec=0.1)
        if watch.status.frames_received:
            display.show(Seen.of(watch.status), watch.status.keyframes)
        else:
            display.wait(_awaited(mapping, camera))
        if not camera.running and watch.drained:
            return


def _awaited(mapping: Child, camera: Child) -> str:
    """What the demo waits for before the first image: the last message of the node that is not ready yet."""
    if not mapping.lines:
        return "the mapping node is starting"
    if any("Subscribed to" in line for line in mapping.lines):
        return last_words(camera) or "the camera node is starting"
    return last_words(mapping)


def _tell_failure(children: list[Child]) -> bool:
    """Prints the last output of the first failed child; whether there is one."""
    for child in children:
        if child.exit_code != 0:
            print(f"The {child.name} ended with exit code {child.exit_code}. Its last lines:", file=sys.stderr)
            print("\n".join(child.lines[-15:]), file=sys.stderr)
            return True
    return False


def _report(status: MappingStatus, camera: Child, out: Path, sequence: FrameSequence, interrupted_by: str) -> None:
    if (out / "summary.json").exists():
        compare_with_truth(out, sequence.truth)
        print_report(status, sent_images(camera.lines), out, interrupted_by)
    else:
        print("No image was mapped; there are no results.", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m st3r_ros.ros.demo`."""
    defaults = DemoConfig()
    parser = argparse.ArgumentParser(prog="python -m st3r_ros.ros.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--input", default=defaults.input, help="folder or data set, video, bag, stream address, webcam index or sim:room"
    )
    parser.add_argument("--out", default=defaults.out, help="folder for the results")
    parser.add_argument(
        "--camera", default="", help="calibration file (docs/calibration.md), instead of the one that comes with the input"
    )
    parser.add_argument(
        "--rate",
        type=float,
        help="playback speed relative to the stamps; by default 1, and 0.5 for the simulation, which is rendered meanwhile",
    )
    parser.add_argument("--max-frames", type=int, default=0, help="stop after this many images; 0 plays all")
    parser.add_argument("--view", action="store_true", help="show the map in the browser, during the demo and afterwards")
    options = parser.parse_args(arguments)
    if options.rate is None:
        options.rate = 0.5 if options.input.startswith("sim:") else 1.0
    try:
        return run_demo(options)
    except St3rError as error:
        print(f"Error: {error}", file=sys.stderr)
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
