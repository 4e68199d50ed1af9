# SPDX-License-Identifier: Apache-2.0
"""A map on the page: cloud, path, keyframes, edges, the camera, and the display controls."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from st3r_ros.geometry.transforms import SE3
from st3r_ros.viewer.cloud import LayeredCloud
from st3r_ros.viewer.facts import facts_html
from st3r_ros.viewer.frusta import ASSUMED_ASPECT, KeyframeFrusta, KeyframeView, place, wxyz
from st3r_ros.viewer.pictures import ASSUMED_FOV
from st3r_ros.viewer.turning import Turning
from st3r_ros.viewer.viewpoint import Extent, Viewpoint, extent, overview

if TYPE_CHECKING:
    import viser

ROOT = "/map"
_PATH_COLOR, _CAMERA_COLOR = (235, 90, 20), (220, 30, 30)
_SEQUENTIAL_COLOR, _LOOP_COLOR = (150, 150, 155), (20, 140, 60)
_MAX_PATH_POINTS = 20_000
_POINTS_PER_SIZE = 0.9
_FRUSTUM_PER_SIZE = 0.02
_RESCALED, _MOVED = 1.25, 0.1
"""Change of size (factor) and shift (share of the size) of the map beyond which sizes and views follow."""
_VIEWS_KEPT = 20
_AGAIN_S = 1.0
"""Seconds after which the view is sent again to a browser that has not applied it."""
_FIRST_VIEW = Viewpoint(np.array([-3.0, -3.0, 3.0]), np.zeros(3))


class MapScene:
    """Shows a map and what changes in it. May be used from several threads; nothing is sent that is not new.

    T_up_map: turns the map so that z points up; sizes and views follow the cloud. cloud: the points that the browsers have.
    """

    def __init__(self, server: viser.ViserServer, max_points: int, T_up_map: SE3 | None = None) -> None:
        self._server, self._scene = server, server.scene
        self._T_up_map = T_up_map or SE3.identity()
        self._lock = threading.RLock()
        self._points, self._colors = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
        self._path_positions = np.zeros((0, 3))
        self._cameras: SE3 | None = None
        self._camera: Any = None
        self._extent: Extent | None = None
        self._views = [_FIRST_VIEW]
        self._shown_at = 0.0
        self._max_points = max_points
        self.cloud = LayeredCloud(server, f"{ROOT}/cloud")
        self._turning = Turning()
        self._scene.add_frame(ROOT, show_axes=False, wxyz=wxyz(self._T_up_map))
        self._layers = {
            name: self._scene.add_frame(f"{ROOT}/{name}", show_axes=False)
            for name in ("cloud", "path", "keyframes", "edges", "camera")
        }
        self._frusta = KeyframeFrusta(self._scene, f"{ROOT}/keyframes")
        self._show_first_view(_FIRST_VIEW)
        self._add_controls(max_points)
        server.on_client_connect(self._watch)

    @property
    def clients(self) -> int:
        """Number of open browsers."""
        return len(self._server.get_clients())

    @property
    def points(self) -> int:
        """Number of points of the map."""
        return len(self._points)

    # What is shown ----------------------------------------------------------------------------------------------------

    def show_cloud(self, points: np.ndarray, colors: np.ndarray) -> None:
        """points (N, 3) float32, all finite, in the map; colors (N, 3) uint8 RGB."""
        with self._lock:
            self._points, self._colors = points, colors
            self._follow(extent(points))
            self._draw_cloud()

    def show_path(self, positions: np.ndarray) -> None:
        """The path of the camera or of the robot, positions (N, 3) in their order."""
        with self._lock:
            if len(positions) > _MAX_PATH_POINTS:
                positions = positions[np.linspace(0, len(positions) - 1, _MAX_PATH_POINTS).astype(int)]
            if np.array_equal(positions, self._path_positions):
                return
            self._path_positions = positions
            self._draw_lines("path", np.stack([positions[:-1], positions[1:]], axis=1), np.array(_PATH_COLOR), 3.0)

    def show_keyframes(self, keyframes: Sequence[KeyframeView], edges: np.ndarray, is_loop: np.ndarray) -> None:
        """Keyframes, and edges (M, 2) between their ids; is_loop (M,) bool marks loop edges."""
        with self._lock:
            poses = [keyframe.T_map_cam for keyframe in keyframes]
            self._cameras = _batch(poses) if poses else None
            self._frusta.show(keyframes)
            place_of = {keyframe.id: keyframe.T_map_cam.translation for keyframe in keyframes}
            ends = np.array([[place_of[i], place_of[j]] for i, j in edges.tolist()]).reshape(-1, 2, 3)
            colors = np.where(is_loop[:, None, None], np.array(_LOOP_COLOR), np.array(_SEQUENTIAL_COLOR))
            self._draw_lines("edges", ends, np.broadcast_to(colors, (len(ends), 2, 3)), 1.0)

    def show_camera(self, T_map_cam: SE3 | None, fov: float = ASSUMED_FOV, aspect: float = ASSUMED_ASPECT) -> None:
        """The current pose of the camera, None when unknown."""
        with self._lock:
            if T_map_cam is None:
                self._remove_camera()
                return
            if self._camera is None:
                self._camera = self._scene.add_camera_frustum(
                    f"{ROOT}/camera/now", fov, aspect, scale=1.6 * self._frustum_scale, color=_CAMERA_COLOR, variant="filled",
                    thickness=2.5, thickness_units="screen", cast_shadow=False, receive_shadow=False,
                )  # fmt: skip
            self._camera.fov, self._camera.aspect = fov, aspect
            place(self._camera, T_map_cam)

    # How it is shown --------------------------------------------------------------------------------------------------

    def _add_controls(self, max_points: int) -> None:
        gui = self._server.gui
        with gui.add_folder("View", order=100):
            self._shown = gui.add_html("")
            thousands = max(1, max_points // 1000)
            self._max_thousands = gui.add_slider("Thousand points", min(10, thousands), max(3000, thousands), 1, thousands)
            self._adapts = gui.add_checkbox("Fewer where the browser is slow", True)
            self._point_size = gui.add_slider("Point size", 0.2, 5.0, 0.1, 1.0)
            self._frustum_size = gui.add_slider("Keyframe size", 0.2, 5.0, 0.1, 1.0)
            for layer, label in (("cloud", "Cloud"), ("path", "Path"), ("keyframes", "Keyframes"), ("edges", "Edges")):
                self._add_switch(gui.add_checkbox(label, True), layer)
            whole = gui.add_button("Show the whole map")
        self._max_thousands.on_update(lambda event: self._on_max_points())
        self._adapts.on_update(lambda event: self.settle())
        self._point_size.on_update(lambda event: self.settle())
        self._frustum_size.on_update(lambda event: self._on_frustum_size())
        whole.on_click(lambda event: self._look(event.client, self._views[-1]) if event.client else None)

    def _add_switch(self, switch: Any, layer: str) -> None:
        switch.on_update(lambda event: setattr(self._layers[layer], "visible", switch.value))

    def settle(self) -> None:
        """Adapts the number of drawn points; call it about ten times a second: browsers do not report the end of a turn."""
        with self._lock:
            self.cloud.draw(self._limit(), self._surface_size)
            self._tell_shown()
            if time.monotonic() - self._shown_at > _AGAIN_S:
                self._show_view()

    def _watch(self, client: Any) -> None:
        """Handles view changes of a browser and measures its speed."""
        client.camera.on_update(lambda camera: self._on_camera(client.client_id))

    def _on_camera(self, client: int) -> None:
        with self._lock:
            self._turning.moved(client, time.monotonic(), self.cloud.drawn)
            self.cloud.draw(self._limit(), self._surface_size)

    def _on_max_points(self) -> None:
        """Each step of the slider comes here, in a thread of its own; those that have been overtaken do nothing."""
        with self._lock:
            wanted = 1000 * int(self._max_thousands.value)
            if self._max_points != wanted:
                self._max_points = wanted
                self._draw_cloud()

    def _on_frustum_size(self) -> None:
        with self._lock:
            self._frusta.resize(self._frustum_scale)
            if self._camera is not None:
                self._camera.scale = 1.6 * self._frustum_scale

    @property
    def _surface_size(self) -> float:
        """What the size of a point is measured by."""
        return float(self._point_size.value * _POINTS_PER_SIZE * (self._extent.size if self._extent else 1.0))

    @property
    def _frustum_scale(self) -> float:
        return float(self._frustum_size.value * _FRUSTUM_PER_SIZE * (self._extent.size if self._extent else 4.0))

    # Drawing ----------------------------------------------------------------------------------------------------------

    def _draw_cloud(self) -> None:
        self.cloud.show(self._points, self._colors, self._max_points, self._limit(), self._surface_size)
        self._tell_shown()

    def _tell_shown(self) -> None:
        """Not while the view turns: the numbers would only flicker."""
        if not self._turning.is_on(time.monotonic()):
            self._shown.content = facts_html({}, f"{self.cloud.drawn:,} of {len(self._points):,} points are shown.")

    def _limit(self) -> int:
        """Number of points that may be drawn now."""
        return self._turning.limit(time.monotonic()) if self._adapts.value else self._max_points

    def _draw_lines(self, layer: str, ends: np.ndarray, colors: np.ndarray, thickness: float) -> None:
        """Line segments with ends (N, 2, 3)."""
        self._scene.add_line_segments(
            f"{ROOT}/{layer}/lines",
            ends.astype(np.float32),
            colors.astype(np.uint8),
            thickness=thickness,
            thickness_units="screen",
        )

    def _remove_camera(self) -> None:
        if self._camera is not None:
            self._camera.remove()
            self._camera = None

    # Views ------------------------------------------------------------------------------------------------------------

    def _follow(self, now: Extent | None) -> None:
        """Sizes follow a map that has grown, and so do the views of those who have not turned theirs."""
        before = self._extent
        if now is None or (before is not None and not _has_changed(before, now)):
            return
        self._extent = now
        self._on_frustum_size()
        center = self._T_up_map.act(now.center)
        cameras = self._T_up_map_cameras()
        self._show_first_view(overview(Extent(center, now.size), cameras))

    def _T_up_map_cameras(self) -> SE3 | None:
        if self._cameras is None:
            return None
        up = self._T_up_map
        return SE3(up.rotation @ self._cameras.rotation, up.act(self._cameras.translation))

    def _show_first_view(self, view: Viewpoint) -> None:
        """What a browser shows first, and what those show that have not been touched."""
        first = self._server.initial_camera
        first.position, first.look_at = view.position, view.look_at
        self._views = [*self._views[-_VIEWS_KEPT:], view]
        self._show_view()

    def _show_view(self) -> None:
        """The newest view, to the browsers that show an older one they were given: a page that is just opening may miss it."""
        self._shown_at = time.monotonic()
        for client in self._server.get_clients().values():
            shown = [np.allclose(client.camera.position, view.position, rtol=1e-3, atol=1e-6) for view in self._views]
            if any(shown) and not shown[-1]:
                self._look(client, self._views[-1])

    def _look(self, client: Any, view: Viewpoint) -> None:
        with client.atomic():
            client.camera.position = view.position
            client.camera.look_at = view.look_at


def _has_changed(before: Extent, now: Extent) -> bool:
    ratio = now.size / before.size
    moved = float(np.linalg.norm(now.center - before.center))
    return not 1 / _RESCALED < ratio < _RESCALED or moved > _MOVED * before.size


def _batch(poses: list[SE3]) -> SE3:
    return SE3(np.stack([T.rotation for T in poses]), np.stack([T.translation for T in poses]))
