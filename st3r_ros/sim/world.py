# SPDX-License-Identifier: Apache-2.0
"""A world of many rooms: zones connected by openings, and a path through their free space.

Only visible zones are rendered, so that rendering costs only what is seen, not the whole house. Zones may share a scene; they
are then identical.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.paths import CameraPath
from st3r_ros.sim.raycast import Hits, RayCaster, Window, polygon_windows
from st3r_ros.sim.scene import Place, Scene

# Zones and their openings ---------------------------------------------------------------------------------------------

_RIM = 0.01  # metres around an opening where its two zones may overlap
_CLOSE = 0.1  # metres; a closer opening may cover any part of the image


@dataclass(frozen=True)
class Opening:
    """An upright opening in the border of a zone, from the floor up.

    place: the middle of its foot, local y to the outside; in the coordinates of the zone. width, height: metres.
    leads_to: the number of the zone behind it.
    """

    place: Place
    width: float
    height: float
    leads_to: int

    @property
    def corners(self) -> np.ndarray:
        """(4, 3) metres, in the coordinates of the zone, in order around the opening and a little outside of it."""
        half, low, high = 0.5 * self.width + _RIM, -_RIM, self.height + _RIM
        return np.array([self.place.to_world(c) for c in ((-half, 0, low), (half, 0, low), (half, 0, high), (-half, 0, high))])


@dataclass(frozen=True, eq=False)
class Zone:
    """A scene with a place in the world. From outside it is visible only through its openings.

    place: of the scene's coordinates in the world. ground: the corners (x0, y0, x1, y1) of its floor area in scene
    coordinates; None for the whole world.
    """

    scene: Scene
    place: Place = field(default_factory=Place)
    ground: tuple[float, float, float, float] | None = None
    openings: tuple[Opening, ...] = ()

    @property
    def T_world_zone(self) -> SE3:
        """From the coordinates of the scene to those of the world."""
        c, s = np.cos(self.place.yaw), np.sin(self.place.yaw)
        return SE3(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), np.array([self.place.x, self.place.y, 0.0]))

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 3) of the world lie above its ground; (...) bool."""
        if self.ground is None:
            return np.ones(points.shape[:-1], dtype=bool)
        x0, y0, x1, y1 = self.ground
        x, y, _ = np.moveaxis(self.T_world_zone.inverse() @ points, -1, 0)
        return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)


@dataclass(frozen=True)
class _View:
    """A visible zone. window: its part of the image. first: number of its first surface in the world."""

    zone: int
    window: Window
    first: int
    T_zone_cam: SE3


