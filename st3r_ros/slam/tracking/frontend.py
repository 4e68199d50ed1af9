# SPDX-License-Identifier: Apache-2.0
"""Frame-by-frame camera pose: against the current keyframe, against another one with overlap, or by relocalization."""

from __future__ import annotations

from typing import Any

import numpy as np

from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.slam.keyframes.memory import retire, revive
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.places.loops import check_cycle
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.slam.tracking.tracker import Tracked
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Frame, Keyframe

EXPECTED_SHARE = 0.25
SWITCH_OVERLAP, SIMILAR_OVERLAP = 0.5, 0.85
"""Minimum share of its points that the better keyframe must show, and of the share that the current one shows."""
SWITCH_GAIN, CONTRADICTION_GAIN = 1.2, 2.0
"""So many times the matches make another keyframe the better one, where both agree on the pose and where they do not."""
FOUND_INLIERS = 3
"""A pose without confirmation by previous frames needs this many times `min_inliers`."""
MAX_TURN_DEG = 20.0
MAX_MOVE_DEPTHS = 0.3
"""Between two images. A larger motion is rare, and a pose that is wrong often makes one; so it must be sure."""
MAX_STEP_S = 0.5
GAP_S, GAP_INTERVALS = 0.3, 3.0
"""A pause in the stream of both so many seconds and so many times the interval before it is a gap."""
SURE_INLIER_SHARE = SURE_CLOSE_SHARE = 0.6
"""Of the matches, those that agree on a sure pose; of those with known depth, those that lie close to where they are seen."""


