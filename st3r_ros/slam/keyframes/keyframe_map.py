# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes with their pointmaps, the edges between them, and every tracked frame relative to its keyframe."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.leveling import level_by_cameras
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.frame_log import FrameLog
from st3r_ros.slam.keyframes.sightings import Sighting, Sightings
from st3r_ros.types import Edge, FramePose, Keyframe, MapScale, Trajectory


@dataclass(frozen=True, eq=False)
class OrganisedCloud:
    """One keyframe, a point per pixel: points (h, w, 3) float32 in its camera, map units, NaN where not confident.

    colors (h, w, 3) uint8 RGB, conf (h, w) float32.
    """

    points: np.ndarray
    colors: np.ndarray
    conf: np.ndarray


@dataclass(frozen=True, eq=False)
class Motion:
    """`T_before_now` of the camera, map units, and the seconds between."""

    T_before_now: SE3
    seconds: float


class KeyframeMap:
    """Keyframes by id (in order of creation), the edges between them, and the tracked frames relative to them.

    loops_rejected: loop candidates that did not agree with the map. keyframes_dropped: redundant keyframes that were dropped.
    T_map_world: the world in the robot's level map frame, if a robot has made or used the map; otherwise None.
    """

    def __init__(self) -> None:
        self.keyframes: dict[int, Keyframe] = {}
        self.frames = FrameLog()
        self.sightings = Sightings()
        self.scale = MapScale()
        self.T_map_world: SE3 | None = None
        self.loops_rejected = 0
        self.keyframes_dropped = 0
        self._edges: dict[tuple[int, int], Edge] = {}
        self._neighbours: dict[int, set[int]] = {}

    # The graph --------------------------------------------------------------------------------------------------------

    @property
    def edges(self) -> Collection[Edge]:
        """All edges, the oldest first."""
        return self._edges.values()

    @property
    def loops(self) -> int:
        """Number of loop edges."""
        return sum(edge.kind == "loop" for edge in list(self._edges.values()))

    def add_frame(self, frame: FramePose, seen: Sighting | None = None) -> None:
        """Adds a tracked frame, with what it sees of its keyframe."""
        self.frames.append(frame)
        if seen is not None:
            self.sightings.add(len(self.frames) - 1, seen)

    def promote_last_frame(self, frame: FramePose) -> None:
        """Makes the newest frame that of a new keyframe."""
        self.frames.replace_last(frame)
        self.sightings.drop(len(self.frames) - 1)

    def add_keyframe(self, keyframe: Keyframe) -> None:
        """Adds a keyframe with a new id."""
        self.keyframes[keyframe.id] = keyframe
        self._neighbours[keyframe.id] = set()

    def add_edge(self, edge: Edge) -> None:
        """Connects two keyframes; replaces an existing edge between them."""
        self.remove_edge(edge.i, edge.j)
        self._edges[edge.i, edge.j] = edge
        self._neighbours[edge.i].add(edge.j)
        self._neighbours[edge.j].add(edge.i)

    def edge(self, i: int, j: int) -> Edge | None:
        """The edge between two keyframes, in either direction."""
        found = self._edges.get((i, j))
        return self._edges.get((j, i)) if found is None else found

    def neighbours(self, keyframe_id: int) -> Collection[int]:
        """Ids of the keyframes connected to this one."""
        return self._neighbours[keyframe_id]

    def around(self, keyframe_id: int, hops: int) -> set[int]:
        """Ids of the keyframes at most `hops` edges away, this one included."""
        reached, border = {keyframe_id}, {keyframe_id}
        for _ in range(hops):
            border = {other for here in border for other in self._neighbours[here]} - reached
            reached |= border
        return reached

    def reachable(self, start: int, *, without: int) -> set[int]:
        """Ids of the keyframes connected with `start` without passing `without`."""
        reached, border = {start}, {start}
        while border:
            border = {other for here in border for other in self._neighbours[here]} - reached - {without}
            reached |= border
        return reached

    def path(self, start: int, goal: int) -> list[int]:
        """Ids of the keyframes on the way with the fewest edges, both ends included; empty when there is none."""
        came_from = {start: start}
        queue = deque([start])
        while queue and goal not in came_from:
            here = queue.popleft()
            for other in self._neighbours[here]:
                if other not in came_from:
                    came_from[other] = here
                    queue.append(other)
        if goal not in came_from:
            return []
        path = [goal]
        while path[-1] != start:
            path.append(came_from[path[-1]])
        return path[::-1]

    def edges_of(self, keyframe_id: int) -> list[Edge]:
        """The edges of one keyframe."""
        found = (self.edge(keyframe_id, other) for other in sorted(self._neighbours[keyframe_id]))
        return [edge for edge in found if edge is not None]

    def edges_at(self, keyframe_ids: Iterable[int]) -> list[Edge]:
        """The edges of several keyframes, each once."""
        return list({(e.i, e.j): e for k in keyframe_ids for e in self.edges_of(k)}.values())

    def remove_edge(self, i: int, j: int) -> None:
        """Disconnects two keyframes."""
        if self._edges.pop((i, j), None) is None and self._edges.pop((j, i), None) is None:
            return
        self._neighbours[i].discard(j)
        self._neighbours[j].discard(i)

    def remove_keyframe(self, keyframe_id: int, into: int, T_into_removed: Sim3) -> None:
        """Removes a keyframe and its edges; its frames are moved to the keyframe `into`."""
        for other in list(self._neighbours[keyframe_id]):
            self.remove_edge(keyframe_id, other)
        del self._neighbours[keyframe_id], self.keyframes[keyframe_id]
        self.frames.retie(keyframe_id, into, T_into_removed)
        self.sightings.forget(keyframe_id)
        self.keyframes_dropped += 1

    def clear(self) -> None:
        """Clears the map."""
        self.__init__()  # type: ignore[misc]

    def rescale(self, factor: float) -> None:
        """Makes the unit of the world `factor` times smaller: every position and size is multiplied by it.

        Frames and pointmaps are in their keyframe's own unit, so they follow.
        """
        for keyframe in self.keyframes.values():
            T = keyframe.T_world_cam
            keyframe.T_world_cam = Sim3(T.rotation, factor * T.translation, factor * T.scale)

    def move(self, poses: Mapping[int, Sim3]) -> None:
        """Moves keyframes. Frames follow their keyframe and, towards the next one, increasingly that one.

        Otherwise the path would jump where a keyframe has been corrected relative to the previous one.
        """
        bends = [(s, n, self._seen_from_before(n)) for s, n in self._runs_to_keyframes(poses)]
        for keyframe_id, T in poses.items():
            # Corrections are products with inverses, which transpose: left alone, rounding would double with each of them.
            self.keyframes[keyframe_id].T_world_cam = Sim3(so3.nearest_rotation(T.rotation), T.translation, T.scale)
        for start, end, T_before in bends:
            self.frames.bend(start, end, self._seen_from_before(end) @ T_before.inverse())

    def _runs_to_keyframes(self, moved: Collection[int]) -> list[tuple[int, int]]:
        """Where frames were tracked against one keyframe until the next frame, at `end`, became one: (start, end) of the runs.

        They start with the keyframe itself, where frames from before it were tracked against it as well. A new run starts where
        time went back: at a looping recording or a changed clock.
        """
        ids, stamps = self.frames.keyframe_ids, self.frames.stamps_ns
        starts = np.flatnonzero((np.diff(ids, prepend=-1) != 0) | (np.diff(stamps, prepend=stamps[:1]) < 0))
        touched = np.isin(ids[starts], list(moved))
        kept = np.flatnonzero(touched[:-1] | touched[1:])
        runs = zip(starts[kept].tolist(), starts[kept + 1].tolist(), strict=True)
        return [
            (self._own_frame(s, n), n)
            for s, n in runs
            if n - s > 1 and ids[s] != ids[n] and stamps[n] > stamps[n - 1]
            if self.keyframes[int(ids[n])].stamp_ns == stamps[n]
        ]

    def _own_frame(self, start: int, end: int) -> int:
        """Which of the frames of one keyframe is the keyframe itself; `start` where none is."""
        own = self.keyframes[int(self.frames.keyframe_ids[start])].stamp_ns
        found = np.flatnonzero(self.frames.stamps_ns[start:end] == own)
        return start + int(found[0]) if len(found) else start

    def _seen_from_before(self, n: int) -> Sim3:
        """Frame n in the keyframe of the frame before it."""
        before = self.keyframes[int(self.frames.keyframe_ids[n - 1])].T_world_cam
        frame = self.frames[n]
        return before.inverse() @ self.keyframes[frame.keyframe_id].T_world_cam @ frame.T_kf_cam

    @property
    def T_level_world(self) -> SE3:
        """To axes with z up: the robot's map frame, or without a robot those in which the cameras are upright on average."""
        if self.T_map_world is not None:
            return self.T_map_world
        rotations = [keyframe.T_world_cam.rotation for keyframe in self.keyframes.values()]
        return level_by_cameras(np.stack(rotations) if rotations else np.zeros((0, 3, 3)))

    # Views of the map ------------------------------------------------------------------------------------------------

    def trajectory(self, first: int = 0) -> Trajectory:
        """Pose of every tracked frame from number `first` on, as corrected as its keyframe is now, by stamp."""
        if len(self.frames) <= first:
            return _trajectory(np.zeros(0, np.int64), Sim3.identity((0,)))
        T_world_kf = _stack([k.T_world_cam for k in self.keyframes.values()])
        ids = np.fromiter(self.keyframes, np.int64)
        order = np.argsort(ids, kind="stable")
        at = order[np.searchsorted(ids[order], self.frames.keyframe_ids[first:])]
        return _trajectory(self.frames.stamps_ns[first:], T_world_kf[at] @ self.frames.T_kf_cam[first:])

    def last_motion(self) -> Motion | None:
        """Between the last two tracked frames, both as corrected as their keyframes are now; None before there are two."""
        if len(self.frames) < 2:
            return None
        before_ns, now_ns = self.frames.stamps_ns[-2:].tolist()
        seconds = (now_ns - before_ns) * 1e-9
        return Motion(self.T_world_cam(-2).inverse() @ self.T_world_cam(-1), seconds) if seconds > 0 else None

    def T_world_cam(self, place: int) -> SE3:
        """Pose of one tracked frame, by its place in `frames`, as corrected as its keyframe is now."""
        frame = self.frames[place]
        return (self.keyframes[frame.keyframe_id].T_world_cam @ frame.T_kf_cam).se3()

    def keyframe_trajectory(self) -> Trajectory:
        """Pose of every keyframe, by stamp."""
        keyframes = list(self.keyframes.values())
        poses = _stack([k.T_world_cam for k in keyframes]) if keyframes else Sim3.identity((0,))
        return _trajectory(np.array([k.stamp_ns for k in keyframes], np.int64), poses)

    def keyframe_sources(self) -> list[str]:
        """Where the images of the keyframes come from, in the order of `keyframe_trajectory`."""
        return [k.source for k in sorted(self.keyframes.values(), key=lambda k: k.stamp_ns)]

    def keyframe_cloud(self, keyframe_id: int, min_conf: float) -> OrganisedCloud:
        """The dense points of one keyframe, one per pixel."""
        keyframe = self.keyframes[keyframe_id]
        scale = float(keyframe.T_world_cam.scale)
        keep = keyframe.conf >= max(min_conf, 1e-9)
        points = torch.where(keep[..., None], keyframe.X.float() * scale, torch.nan)
        return OrganisedCloud(points.cpu().numpy(), keyframe.image, keyframe.conf.float().cpu().numpy())


def _stack(poses: list[Sim3]) -> Sim3:
    """One batched transform from many."""
    return Sim3(
        np.array([T.rotation for T in poses]), np.array([T.translation for T in poses]), np.array([T.scale for T in poses])
    )


def _trajectory(stamps_ns: np.ndarray, T_world_cam: Sim3) -> Trajectory:
    order = np.argsort(stamps_ns, kind="stable")
    return Trajectory(stamps_ns[order], T_world_cam.translation[order], T_world_cam.quaternion_xyzw[order])
