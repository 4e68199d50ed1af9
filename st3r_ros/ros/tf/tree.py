# SPDX-License-Identifier: Apache-2.0
"""The transforms of TF: recent ones, lookups at a stamp, and those that cannot be true, which are named and counted."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from geometry_msgs.msg import Transform, TransformStamped
from tf2_msgs.msg import TFMessage

from st3r_ros.frame_names import frame_name
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3
from st3r_ros.ros.conversions import transform_from_message

HISTORY_NS = 5_000_000_000
"""Minimum history of a transform, nanoseconds."""
_SOON_S = 0.005
TIME_JUMP_NS = 1_000_000_000
"""Step backwards of the stamps, nanoseconds, that counts as a restart of time."""
FARTHEST_M = 1e8
"""Metres; a longer translation is an error: the Earth, in whose frames (ECEF, UTM) robots are placed, is not as large."""
NOT_UNIT = 0.01
"""Deviation of a quaternion's squared length from 1 beyond which tf2 ignores a transform too."""
MAX_SAID = 30
"""Faults that are said; more have frame names that are made up anew."""


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


class TransformFaults:
    """The faults of the transforms of TF. count: of the transforms left out.

    say: says each fault once. own: a parent of frames whose other parents are told of elsewhere, "" for none.
    """

    def __init__(self, say: Callable[[str], object] = lambda sentence: None, own: str = "") -> None:
        self.count = 0
        self._say, self._own = say, own
        self._said: set[tuple[str, ...]] = set()
        self._current: dict[str, str] = {}

    def admit(self, parent: str, child: str, transform: Transform) -> bool:
        """Whether a transform can be used; otherwise it is counted, and said once."""
        fault = fault_of(parent, child, transform)
        if not fault:
            if self._current:
                self._current.pop(child, None)
            return True
        self.count += 1
        sentence = f"The transform {parent or '(no name)'} -> {child or '(no name)'} in TF cannot be used: {fault}."
        if len(self._current) < MAX_SAID or child in self._current:
            self._current[child] = sentence
        self._say_once(sentence, "fault", parent, child)
        return False

    def of(self, frames: Iterable[str]) -> str:
        """One sentence about a transform of one of these frames to its parent, if the newest one cannot be used; else ""."""
        return next((self._current[frame] for frame in frames if frame in self._current), "")

    def two_parents(self, child: str, parents: tuple[str, str]) -> None:
        """Two publishers give a frame two parents."""
        if self._own not in parents:
            a, b = sorted(parents)
            sentence = f"TF gives {child} two parents, {a} and {b}, but a frame has one: stop one of their publishers."
            self._say_once(sentence, "parents", child)

    def loop(self, frames: Iterable[str]) -> None:
        """Each frame is the parent of the next one, and the last one of the first."""
        names = list(frames)
        way = " -> ".join([*names, names[0]])
        self._say_once(f"TF has a loop, {way}: stop the publisher of one of these transforms.", "loop", *sorted(names))

    def _say_once(self, sentence: str, *key: str) -> None:
        if key not in self._said and len(self._said) < MAX_SAID:
            self._said.add(key)
            self._say(sentence)


def fault_of(parent: str, child: str, transform: Transform) -> str:
    """Why no transform can be like this, "" where it can. parent, child: as `frame_name` gives them."""
    t, q = transform.translation, transform.rotation
    if not (parent and child):
        return "a frame without a name"
    if parent == child:
        return "a frame cannot be its own parent"
    if not max(abs(t.x), abs(t.y), abs(t.z)) <= FARTHEST_M or math.isnan(t.x + t.y + t.z):
        return f"its translation is ({t.x:g}, {t.y:g}, {t.z:g}) m"
    square = q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w
    if not abs(square - 1.0) <= NOT_UNIT:
        numbers = f"its quaternion (x, y, z, w) is ({q.x:g}, {q.y:g}, {q.z:g}, {q.w:g})"
        return f"{numbers}, of length {math.sqrt(square):.3g} instead of 1" if math.isfinite(square) else numbers
    return ""
