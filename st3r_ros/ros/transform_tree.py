# SPDX-License-Identifier: Apache-2.0
"""TF input: recent transforms, and lookups at a stamp."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from geometry_msgs.msg import Transform
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from st3r_ros.frame_names import frame_name
from st3r_ros.geometry import so3
from st3r_ros.geometry.se3 import SE3
from st3r_ros.ros.conversions import transform_from_message
from st3r_ros.ros.qos import stream

HISTORY_NS = 5_000_000_000
"""Minimum history of a transform, nanoseconds."""
_TAKE_PERIOD_S = 0.05
_SOON_S = 0.005
TIME_JUMP_NS = 1_000_000_000
"""Step backwards of the stamps, nanoseconds, that counts as a restart of time."""


class TransformTree:
    """The transforms of every frame to its parent. One thread may add while others look up.

    refresh: called when a transform is missing; returns whether it has added any.
    """

    def __init__(self, refresh: Callable[[], bool] = lambda: False) -> None:
        self._refresh = refresh
        self._links: dict[str, _Link] = {}
        self._changed = threading.Condition()

    def add(self, message: TFMessage, *, static: bool = False) -> None:
        """Adds the transforms of a message, except invalid ones. static: valid at any time."""
        with self._changed:
            for item in message.transforms:
                if not _is_rigid(item.transform):
                    continue
                parent, child = frame_name(item.header.frame_id), frame_name(item.child_frame_id)
                link = self._links.get(child)
                if link is None or link.parent != parent or link.static != static:
                    link = self._links[child] = _Link(parent, static)
                link.add(item.header.stamp.sec * 10**9 + item.header.stamp.nanosec, item.transform)
            self._changed.notify_all()

    def parent(self, frame: str) -> str | None:
        """The parent of a frame."""
        with self._changed:
            link = self._links.get(frame_name(frame))
            return link.parent if link is not None else None

    def below(self, frame: str) -> list[str]:
        """The frames below a frame: its children, theirs and so on."""
        top = frame_name(frame)
        with self._changed:
            return [name for name in self._links if name != top and top in self._ancestors(name)]

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
        above_target, above_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            return None
        T_common_target, T_common_source = (
            self._climb(frames[: frames.index(common)], stamp_ns) for frames in (above_target, above_source)
        )
        if T_common_target is None or T_common_source is None:
            return None
        return T_common_target.inverse() @ T_common_source

    def _ancestors(self, frame: str) -> list[str]:
        """A frame and those above it, upwards; a loop ends where it closes."""
        frames = [frame]
        while frame in self._links and self._links[frame].parent not in frames:
            frame = self._links[frame].parent
            frames.append(frame)
        return frames

    def _climb(self, frames: list[str], stamp_ns: int | None) -> SE3 | None:
        """The first frame in the parent of the last one, each being the parent of the one before."""
        T_top_first = SE3.identity()
        for frame in frames:
            T_parent_frame = self._links[frame].at(stamp_ns)
            if T_parent_frame is None:
                return None
            T_top_first = T_parent_frame @ T_top_first
        return T_top_first


@dataclass(eq=False)
class _Link:
    """Recent transforms of a frame to its parent, by increasing stamps."""

    parent: str
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


class TransformListener:
    """Feeds a `TransformTree` from /tf and /tf_static until it is closed. heard: called with every message, on another thread.

    A robot's TF has hundreds of small messages a second, and waking the executor costs a millisecond each. Therefore the executor
    does not handle these subscriptions: lookups of missing transforms take pending messages, and a thread takes them regularly.
    """

    def __init__(self, node: Node, heard: Callable[[TFMessage], None] = lambda message: None) -> None:
        self._node, self._heard = node, heard
        self.tree = TransformTree(self._take_all)
        self._subscriptions: list[Subscription] = []
        self._taking = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.open()

    def open(self) -> None:
        """Listen, again."""
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        group = _LeftAlone()
        self._subscriptions = [
            self._node.create_subscription(TFMessage, topic, self._heard, qos, callback_group=group)
            for topic, qos in (("/tf_static", latched), ("/tf", stream(100)))
        ]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[self._closing], name="tf", daemon=True)
        self._thread.start()

    @property
    def listening(self) -> bool:
        """Whether it is listening."""
        return bool(self._subscriptions)

    def close(self) -> None:
        """Stops listening, to save the cost of TF when it is not needed."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._thread = [], None

    def _run(self, closing: threading.Event) -> None:
        while not closing.wait(_TAKE_PERIOD_S) and self._node.context.ok():
            self._take_all()

    def _take_all(self) -> bool:
        """Takes pending messages; whether there were any."""
        taken = False
        with self._taking, suppress(InvalidHandle):  # nothing, when the subscriptions are gone
            for subscription, static in zip(self._subscriptions, (True, False), strict=False):
                with subscription.handle:
                    while (message := subscription.handle.take_message(TFMessage, False)) is not None:
                        self.tree.add(message[0], static=static)
                        self._heard(message[0])
                        taken = True
        return taken


class _LeftAlone(CallbackGroup):
    """Subscriptions that no executor waits for."""

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


def _interpolate(T0: SE3, T1: SE3, share: float) -> SE3:
    """From T0 (share 0) to T1 (share 1), turning about one axis."""
    turn = so3.exp(share * so3.log(T0.rotation.T @ T1.rotation))
    return SE3(T0.rotation @ turn, (1.0 - share) * T0.translation + share * T1.translation)


def _is_rigid(transform: Transform) -> bool:
    t, q = transform.translation, transform.rotation
    return math.isfinite(t.x + t.y + t.z) and 1e-6 < math.hypot(q.x, q.y, q.z, q.w) < math.inf
