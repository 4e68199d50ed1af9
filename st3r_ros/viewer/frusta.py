# SPDX-License-Identifier: Apache-2.0
"""The keyframes of a map as frusta with their pictures; only what has changed is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.viewer.pictures import ASSUMED_FOV, Thumbnail

if TYPE_CHECKING:
    import viser

ASSUMED_ASPECT = 4.0 / 3.0
_COLOR = (120, 120, 130)


@dataclass(frozen=True, eq=False)
class KeyframeView:
    """A keyframe to show: its camera (optical axes) in the map, and its picture, if any."""

    id: int
    stamp_ns: int
    T_map_cam: SE3
    picture: Thumbnail | None = None


@dataclass(eq=False)
class _Shown:
    keyframe: KeyframeView
    handle: Any


class KeyframeFrusta:
    """The frusta below one node of the scene."""

    def __init__(self, scene: viser.SceneApi, name: str) -> None:
        self._scene, self._name = scene, name
        self._scale = 0.1
        self._shown: dict[tuple[int, int], _Shown] = {}

    def __len__(self) -> int:
        return len(self._shown)

    @property
    def pictures(self) -> int:
        """Number of frusta with a picture."""
        return sum(shown.keyframe.picture is not None for shown in self._shown.values())

    def show(self, keyframes: Iterable[KeyframeView]) -> None:
        """Shows exactly these keyframes."""
        wanted = {(keyframe.id, keyframe.stamp_ns): keyframe for keyframe in keyframes}
        for key in self._shown.keys() - wanted.keys():
            self._shown.pop(key).handle.remove()
        for key, keyframe in wanted.items():
            shown = self._shown.get(key)
            if shown is None or shown.keyframe.picture is not keyframe.picture:
                self._shown[key] = _Shown(keyframe, self._add(keyframe))
            elif not _same_pose(shown.keyframe.T_map_cam, keyframe.T_map_cam):
                place(shown.handle, keyframe.T_map_cam)
                shown.keyframe = keyframe

    def resize(self, scale: float) -> None:
        """Set the depth of the frusta, map units."""
        self._scale = scale
        for shown in self._shown.values():
            shown.handle.scale = scale

    def _add(self, keyframe: KeyframeView) -> Any:
        """A new frustum; it takes the place of one of the same name."""
        picture = keyframe.picture
        handle = self._scene.add_camera_frustum(
            f"{self._name}/{keyframe.id}_{keyframe.stamp_ns}",
            fov=picture.fov if picture else ASSUMED_FOV,
            aspect=picture.aspect if picture else ASSUMED_ASPECT,
            scale=self._scale,
            thickness=1.0,
            thickness_units="screen",
            color=_COLOR,
            image=picture.image if picture else None,
            cast_shadow=False,
            receive_shadow=False,
        )
        place(handle, keyframe.T_map_cam)
        return handle


def place(handle: Any, T: SE3) -> None:
    """Move a node of the scene."""
    handle.wxyz, handle.position = wxyz(T), T.translation


def wxyz(T: SE3) -> np.ndarray:
    """The rotation in the format of viser."""
    return np.roll(T.quaternion_xyzw, 1, axis=-1)


def _same_pose(a: SE3, b: SE3) -> bool:
    return np.array_equal(a.translation, b.translation) and np.array_equal(a.rotation, b.rotation)
