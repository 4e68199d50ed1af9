# SPDX-License-Identifier: Apache-2.0
"""Batched ray casting: the visible surface of every pixel, its texture coordinates and depth.

A ray is camera centre + z * R d with d = K^-1 (x, y, 1), so z is the depth along the optical axis. For a rectangle, the inverse
depth w = 1/z and the products u*w and v*w with its texture coordinates are linear in the pixel: a rectangle is three planes over
its window of the image, computed without division or square root. Cylinders and spheres solve their quadratic in their window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import ray_matrix, to_pixels
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.scene import Cylinder, Scene, Sphere

# Windows of the image that objects can cover --------------------------------------------------------------------------

NEAR = 0.02  # near plane, metres

_BAND = 1 << 15  # pixels processed at a time, to fit into the processor cache


@dataclass(frozen=True)
class Window:
    """A part of an image, first and past the last pixel."""

    x0: int
    y0: int
    x1: int
    y1: int

    @staticmethod
    def whole(camera: Camera) -> Window:
        """All pixels of its images."""
        return Window(0, 0, camera.width, camera.height)

    @property
    def empty(self) -> bool:
        """Whether no pixel is left."""
        return self.x0 >= self.x1 or self.y0 >= self.y1

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window as indices of an image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def __and__(self, other: Window) -> Window:
        """Intersection of two windows."""
        low, high = (max(self.x0, other.x0), max(self.y0, other.y0)), (min(self.x1, other.x1), min(self.y1, other.y1))
        return Window(*low, *high)

    def bands(self) -> Iterator[Window]:
        """The window in parts of a few rows."""
        if self.empty:
            return
        rows = max(1, _BAND // max(1, self.x1 - self.x0))
        for y in range(self.y0, self.y1, rows):
            yield Window(self.x0, y, self.x1, min(y + rows, self.y1))

    def linear(self, form: np.ndarray) -> np.ndarray:
        """form . (x, y, 1) at each pixel, in the type of the form."""
        x, y = np.arange(self.x0, self.x1, dtype=form.dtype), np.arange(self.y0, self.y1, dtype=form.dtype)
        return form[0] * x + (form[1] * y + form[2])[:, None]


def polygon_windows(camera: Camera, corners: np.ndarray) -> list[Window]:
    """The windows of flat polygons with corners (N, P, 3) in the camera, clipped at the near plane."""
    following = np.roll(corners, -1, axis=1)
    z0, z1 = corners[..., 2:], following[..., 2:]
    crosses = (z0 > NEAR) != (z1 > NEAR)
    at = np.where(crosses, (NEAR - z0) / np.where(crosses, z1 - z0, 1.0), 0.0)
    outline = np.concatenate([corners, corners + at * (following - corners)], axis=1)
    valid = np.concatenate([z0 > NEAR, crosses], axis=1)[..., 0]
    return point_windows(camera, outline, valid)


def point_windows(camera: Camera, points: np.ndarray, valid: np.ndarray) -> list[Window]:
    """The windows of the valid (N, P) among N sets of points (N, P, 3) in the camera."""
    z = np.where(valid, points[..., 2], 1.0)[..., None]
    pixels = to_pixels(points[..., :2] / z, camera.K)
    low = np.where(valid[..., None], pixels, np.inf).min(1)
    high = np.where(valid[..., None], pixels, -np.inf).max(1)
    size = np.array([camera.width, camera.height])
    low, high = np.clip(np.ceil(low - 0.01), 0, size), np.clip(np.floor(high + 1.01), 0, size)
    return [Window(*bounds) for bounds in np.hstack([low, high]).astype(int).tolist()]


# Rays -----------------------------------------------------------------------------------------------------------------

_SHADOW = 1.002  # a surface casts shadows on points this much further from the lamp


@dataclass(frozen=True, eq=False)
class Hits:
    """What each pixel sees. All (H, W).

    surface: int32, index of the surface in the world; -1 = nothing. inverse_depth: float32, 1/metres. u, v: float32, texture
    coordinates from 0 to 1.
    distance: (surfaces,) float64, distance of the camera from each surface, along the normal of flat ones.
    """

    surface: np.ndarray
    inverse_depth: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray

    @staticmethod
    def none(camera: Camera, surfaces: int) -> Hits:
        """Empty hits for a number of surfaces."""
        shape = (camera.height, camera.width)
        inverse_depth, u, v = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        return Hits(np.full(shape, -1, dtype=np.int32), inverse_depth, u, v, np.ones(surfaces))


class RayCaster:
    """Casts rays against one scene."""

    def __init__(self, scene: Scene) -> None:
        self._solids = scene.solids
        self._around = np.array([_corners(solid) for solid in self._solids]).reshape(-1, 8, 3)
        self._origin = np.array([r.origin for r in scene.rectangles]).reshape(-1, 3)
        self._edges = np.array([(r.edge_u, r.edge_v) for r in scene.rectangles]).reshape(-1, 2, 3)
        self._disc = np.array([r.disc for r in scene.rectangles], dtype=bool)
        normal = np.cross(self._edges[:, 1], self._edges[:, 0])
        self._normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def __len__(self) -> int:
        return len(self._origin) + len(self._solids)

    def cast(self, hits: Hits, camera: Camera, T_scene_cam: SE3, window: Window, first: int = 0) -> None:
        """Adds what the pixels in a window of an ideal camera see of this scene, where it is nearer than the known hits.

        The coordinates u, v stay multiplied by the inverse depth. first: the number of the scene's first surface.
        """
        forms, distance = self._planes(T_scene_cam.translation)
        away = [np.linalg.norm(solid.center - T_scene_cam.translation) for solid in self._solids]
        hits.distance[first : first + len(self)] = np.concatenate([distance, away])
        to_scene = T_scene_cam.rotation @ ray_matrix(camera.K)
        pixel_forms = (forms @ to_scene).astype(np.float32)
        for index, part in self._windows(camera, T_scene_cam, distance):
            for band in (part & window).bands():
                _cast_rectangle(hits, band, first + index, pixel_forms[index], disc=bool(self._disc[index]))
        for index, part in enumerate(self._solid_windows(camera, T_scene_cam)):
            for band in (part & window).bands():
                rays = np.stack([band.linear(row) for row in to_scene.astype(np.float32)])
                number, solid = first + len(forms) + index, self._solids[index]
                _cast_solid(hits, band, number, solid, center=T_scene_cam.translation, rays=rays)

    def inverse_depth_forms(self, camera: Camera, T_scene_cam: SE3) -> np.ndarray:
        """The linear forms (surfaces, 3) float64 of the inverse depth over the pixels (x, y, 1); zero for curved surfaces."""
        forms, _ = self._planes(T_scene_cam.translation)
        to_scene = T_scene_cam.rotation @ ray_matrix(camera.K)
        return np.vstack([forms[:, 0] @ to_scene, np.zeros((len(self._solids), 3))])

    def curve(self, inverse_depth: np.ndarray, hits: Hits, camera: Camera, T_scene_cam: SE3, first: int = 0) -> None:
        """Sets the inverse depth (H, W) float64 of the pixels that see a curved surface of this scene."""
        to_scene = T_scene_cam.rotation @ ray_matrix(camera.K)
        number = hits.surface - (first + len(self._origin))
        rows, columns = np.nonzero((number >= 0) & (number < len(self._solids)))
        number = number[rows, columns]
        for index in np.unique(number).tolist():
            y, x = rows[number == index], columns[number == index]
            rays = to_scene @ np.stack([x, y, np.ones_like(x)])
            inverse_depth[y, x] = _enter(self._solids[index], T_scene_cam.translation, rays)[0]

    def occluded(self, lamp: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Whether the points (N, 3) are in the shadow of a lamp (3,); (N,) bool."""
        rays = np.ascontiguousarray((points - lamp).T, dtype=np.float32)
        hidden = np.zeros(len(points), dtype=bool)
        forms, distance = self._planes(lamp)
        for index in np.flatnonzero(distance > 0).tolist():  # the sides that face the lamp cast all shadows
            w, uw, vw = forms[index].astype(np.float32) @ rays
            hidden |= _inside(w, uw, vw, self._disc[index]) & (w > _SHADOW)
        for solid in self._solids:
            w, hit = _enter(solid, lamp, rays)
            hidden |= hit & (w > _SHADOW)
        return hidden

    def _planes(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The linear forms of the rectangles seen from `center` (3,), and its distances (F,) in front of them.

        Forms (F, 3, 3) float64, rows f_w, f_u, f_v: w = f_w . r, u*w = f_u . r, v*w = f_v . r for a ray direction r in the world,
        w the inverse of the ray parameter and u, v between 0 and 1 on the rectangle.
        """
        offset = center - self._origin
        distance = (offset * self._normal).sum(1)
        f_w = -self._normal / np.where(np.abs(distance) < 1e-9, 1e-9, distance)[:, None]
        along = self._edges / (self._edges**2).sum(2, keepdims=True)
        start = (along * offset[:, None]).sum(2, keepdims=True)
        return np.concatenate([f_w[:, None], along + start * f_w[:, None]], axis=1), distance

    def _windows(self, camera: Camera, T_scene_cam: SE3, distance: np.ndarray) -> list[tuple[int, Window]]:
        """The rectangles that face the camera and intersect the image, each with its window."""
        facing = np.flatnonzero(distance > 1e-4)
        u, v = self._edges[facing, 0], self._edges[facing, 1]
        corners = self._origin[facing][:, None] + np.stack([np.zeros_like(u), u, u + v, v], axis=1)
        windows = polygon_windows(camera, T_scene_cam.inverse() @ corners)
        return [(index, window) for index, window in zip(facing.tolist(), windows, strict=True) if not window.empty]

    def _solid_windows(self, camera: Camera, T_scene_cam: SE3) -> list[Window]:
        """The windows of all curved surfaces."""
        corners = T_scene_cam.inverse() @ self._around
        near, far = corners[..., 2].min(1) <= NEAR, corners[..., 2].max(1) > NEAR
        windows = point_windows(camera, corners, np.broadcast_to(far[:, None], corners.shape[:2]))
        return [Window.whole(camera) if whole else window for whole, window in zip(near & far, windows, strict=True)]


def _corners(solid: Cylinder | Sphere) -> np.ndarray:
    """Of the box around a curved surface, (8, 3)."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    upwards = solid.radius if isinstance(solid, Sphere) else 0.5 * solid.height
    return solid.center + signs * (solid.radius, solid.radius, upwards)


def _inside(w: np.ndarray, uw: np.ndarray, vw: np.ndarray, disc: bool) -> np.ndarray:
    if disc:
        half = 0.5 * w
        return (uw - half) ** 2 + (vw - half) ** 2 <= half * half
    return (uw >= 0) & (vw >= 0) & (uw <= w) & (vw <= w)


def _cast_rectangle(hits: Hits, window: Window, index: int, forms: np.ndarray, *, disc: bool) -> None:
    w = window.linear(forms[0])
    nearest = hits.inverse_depth[window.slices]
    seen = w > nearest
    if not seen.any():  # hidden by earlier hits
        return
    uw, vw = window.linear(forms[1]), window.linear(forms[2])
    seen &= _inside(w, uw, vw, disc)
    np.copyto(nearest, w, where=seen)
    np.copyto(hits.u[window.slices], uw, where=seen)
    np.copyto(hits.v[window.slices], vw, where=seen)
    np.copyto(hits.surface[window.slices], index, where=seen)


def _cast_solid(
    hits: Hits, window: Window, index: int, solid: Cylinder | Sphere, *, center: np.ndarray, rays: np.ndarray
) -> None:
    w, hit = _enter(solid, center, rays)
    nearest = hits.inverse_depth[window.slices]
    seen = hit & (w > nearest)
    w = w[seen]
    normal = (center - solid.center)[:, None] + rays[:, seen] / w
    if isinstance(solid, Cylinder):
        v = 0.5 - normal[2] / solid.height
    else:
        v = np.arccos(np.clip(normal[2] / solid.radius, -1.0, 1.0)) / np.pi
    nearest[seen] = w
    hits.u[window.slices][seen] = (np.arctan2(normal[1], normal[0]) / (2 * np.pi) + 0.5) * w
    hits.v[window.slices][seen] = v * w
    hits.surface[window.slices][seen] = index


def _enter(solid: Cylinder | Sphere, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 / the ray parameter at which rays origin + z r, r (3, ...), enter a solid, and whether they do; else the nearest miss."""
    axes = 2 if isinstance(solid, Cylinder) else 3
    offset = [float(value) for value in origin - solid.center]
    a, b = rays[0] * rays[0], rays[0] * offset[0]
    for i in range(1, axes):
        a += rays[i] * rays[i]
        b += rays[i] * offset[i]
    c = sum(value**2 for value in offset[:axes]) - solid.radius**2
    root2 = b * b - a * c
    w = (np.sqrt(np.maximum(root2, 0.0)) - b) / c  # of the nearer intersection; c > 0 as the origin lies outside
    hit = (root2 > 0.0) & (w > 0.0)
    if isinstance(solid, Cylinder):
        hit &= np.abs(offset[2] + rays[2] / np.where(hit, w, 1.0)) <= 0.5 * solid.height
    return w, hit
