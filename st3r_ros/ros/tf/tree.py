# SPDX-License-Identifier: Apache-2.0
"""The transforms of TF: recent ones, and lookups at a stamp."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from geometry_msgs.msg import Transform, TransformStamped
from tf2_msgs.msg import TFMessage

from st3r_ros.frame_names import frame_name
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import transform_from_message
from st3r_ros.ros.tf.faults import TransformFaults

HISTORY_NS = 5_000_000_000
"""Minimum history of a transform, nanoseconds."""
_SOON_S = 0.005
TIME_JUMP_NS = 1_000_000_000
"""Step backwards of the stamps, nanoseconds, that counts as a restart of time."""


class TransformTree:
    """The transforms of every frame to its parent. One thread may add while others look up.

    A frame has one parent. Where publishers disagree, both are kept, and lookups take the shortest way, so that odometry is found
    beside another parent of the robot.

    refresh: called when a transform is missing; returns whether it has added any. faults: of the transforms added.
    """

    def __init__(self, refresh: Callable[[], bool] = lambda: False, faults: TransformFaults | None = None) -> None:
        self._refresh = refresh
        self.faults = faults or TransformFaults()
        self._links: dict[str, dict[str, _Link]] = {}
        self._changed = threading.Condition()

    def add(self, message: TFMessage, *, static: bool = False) -> list[TransformStamped]:
        """Adds the transforms of a message and returns them, without those that cannot be true. static: valid at any time."""
        added = []
        with self._changed:
            for item in message.transforms:
                parent, child = frame_name(item.header.frame_id), frame_name(item.child_frame_id)
                if self.faults.admit(parent, child, item.transform):
                    stamp_ns = item.header.stamp.sec * 10**9 + item.header.stamp.nanosec
                    self._link(parent, child, stamp_ns, static=static).add(stamp_ns, item.transform)
                    added.append(item)
            self._changed.notify_all()
        return added

    def parent(self, frame: str) -> str | None:
        """The parent of a frame; the one heard last, if there are several."""
        with self._changed:
            return next(reversed(self._links.get(frame_name(frame), {})), None)

    def below(self, frame: str) -> list[str]:
        """The frames below a frame: its children, theirs and so on."""
        top = frame_name(frame)
        with self._changed:
            return [name for name in self._links if name != top and top in self._above(name)]

    def fault(self, *frames: str) -> str:
        """One sentence about a transform that cannot be true, of these frames or those above them; "" without one."""
        with self._changed:
            return self.faults.of(above for frame in frames for above in self._above(frame_name(frame)))

    def lookup(self, target: str, source: str, stamp_ns: int | None = None, *, patience_s: float = 0.0) -> SE3 | None:
        """`T_target_source` at a stamp, or by the newest transforms; None while unknown.

        Interpolated between two transforms of a frame, not extrapolated beyond the newest one, for which the calling thread may
        wait up to `patience_s` seconds.
        """
        end = time.monotonic() + patience_s
        while True:
            found = self._find(target, source, stamp_ns)
            if found is None and self._refresh():
                found = self._find(target, source, stamp_ns)
            left = end - time.monotonic()
            if found is not None or left <= 0.0:
                return found
            with self._changed:
                self._changed.wait(min(left, _SOON_S))

    def _find(self, target: str, source: str, stamp_ns: int | None) -> SE3 | None:
        with self._changed:
            return self._between(frame_name(target), frame_name(source), stamp_ns)

    def _between(self, target: str, source: str, stamp_ns: int | None) -> SE3 | None:
        """By the nearest frame above both."""
        ways = [self._above(frame) for frame in (target, source)]
        both = [(len(to_target) + len(ways[1][top]), len(to_target), top) for top, to_target in ways[0].items() if top in ways[1]]
        if not both:
            return None
        top = min(both)[-1]
        T_top_target, T_top_source = (_climb(way[top], stamp_ns) for way in ways)
        return None if T_top_target is None or T_top_source is None else T_top_target.inverse() @ T_top_source

    def _above(self, frame: str) -> dict[str, list[_Link]]:
        """A frame and those above it, upwards, each with the links on the way to it."""
        ways: dict[str, list[_Link]] = {frame: []}
        for name in (found := [frame]):
            for parent, link in self._links.get(name, {}).items():
                if parent not in ways:
                    ways[parent] = [*ways[name], link]
                    found.append(parent)
        return ways

    def _link(self, parent: str, child: str, stamp_ns: int, *, static: bool) -> _Link:
        """The link that a transform belongs to, made if it is new."""
        links = self._links.setdefault(child, {})
        link, newest = links.get(parent), next(reversed(links), parent)
        if newest != parent:
            if link is not None or static or links[newest].static:  # else it has moved from one parent to another
                self.faults.two_parents(child, (newest, parent))
            for name in [name for name, other in links.items() if other.is_over(stamp_ns, static=static)]:
                del links[name]
        if link is None or link.static != static:
            link = _Link(static)
            loop = self._way_down(parent, child)
            if loop:
                self.faults.loop(loop)
        if newest != parent or parent not in links or links[parent] is not link:
            links.pop(parent, None)
            links[parent] = link  # the last one now
        return link

    def _way_down(self, frame: str, ancestor: str) -> list[str]:
        """The frames from an ancestor down to a frame; none where it is no ancestor."""
        way, links = [frame], self._above(frame).get(ancestor, [])
        for link in links:
            way.append(next(parent for parent, other in self._links[way[-1]].items() if other is link))
        return way[::-1] if links else []


@dataclass(eq=False)
class _Link:
    """Recent transforms of a frame to one parent, by increasing stamps."""

    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    transforms: list[Transform] = field(default_factory=list)

    def add(self, stamp_ns: int, transform: Transform) -> None:
        stamps, transforms = self.stamps_ns, self.transforms
        if self.static or (stamps and stamp_ns < stamps[-1] - TIME_JUMP_NS):
            stamps.clear()
            transforms.clear()
        if stamps and stamp_ns < stamps[-1]:
            return
        if stamps and stamp_ns == stamps[-1]:
            transforms[-1] = transform
            return
        stamps.append(stamp_ns)
        transforms.append(transform)
        if stamp_ns - stamps[0] > 2 * HISTORY_NS:
            old = bisect_left(stamps, stamp_ns - HISTORY_NS)
            del stamps[:old], transforms[:old]

    def is_over(self, stamp_ns: int, *, static: bool) -> bool:
        """Whether a transform of the frame to another parent takes its place: the last static one, or a moving one long after."""
        return static if self.static else not static and abs(stamp_ns - self.stamps_ns[-1]) > TIME_JUMP_NS

    def at(self, stamp_ns: int | None) -> SE3 | None:
        if self.static or stamp_ns is None:
            return transform_from_message(self.transforms[-1])
        after = bisect_left(self.stamps_ns, stamp_ns)
        if after == len(self.stamps_ns):
            return None
        T_after = transform_from_message(self.transforms[after])
        if self.stamps_ns[after] == stamp_ns:
            return T_after
        if after == 0:
            return None
        begin, end = self.stamps_ns[after - 1], self.stamps_ns[after]
        return _interpolate(transform_from_message(self.transforms[after - 1]), T_after, (stamp_ns - begin) / (end - begin))


def _interpolate(T0: SE3, T1: SE3, share: float) -> SE3:
    """From T0 (share 0) to T1 (share 1), turning about one axis."""
    turn = so3.exp(share * so3.log(T0.rotation.T @ T1.rotation))
    return SE3(T0.rotation @ turn, (1.0 - share) * T0.translation + share * T1.translation)


def _climb(links: list[_Link], stamp_ns: int | None) -> SE3 | None:
    """The frame of the first link in the parent of the last one, each beginning where the one before ends."""
    T_top_first = SE3.identity()
    for link in links:
        T_parent_frame = link.at(stamp_ns)
        if T_parent_frame is None:
            return None
        T_top_first = T_parent_frame @ T_top_first
    return T_top_first
