# SPDX-License-Identifier: Apache-2.0
"""The tracked frames of a map, a hundred bytes each, each relative to its keyframe."""

from __future__ import annotations

import numpy as np

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.types import FramePose

_FIRST_CAPACITY = 256


class FrameLog:
    """Columns that grow: frame ids, stamps, keyframe ids, and `T_kf_cam`, in the order the frames came."""

    def __init__(self) -> None:
        self._count = 0
        self._numbers = np.zeros((_FIRST_CAPACITY, 3), np.int64)
        self._poses = np.zeros((_FIRST_CAPACITY, 13), np.float64)

    @staticmethod
    def of(frame_ids: np.ndarray, stamps_ns: np.ndarray, keyframe_ids: np.ndarray, T_kf_cam: Sim3) -> FrameLog:
        """From columns (N,) int64 and transforms (N,)."""
        log = FrameLog()
        log._count = len(frame_ids)
        log._numbers = np.stack([frame_ids, stamps_ns, keyframe_ids], axis=1).astype(np.int64)
        log._poses = _columns(T_kf_cam)
        return log

    def __len__(self) -> int:
        return self._count

    def append(self, frame: FramePose) -> None:
        """Adds a tracked frame."""
        if self._count == len(self._numbers):
            grown = max(2 * self._count, _FIRST_CAPACITY)
            self._numbers = np.concatenate([self._numbers, np.zeros((grown - self._count, 3), np.int64)])
            self._poses = np.concatenate([self._poses, np.zeros((grown - self._count, 13))])
        self._numbers[self._count] = frame.frame_id, frame.stamp_ns, frame.keyframe_id
        self._poses[self._count] = _columns(frame.T_kf_cam)
        self._count += 1

    def replace_last(self, frame: FramePose) -> None:
        """Moves the newest frame to another keyframe."""
        self.put(self._count - 1, frame)

    def put(self, place: int, frame: FramePose) -> None:
        """Replaces a frame, by its place."""
        self._numbers[place] = frame.frame_id, frame.stamp_ns, frame.keyframe_id
        self._poses[place] = _columns(frame.T_kf_cam)

    def clear(self) -> None:
        """Removes all frames."""
        self.__init__()  # type: ignore[misc]

    @property
    def frame_ids(self) -> np.ndarray:
        """(N,) int64."""
        return self._numbers[: self._count, 0]

    @property
    def stamps_ns(self) -> np.ndarray:
        """(N,) int64."""
        return self._numbers[: self._count, 1]

    @property
    def keyframe_ids(self) -> np.ndarray:
        """(N,) int64."""
        return self._numbers[: self._count, 2]

    @property
    def T_kf_cam(self) -> Sim3:
        """(N,) transforms, each of its frame's camera to its keyframe's."""
        poses = self._poses[: self._count]
        return Sim3(poses[:, :9].reshape(-1, 3, 3), poses[:, 9:12], poses[:, 12])

    def __getitem__(self, index: int) -> FramePose:
        """One frame, counted from 0 in the order they came; -1 is the newest."""
        at = range(self._count)[index]
        frame_id, stamp_ns, keyframe_id = self._numbers[at].tolist()
        row = self._poses[at]
        return FramePose(frame_id, stamp_ns, keyframe_id, Sim3(row[:9].reshape(3, 3), row[9:12], row[12]))

    def bend(self, start: int, end: int, D: Sim3) -> None:
        """Distributes a correction over the frames from `start` to `end`, by their stamps: none at the first, all of `D` at
        `end`.

        The frames belong to one keyframe; `D` acts in its camera, left of T_kf_cam. `end` itself is not changed.
        """
        stamps = self.stamps_ns[start : end + 1]
        share = (stamps[:-1] - stamps[0]) / max(int(stamps[-1] - stamps[0]), 1)
        rows = self._poses[start:end]
        poses = Sim3(rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12])
        self._poses[start:end] = _columns(Sim3.exp(share[:, None] * D.log()) @ poses)

    def place(self, places: np.ndarray, T_kf_cam: Sim3) -> None:
        """Gives frames, by their places (m,) in ascending order, new poses (m,).

        Other frames of their keyframe before, between and after them follow: by how far their places lie between the two, or
        between one and that of the keyframe itself, which stays.
        """
        changes = (T_kf_cam @ self.T_kf_cam[places].inverse()).log()
        starts = np.flatnonzero(np.diff(self.keyframe_ids, prepend=-1))
        run = np.searchsorted(starts, places, side="right") - 1
        for number in np.unique(run).tolist():
            start, end = int(starts[number]), int(starts[number + 1]) if number + 1 < len(starts) else self._count
            knots, change = places[run == number], changes[run == number]
            own = start + np.flatnonzero(~self._poses[start:end, 9:12].any(axis=1))  # the keyframe itself
            knots, change = np.append(own, knots), np.concatenate([np.zeros((len(own), 7)), change])
            order = np.argsort(knots, kind="stable")
            knots, change = knots[order], change[order]
            D = np.stack([np.interp(np.arange(start, end), knots, column) for column in change.T], axis=1)
            rows = self._poses[start:end]
            self._poses[start:end] = _columns(Sim3.exp(D) @ Sim3(rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12]))

    def retie(self, old: int, new: int, T_new_old: Sim3) -> None:
        """Moves the frames of keyframe `old` to keyframe `new`."""
        tied = np.flatnonzero(self.keyframe_ids == old)
        if len(tied) == 0:
            return
        rows = self._poses[tied]
        self._poses[tied] = _columns(T_new_old @ Sim3(rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12]))
        self._numbers[tied, 2] = new


def _columns(T: Sim3) -> np.ndarray:
    """Rotation, translation and scale in a row (..., 13)."""
    batch = T.batch
    return np.concatenate([T.rotation.reshape(*batch, 9), T.translation, np.asarray(T.scale)[..., None]], axis=-1)