class ZoneCaster:
    """Casts rays in a world of zones. Its surfaces are the concatenated surfaces of the zones."""

    def __init__(self, zones: tuple[Zone, ...]) -> None:
        self.zones = zones
        casters = {id(zone.scene): RayCaster(zone.scene) for zone in zones}
        self._casters = [casters[id(zone.scene)] for zone in zones]
        self._first = np.cumsum([0, *(len(caster) for caster in self._casters)]).tolist()
        self._T_zone_world = [zone.T_world_zone.inverse() for zone in zones]
        self._corners = [[opening.corners for opening in zone.openings] for zone in zones]

    def cast(self, camera: Camera, T_world_cam: SE3) -> Hits:
        """What each pixel of an image of an ideal camera sees."""
        hits = Hits.none(camera, self._first[-1])
        for view in self._views(camera, T_world_cam):
            self._casters[view.zone].cast(hits, camera, view.T_zone_cam, view.window, view.first)
        for coordinate in (hits.u, hits.v):
            np.divide(coordinate, hits.inverse_depth, out=coordinate, where=hits.inverse_depth > 0)
        return hits

    def depth(self, hits: Hits, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """The depth along the optical axis of what `cast` found, (H, W) float32 metres, 0 for nothing, computed in float64."""
        forms = np.zeros((self._first[-1] + 1, 3))  # the last entry stands for nothing
        views = {view.zone: view for view in self._views(camera, T_world_cam)}.values()
        for view in views:
            caster = self._casters[view.zone]
            forms[view.first : view.first + len(caster)] = caster.inverse_depth_forms(camera, view.T_zone_cam)
        a, b, c = (np.take(column, hits.surface, mode="wrap") for column in forms.T)
        w = a * np.arange(camera.width) + b * np.arange(camera.height)[:, None] + c
        for view in views:
            self._casters[view.zone].curve(w, hits, camera, view.T_zone_cam, view.first)
        return np.divide(1.0, w, out=np.zeros_like(w), where=w > 0).astype(np.float32)

    def in_sight(self, camera: Camera, T_world_cam: SE3) -> set[int]:
        """Numbers of the zones that may be visible: never too few, sometimes one that is hidden behind furniture."""
        return {view.zone for view in self._views(camera, T_world_cam)}

    def _views(self, camera: Camera, T_world_cam: SE3) -> list[_View]:
        """The zone of the camera and those visible through openings; all zones for a camera outside of them."""
        whole = Window.whole(camera)
        here = [i for i, zone in enumerate(self.zones) if zone.contains(T_world_cam.translation)][:1]
        pending: list[tuple[tuple[int, ...], Window]] = [((i,), whole) for i in here or range(len(self.zones))]
        views = []
        while pending:
            passed, window = pending.pop()
            number = passed[-1]
            T_zone_cam = self._T_zone_world[number] @ T_world_cam
            views.append(_View(number, window, self._first[number], T_zone_cam))
            for opening, corners in zip(self.zones[number].openings, self._corners[number], strict=True):
                seen = _seen_through(opening, corners, camera, T_zone_cam) & window
                if here and opening.leads_to not in passed and not seen.empty:
                    pending.append(((*passed, opening.leads_to), seen))
        return views


def _seen_through(opening: Opening, corners: np.ndarray, camera: Camera, T_zone_cam: SE3) -> Window:
    x, y, _ = opening.place.to_local(T_zone_cam.translation)
    if abs(y) < _CLOSE and abs(x) < 0.5 * opening.width + _CLOSE:
        return Window.whole(camera)
    if y > 0:  # the camera is outside: lines of sight only enter here
        return Window(0, 0, 0, 0)
    return polygon_windows(camera, (T_zone_cam.inverse() @ corners)[None])[0]


# The world and the path -----------------------------------------------------------------------------------------------

_REACH = 0.7  # metres around the path within which the world looks complete


@dataclass(frozen=True, eq=False)
class Twins:
    """Two identical rooms with their lobbies, each of several zones.

    T_a_b: from world coordinates in room b to those of the corresponding point in room a. a, b: their zones.
    """

    T_a_b: SE3
    a: Mapping[int, Zone]
    b: Mapping[int, Zone]

    def in_a(self, points: np.ndarray) -> np.ndarray:
        """Which world points (..., 3) belong to room a, including its walls; (...) bool."""
        return np.any([zone.contains(points) for zone in self.a.values()], axis=0)

    def in_b(self, points: np.ndarray) -> np.ndarray:
        """Which belong to room b."""
        return np.any([zone.contains(points) for zone in self.b.values()], axis=0)


@dataclass(frozen=True, eq=False)
class World:
    """Zones, and a path through their free space.

    grain: factor by which textures are coarser than usual, to limit memory. twins: the twin rooms, if any.
    """

    zones: tuple[Zone, ...]
    path: CameraPath
    grain: float = 1.0
    twins: Twins | None = None


def drop_unseen(scene: Scene, path: np.ndarray, openings: np.ndarray | None = None) -> None:
    """Removes what is not visible from around a path (M, 2) or through openings with corners (N, 3), in the scene's axes."""
    shifts = _REACH * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    spots = (path[:, None] + shifts).reshape(-1, 2)
    viewpoints = np.array([(x, y, z) for x, y in spots for z in (0.3, 2.3)])
    scene.drop_unseen(viewpoints if openings is None else np.vstack([viewpoints, openings]))
