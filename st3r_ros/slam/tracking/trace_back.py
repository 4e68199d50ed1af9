# SPDX-License-Identifier: Apache-2.0
"""Frames from before a map began, tracked from its first keyframe backwards in time.

A camera that turned before it moved has seen what the first keyframe does not show; so frames become keyframes on the way, as
they do forwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.map_builder import MapBuilder
from st3r_ros.slam.keyframes.sightings import Sighting
from st3r_ros.slam.tracking.frontend import Frontend
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Frame, FramePose, Keyframe


@dataclass(frozen=True, eq=False)
class Passed:
    """A frame from before the first keyframe, whose own start failed. Only its working image is kept."""

    frame: Frame
    features: Any

    @staticmethod
    def of(frame: Frame, features: Any) -> Passed:
        """Of a frame with its features."""
        return Passed(replace(frame, image=features.image, mask=features.mask), features)


def trace_back(
    workspace: Workspace, builder: MapBuilder, first: Keyframe, passed: Sequence[Passed]
) -> list[tuple[FramePose, Sighting | None]]:
    """The frames right before the first keyframe, in order of time, as far back as tracking leads."""
    frontend, tracker = Frontend(workspace), workspace.tracker
    frontend.enter(first)
    found: list[tuple[FramePose, Sighting | None]] = []
    for seen in reversed(passed):
        # Time runs backwards, so that the camera goes on as it moved.
        frame = replace(seen.frame, stamp_ns=2 * first.stamp_ns - seen.frame.stamp_ns)
        tracked = frontend.follow(frame, seen.features)
        if tracked is None and frontend.previous is not None:
            found[-1] = _promoted(frontend, builder, passed[-len(found)].frame), None
            tracked = frontend.follow(frame, seen.features)
        if tracked is None:
            break
        assert frontend.keyframe is not None
        frontend.accept(frame, seen.features, tracked)
        pose = FramePose(seen.frame.id, seen.frame.stamp_ns, frontend.keyframe.id, tracked.result.T_kf_cam)
        found.append((pose, tracker.sighting(frontend.keyframe, seen.features.K, tracked)))
        tracker.fuse(frontend.keyframe, tracked)
        if frontend.view_has_changed(tracked):
            found[-1] = _promoted(frontend, builder, seen.frame), None
    return found[::-1]


def _promoted(frontend: Frontend, builder: MapBuilder, frame: Frame) -> FramePose:
    """Makes the frame that was placed last a keyframe."""
    assert frontend.previous is not None and frontend.keyframe is not None
    (_, features, tracked), left = frontend.previous, frontend.keyframe
    keyframe = builder.add_keyframe(frame, features, left, tracked)
    builder.complete(builder.surveyor.survey(keyframe, left, tracked))
    frontend.enter(keyframe)
    return FramePose(frame.id, frame.stamp_ns, keyframe.id, Sim3.identity())
