# SPDX-License-Identifier: Apache-2.0
"""Trajectories in TUM files: `stamp tx ty tz qx qy qz qw` per line, T_world_cam, stamps in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st3r_ros.errors import FrameError, InputError, OutputError
from st3r_ros.io.atomic import write_file
from st3r_ros.io.stamps import format_stamp, parse_time
from st3r_ros.types import Trajectory


@dataclass(frozen=True, eq=False)
class TrajectoryFile:
    """What a TUM file holds: its valid poses, and one sentence for every line that could not be used."""

    trajectory: Trajectory
    skipped: tuple[str, ...]


def read_tum(path: Path | str) -> Trajectory:
    """The poses of a TUM file, sorted by stamp; lines that cannot be used are left out.

    Raises:
        InputError: the file cannot be read or holds no valid pose.
    """
    found = load_tum(path)
    if not len(found.trajectory):
        first = f" The first reason: {found.skipped[0]}" if found.skipped else ""
        raise InputError(f"'{path}' holds no valid pose (stamp tx ty tz qx qy qz qw).{first}")
    return found.trajectory


def load_tum(path: Path | str) -> TrajectoryFile:
    """Like `read_tum`, with the lines that were skipped; the trajectory may be empty. Of equal stamps the first one counts.

    Raises:
        InputError: the file cannot be read.
    """
    path = Path(path)
    poses: dict[int, list[float]] = {}
    skipped: list[str] = []
    for number, line in content_lines(path):
        try:
            stamp_ns, pose = _parse(line)
            if stamp_ns in poses:
                raise FrameError(f"The stamp {line.split()[0]} comes a second time.")
        except FrameError as error:
            skipped.append(f"'{path.name}' line {number}: {error}")
        else:
            poses[stamp_ns] = pose
    stamps = np.array(sorted(poses), dtype=np.int64)
    values = np.array([poses[int(stamp)] for stamp in stamps], dtype=np.float64).reshape(-1, 7)
    quaternions = values[:, 3:] / np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    return TrajectoryFile(Trajectory(stamps, values[:, :3], quaternions), tuple(skipped))


def write_tum(path: Path | str, trajectory: Trajectory, sources: Sequence[str] | None = None) -> None:
    """Write a trajectory, stamps exact to the nanosecond.

    sources: where the image of each pose comes from; a comment before the pose says it where it changes.

    Raises:
        OutputError: the file cannot be written, or a pose is not finite.
    """
    values = np.hstack([trajectory.positions, trajectory.quaternions_xyzw])
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise OutputError(f"'{path}' is not written: pose {row} at stamp {trajectory.stamps_ns[row]} is not finite.")
    lines = ["# timestamp tx ty tz qx qy qz qw  (T_world_cam)"]
    said = ""
    for row, (stamp_ns, pose) in enumerate(zip(trajectory.stamps_ns, values, strict=True)):
        if sources is not None and sources[row] != said:
            said = sources[row]
            lines.append("# " + " ".join(said.splitlines()))
        lines.append(" ".join([format_stamp(stamp_ns), *(f"{value:.9f}" for value in pose)]))
    write_file(path, ("\n".join(lines) + "\n").encode(errors="surrogateescape"))


def content_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are neither empty nor comments, with their numbers from 1.

    Raises:
        InputError: the file cannot be read or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not a text file.") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _parse(line: str) -> tuple[int, list[float]]:
    words = line.replace(",", " ").split()
    if "," in line and words[0].isdigit() and len(words[0]) >= 18:
        raise FrameError("It is a line of EuRoC (quaternion w first, pose of the body); open the data set's folder mav0 instead.")
    if len(words) != 8:
        raise FrameError(f"It has {len(words)} values instead of 8 (stamp tx ty tz qx qy qz qw).")
    stamp_ns = parse_time(words[0])
    try:
        pose = [float(word) for word in words[1:]]
    except ValueError as error:
        raise FrameError(f"The pose is not made of numbers: {error}.") from error
    if not np.isfinite(pose).all():
        raise FrameError("The pose is not finite.")
    if np.linalg.norm(pose[3:]) < 1e-6:
        raise FrameError("The quaternion is zero.")
    return stamp_ns, pose