class Frontend:
    """Knows the current keyframe and the last frame's pose in it; changes neither the map nor its pointmaps.

    relocalizer: for `find`.
    """

    def __init__(self, workspace: Workspace, relocalizer: Relocalizer | None = None) -> None:
        self._map, self._places, self._store = workspace.map, workspace.places, workspace.store
        self._tracker, self._frozen = workspace.tracker, workspace.frozen
        self._relocalizer = relocalizer
        self.keyframe: Keyframe | None = None
        self.previous: tuple[Frame, Any, Tracked] | None = None
        self._T_kf_cam = Sim3.identity()
        self._velocity: np.ndarray | None = None
        self._last_ns: int | None = None
        self._interval_s = 0.0
        self._most_trusted = 0
        self._looked_ns: int | None = None

    def enter(self, keyframe: Keyframe) -> None:
        """Tracks against this keyframe from now on, starting at its pose."""
        left = self.keyframe
        if left is not None and left is not keyframe and left.id in self._map.keyframes:
            self._places.update(left)
            if left.id not in list(self._map.keyframes)[-self._tracker.config.window_size :]:
                retire(left)  # those of the window are packed when they leave it
        if not self._frozen:
            revive(keyframe)
        if left is not None and self._velocity is not None:
            self._velocity[:3] *= float(left.T_world_cam.scale / keyframe.T_world_cam.scale)
        self.keyframe, self.previous = keyframe, None
        self._T_kf_cam, self._most_trusted = Sim3.identity(), 0

    def forget_motion(self) -> None:
        """Marks the camera as lost."""
        self.previous, self._T_kf_cam, self._most_trusted = None, Sim3.identity(), 0
        self._velocity, self._last_ns, self._interval_s = None, None, 0.0
        self._looked_ns = None

    def time_to_look(self, frame: Frame) -> bool:
        """Whether a lost camera is to be looked for in this frame: not in every one, to limit the load."""
        period_ns = self._tracker.config.relocalization_period * 1e9
        if self._looked_ns is not None and 0 <= frame.stamp_ns - self._looked_ns < period_ns:
            return False
        self._looked_ns = frame.stamp_ns
        return True

    def accept(self, frame: Frame, features: Any, tracked: Tracked) -> None:
        """Sets the start for the next frame."""
        self._most_trusted = max(self._most_trusted, tracked.agreeing)
        seconds = self._seconds_since(frame)
        if 0.0 < seconds < MAX_STEP_S:
            self._velocity = (self._T_kf_cam.se3().inverse() @ tracked.result.T_kf_cam.se3()).log() / seconds
        self._T_kf_cam, self._last_ns, self._interval_s = tracked.result.T_kf_cam, frame.stamp_ns, seconds
        self.previous = frame, features, tracked

    def follow(self, frame: Frame, features: Any) -> Tracked | None:
        """Tracks against the current keyframe; None with too little overlap or an impossible motion."""
        assert self.keyframe is not None
        seed = self.previous[2].matches if self.previous is not None and not self._after_gap(frame) else None
        ahead = self._T_kf_cam @ self._step(frame).sim3(1.0)
        tracked = self._tracker.track(features, self.keyframe, self._store.of(self.keyframe), self._T_kf_cam, seed, ahead)
        if tracked is None or tracked.agreeing < self._tracker.config.lost_match_fraction * self._most_trusted:
            return None
        return tracked if self.previous is None or self._plausible(tracked) else None

    def _seconds_since(self, frame: Frame) -> float:
        """Between the last accepted frame and this one; 0 without one."""
        return 0.0 if self._last_ns is None else (frame.stamp_ns - self._last_ns) * 1e-9

    def _after_gap(self, frame: Frame) -> bool:
        """Whether images are missing before this one.

        The matches of the last frame would then lead optical flow astray, and the few wrong tracks may still agree on a pose.
        """
        return self._interval_s > 0.0 and self._seconds_since(frame) > max(GAP_S, GAP_INTERVALS * self._interval_s)

    def _step(self, frame: Frame) -> SE3:
        """Predicted motion since the last frame, with constant velocity."""
        seconds = self._seconds_since(frame)
        if self._velocity is None or not 0.0 < seconds < MAX_STEP_S:
            return SE3.identity()
        return SE3.exp(self._velocity * seconds)

    def _plausible(self, tracked: Tracked) -> bool:
        """Whether the motion since the last frame is plausible; any motion is if nearly all matches agree closely."""
        motion = self._T_kf_cam.se3().inverse() @ tracked.result.T_kf_cam.se3()
        turn = np.degrees(np.linalg.norm(motion.log()[3:]))
        move = np.linalg.norm(motion.translation)
        far = turn > MAX_TURN_DEG or move > MAX_MOVE_DEPTHS * tracked.median_distance
        close = tracked.result.close > SURE_CLOSE_SHARE * tracked.result.known
        return not far or (close and tracked.inlier_share > SURE_INLIER_SHARE)

    def view_has_changed(self, tracked: Tracked) -> bool:
        """Whether the keyframe has too little overlap with the frame, compared with its maximum."""
        expected = max(self._most_trusted, EXPECTED_SHARE * tracked.matches.possible)
        return tracked.agreeing < self._tracker.config.keyframe_match_fraction * expected

    def switch(self, features: Any, tracked: Tracked) -> Tracked | None:
        """The frame against a keyframe nearby in the graph that sees it better, which is then the current one; None without such.

        Where the two contradict each other, far more matches are right: repeated things may agree on a wrong pose, but seldom
        many. What is near in space but not in the graph has to be found as a loop, of a new keyframe, which ties the two.
        """
        assert self.keyframe is not None
        T_world_cam = self.keyframe.T_world_cam @ tracked.result.T_kf_cam
        camera = PosedCamera.of(features, T_world_cam)
        seen = self._places.covisible(camera, self._places.near(self.keyframe.id), at_least=SWITCH_OVERLAP)
        own = next((found.overlap for found in seen if found.keyframe is self.keyframe), 0.0)
        best = next((found for found in seen if found.keyframe is not self.keyframe), None)
        if best is None or best.overlap < SIMILAR_OVERLAP * own:
            return None
        other = best.keyframe
        T_other_cam = other.T_world_cam.inverse() @ T_world_cam
        expected = self._places.matches(camera, other)
        found = self._tracker.track(features, other, self._store.of(other), T_other_cam, expected)
        if found is None or not self._tracker.is_solid(found) or found.trusted < SWITCH_GAIN * tracked.trusted:
            return None
        # Seen from the other keyframe, the camera (and the current keyframe with it) is a little elsewhere in the world.
        moved = (other.T_world_cam @ found.result.T_kf_cam).se3() @ T_world_cam.se3().inverse()
        T_other_keyframe = other.T_world_cam.inverse() @ moved @ self.keyframe.T_world_cam
        agree = check_cycle(self._map, self.keyframe, other, T_other_keyframe).passed
        if self.view_has_changed(found) if agree else found.trusted < CONTRADICTION_GAIN * tracked.trusted:
            return None
        self.enter(other)
        return found

    def find(self, features: Any, guess: SE3 | None) -> tuple[Tracked | None, str]:
        """The frame anywhere in the map, and a sentence about it; the keyframe that shows it best is then the current one.

        A camera that was covered is most often where it was: the keyframe that it was lost from is tried first. guess: about
        where the camera is in the world, which then is looked at first.
        """
        if self.keyframe is not None and guess is None:
            tracked = self._tracker.track(features, self.keyframe, self._store.of(self.keyframe), Sim3.identity())
            if (
                tracked is not None
                and self._tracker.is_solid(tracked)
                and tracked.trusted >= FOUND_INLIERS * self._tracker.config.min_inliers
            ):
                keyframe = self.keyframe
                self.enter(keyframe)
                return tracked, f"Relocalized: keyframe {keyframe.id} is seen again."
        assert self._relocalizer is not None
        place = self._relocalizer.find(features, guess)
        if place.T_ref_cam is None or place.prediction is None or place.keyframe_id is None:
            return None, place.reason
        keyframe = self._map.keyframes[place.keyframe_id]
        T_kf_cam = keyframe.T_world_cam.inverse() @ place.T_ref_cam.sim3(float(keyframe.T_world_cam.scale))
        tracked = self._tracker.solve(place.prediction, features.K, keyframe, T_kf_cam, K_known=features.K_known)
        if tracked is None or not self._tracker.is_solid(tracked):
            return None, f"{place.reason} But tracking from there finds too few matches."
        self.enter(keyframe)
        return tracked, f"Relocalized: {place.reason}"
