# SPDX-License-Identifier: Apache-2.0
"""Poses that were solved for while the map went on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap


def poses_now(
    keyframe_map: KeyframeMap, then: Mapping[int, Sim3], solved: Mapping[int, Sim3], held: Collection[int]
) -> dict[int, Sim3]:
    """T_world_cam by keyframe id, for `solved` poses in the world as it is now, and for keyframes made since.

    then: poses when the problem was stated, newest last. held: ids of those that it left where they were; the first that is still
    in the map tells where the world is now. Keyframes that were removed since are left out; newer ones move with the newest one
    solved for. Empty when nothing is left to tell by.
    """
    keyframes = keyframe_map.keyframes
    told = next((k for k in held if k in keyframes), None)
    alive = [k for k in then if k in solved and k in keyframes]
    if told is None or not alive:
        return {}
    T_now_then = keyframes[told].T_world_cam @ then[told].inverse()
    poses = {k: T_now_then @ solved[k] for k in alive}
    T_new_old = poses[alive[-1]] @ keyframes[alive[-1]].T_world_cam.inverse()
    newest = max(then)
    return poses | {k: T_new_old @ keyframe.T_world_cam for k, keyframe in keyframes.items() if k > newest}
