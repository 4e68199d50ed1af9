# SPDX-License-Identifier: Apache-2.0
"""Trajectories as text files, T_world_cam: written in TUM's format, `stamp tx ty tz qx qy qz qw` per line with stamps in seconds;
read in that and in other usual ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from st3r_ros.errors import FrameError, GeometryError, InputError, OutputError
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.atomic import write_file
from st3r_ros.io.lost_poses import lost_poses
from st3r_ros.io.pose_columns import ACCEPTED, TUM_COLUMNS, PoseColumns
from st3r_ros.io.pose_table import columns_of, read_table
from st3r_ros.io.stamps import format_stamp, parse_stamp, parse_time
from st3r_ros.types import Trajectory

TUM_KIND = TUM_COLUMNS.kind
_UNIT_TOLERANCE = 0.05


@dataclass(frozen=True)
class FrameStamps:
    """Stamps, nanoseconds, for the rows of a file whose poses have none.

    by_row: of those rows whose image is there. complete: whether there must be as many rows as stamps.
    """

    by_row: Mapping[int, int]
    complete: bool = False


@dataclass(frozen=True, eq=False)
class TrajectoryFile:
    """What a file of poses holds.

    trajectory: its valid poses; where the file holds no rotations, their quaternions are NaN. skipped: a sentence for every line
    that could not be used, of `lines` in all. kind: which columns were read. of_body: whether the format is one of a body's
    poses. notes: sentences on what was not read or is not certain.
    """

    trajectory: Trajectory
    skipped: tuple[str, ...]
    lines: int
    kind: str
    of_body: bool
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> str:
        """How many lines are left out and why, "" for none."""
        return f"{len(self.skipped)} of {self.lines} lines left out; first: {self.skipped[0]}" if self.skipped else ""


def read_tum(path: Path | str) -> Trajectory:
    """The poses of a file that `load_tum` reads, sorted by stamp; lines that cannot be used are left out.

    Raises:
        InputError: the file cannot be read or holds no valid pose.
    """
    found = load_tum(path)
    if not len(found.trajectory):
        raise InputError(f"'{path}' holds no valid pose (stamp tx ty tz qx qy qz qw). {found.left_out}".rstrip())
    return found.trajectory


def load_tum(path: Path | str, frames: FrameStamps | None = None, *, w_first: bool | None = None) -> TrajectoryFile:
    """The poses of a text file: in TUM's columns, or those that its header names or its form tells (`pose_columns`).

    The trajectory may be empty. Of equal stamps the first one counts. Poses that the comments call T_cam_world are inverted.
    frames: the stamps of poses that have none. w_first: whether the quaternion of a file without a header begins with w, None
    where its form tells that.

    Raises:
        InputError: the file cannot be read, or the meaning of its columns is unknown.
    """
    path = Path(path)
    table = read_table(path)
    try:
        columns = columns_of(table, w_first)
        _check_stamps(columns, len(table.rows), frames)
    except InputError as error:
        raise InputError(f"'{path}' cannot be used: {error}") from error
    poses: dict[int, np.ndarray] = {}
    lines: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for row, (number, cells) in enumerate(table.rows):
        try:
            pose = _pose(cells, columns)
            stamp_ns = _stamp(cells, columns) if columns.stamp or frames is None else frames.by_row.get(row)
            if stamp_ns is None:
                continue  # an image that is not there
            if stamp_ns in poses:
                raise FrameError(f"The stamp {format_stamp(stamp_ns)} comes a second time.")
        except FrameError as error:
            reasons[number] = str(error)
        else:
            poses[stamp_ns], lines[stamp_ns] = pose, number
    stamps = np.array(sorted(poses), dtype=np.int64)
    values = np.array([poses[int(stamp)] for stamp in stamps], dtype=np.float64).reshape(-1, 7)
    norms = np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    norm = float(np.median(norms)) if len(norms) else 1.0
    if 2 * np.count_nonzero(np.abs(norms - 1.0) > _UNIT_TOLERANCE) > len(norms):
        raise InputError(
            f"'{path}' cannot be used: read as {columns.kind}, its quaternions have a norm of {norm:.3g} instead of 1. "
            f"{ACCEPTED}."
        )
    values[:, 3:] /= norms
    lost = lost_poses(values)
    reasons |= {lines[int(stamp)]: "The pose is 0 0 0 / 0 0 0 1, as written where none was found." for stamp in stamps[lost]}
    skipped = tuple(f"'{path.name}' line {number}: {reasons[number]}" for number in sorted(reasons))
    trajectory = Trajectory(stamps[~lost], values[~lost, :3], values[~lost, 3:])
    if columns.inverse:
        trajectory = _inverse(trajectory)
    notes = tuple(f"'{path.name}': {note}." for note in columns.notes)
    return TrajectoryFile(trajectory, skipped, len(table.rows), columns.kind, columns.of_body, notes)


def moved(found: TrajectoryFile, T_body_cam: SE3) -> TrajectoryFile:
    """The poses of a camera on the body whose poses a file holds.

    Raises:
        InputError: it holds positions only, and the camera is not at the body's origin.
    """
    poses = found.trajectory
    if not len(poses) or (not poses.has_rotations and not np.any(T_body_cam.translation)):
        return found
    if not poses.has_rotations:
        raise InputError("They are positions only, which do not tell where the camera on the body is.")
    T_world_cam = SE3.from_quaternion_xyzw(poses.quaternions_xyzw, poses.positions) @ T_body_cam
    return replace(found, trajectory=Trajectory(poses.stamps_ns, T_world_cam.translation, T_world_cam.quaternion_xyzw))


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


def _check_stamps(columns: PoseColumns, rows: int, frames: FrameStamps | None) -> None:
    """Raises InputError where the poses have no stamps and the images do not tell them."""
    if columns.stamp:
        return
    if frames is None:
        raise InputError(f"it holds {columns.kind} without stamps, and nothing tells the images' order. {ACCEPTED}.")
    if frames.complete and rows != len(frames.by_row):
        raise InputError(f"it holds {rows} poses without stamps, but there are {len(frames.by_row)} images.")


def _inverse(poses: Trajectory) -> Trajectory:
    T = SE3.from_quaternion_xyzw(poses.quaternions_xyzw, poses.positions).inverse()
    return Trajectory(poses.stamps_ns, T.translation, T.quaternion_xyzw)


def _stamp(cells: list[str], columns: PoseColumns) -> int:
    if len(columns.stamp) == 2:
        seconds, nanoseconds = (cells[i] for i in columns.stamp)
        return parse_stamp(seconds) + parse_stamp(nanoseconds, 1)
    text = cells[columns.stamp[0]]
    return parse_stamp(text, columns.unit_ns) if columns.unit_ns else parse_time(text)


def _pose(cells: list[str], columns: PoseColumns) -> np.ndarray:
    """Position and quaternion of a line, (7,); the quaternion NaN where the file has none."""
    if len(cells) <= columns.last if columns.more else len(cells) != columns.count:
        if len(cells) in (8, 17) and re.fullmatch(r"\d{18,19}", cells[0]):
            raise FrameError(
                f"It is a line of EuRoC (quaternion w first, pose of the body) among lines of {columns.count} values."
            )
        form = " (stamp tx ty tz qx qy qz qw)" if columns.count == 8 else ""
        raise FrameError(f"It has {len(cells)} values instead of {columns.count}{form}.")
    at = columns.matrix + columns.last_row if columns.matrix else columns.position + columns.quaternion_xyzw
    try:
        values = np.array([float(cells[i]) for i in at])
    except ValueError as error:
        raise FrameError(f"The pose is not made of numbers: {error}.") from error
    if not np.isfinite(values).all():
        raise FrameError("The pose is not finite.")
    if columns.matrix:
        whole = values if columns.last_row else np.append(values, (0.0, 0.0, 0.0, 1.0))
        try:
            T = SE3.from_matrix(whole.reshape(4, 4))
        except GeometryError as error:
            raise FrameError(str(error)) from error
        return np.concatenate([columns.metres * T.translation, T.quaternion_xyzw])
    position, quaternion = columns.metres * values[:3], values[3:]
    if not len(quaternion):
        return np.concatenate([position, np.full(4, np.nan)])
    if np.linalg.norm(quaternion) < 1e-6:
        raise FrameError("The quaternion is zero.")
    return np.concatenate([position, quaternion])
