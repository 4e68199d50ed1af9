# SPDX-License-Identifier: Apache-2.0
"""Batched ray casting: which surface every pixel sees, where on it, and how far away.

A ray is camera centre + z * R d with d = K^-1 (x, y, 1), so z is the depth along the optical axis. For a rectangle, the inverse
depth w = 1/z and the products u*w and v*w with its texture coordinates are linear in the pixel: a rectangle is three planes over
its window of the image, without division or square root. Cylinders and spheres solve their quadratic in their window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.se3 import SE3
from st3r_ros.sim.scene import Cylinder, Scene, Sphere

_NEAR = 0.02  # metres; nothing comes closer to the camera
_BAND = 1 << 15  # pixels worked on at a time: their numbers fit into the cache of the processor
_SHADOW = 1.002  # a surface throws shadows on what lies this much further from the lamp than itself


@dataclass(frozen=True, eq=False)
class Hits:
    """What each pixel sees. All (H, W).

    surface: int32, index into `Scene.surfaces`; -1 = nothing. inverse_depth: float32, 1/metres. u, v: float32, texture
    coordinates from 0 to 1.
    distance: (surfaces,) float64, how far the camera stands in front of each surface, along its normal where it is flat.
    """

    surface: np.ndarray
    inverse_depth: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class _Window:
    """The part of the image that a surface can cover, first and past the last pixel."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def empty(self) -> bool:
        return self.x0 >= self.x1 or self.y0 >= self.y1

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def bands(self) -> Iterator[_Window]:
        """The window in parts of a few rows."""
        rows = max(1, _BAND // max(1, self.x1 - self.x0))
        for y in range(self.y0, self.y1, rows):
            yield _Window(self.x0, y, self.x1, min(y + rows, self.y1))

    def linear(self, form: np.ndarray) -> np.ndarray:
        """form . (x, y, 1) at each pixel, in the type of the form."""
        x, y = np.arange(self.x0, self.x1, dtype=form.dtype), np.arange(self.y0, self.y1, dtype=form.dtype)
        return form[0] * x + (form[1] * y + form[2])[:, None]


class RayCaster:
    """Casts rays against one scene."""

    def __init__(self, scene: Scene) -> None:
        self._solids = scene.solids
        self._origin = np.array([r.origin for r in scene.rectangles]).reshape(-1, 3)
        self._edges = np.array([(r.edge_u, r.edge_v) for r in scene.rectangles]).reshape(-1, 2, 3)
        self._disc = np.array([r.disc for r in scene.rectangles], dtype=bool)
        normal = np.cross(self._edges[:, 1], self._edges[:, 0])
        self._normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)

    def cast(self, camera: Camera, T_world_cam: SE3) -> Hits:
        """What each pixel of an image of an ideal camera sees."""
        shape = (camera.height, camera.width)
        forms, distance = self._planes(T_world_cam.translation)
        away = [np.linalg.norm(solid.center - T_world_cam.translation) for solid in self._solids]
        hits = Hits(
            surface=np.full(shape, -1, dtype=np.int32),
            inverse_depth=np.zeros(shape, dtype=np.float32),
            u=np.zeros(shape, dtype=np.float32),
            v=np.zeros(shape, dtype=np.float32),
            distance=np.concatenate([distance, away]),
        )
        to_world = T_world_cam.rotation @ np.linalg.inv(camera.K)
        pixel_forms = (forms @ to_world).astype(np.float32)
        for index, window in self._windows(camera, T_world_cam, distance):
            for band in window.bands():
                _cast_rectangle(hits, band, index, pixel_forms[index], disc=bool(self._disc[index]))
        for index, solid in enumerate(self._solids, start=len(forms)):
            for band in _solid_window(camera, T_world_cam, solid).bands():
                rays = np.stack([band.linear(row) for row in to_world.astype(np.float32)])
                _cast_solid(hits, band, index, solid, center=T_world_cam.translation, rays=rays)
        for coordinate in (hits.u, hits.v):
            np.divide(coordinate, hits.inverse_depth, out=coordinate, where=hits.inverse_depth > 0)
        return hits

    def depth(self, hits: Hits, camera: Camera, T_world_cam: SE3) -> np.ndarray:
        """The depth along the optical axis of what `cast` found, (H, W) float32 metres, 0 for nothing, computed in float64."""
        forms, _ = self._planes(T_world_cam.translation)
        to_world = T_world_cam.rotation @ np.linalg.inv(camera.K)
        flat = np.vstack([forms[:, 0] @ to_world, np.zeros((len(self._solids) + 1, 3))])[hits.surface]
        w = flat[..., 0] * np.arange(camera.width) + flat[..., 1] * np.arange(camera.height)[:, None] + flat[..., 2]
        for index, solid in enumerate(self._solids, start=len(forms)):
            rows, columns = np.nonzero(hits.surface == index)
            pixels = np.stack([columns, rows, np.ones_like(rows)])
            w[rows, columns] = _enter(solid, T_world_cam.translation, to_world @ pixels)[0]
        return np.divide(1.0, w, out=np.zeros_like(w), where=w > 0).astype(np.float32)

    def occluded(self, lamp: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Whether something stands between a lamp (3,) and each of the points (N, 3); (N,) bool."""
        rays = np.ascontiguousarray((points - lamp).T, dtype=np.float32)
        hidden = np.zeros(len(points), dtype=bool)
        forms, distance = self._planes(lamp)
        for index in np.flatnonzero(distance > 0).tolist():  # the sides that face the lamp throw all the shadows
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

    def _windows(self, camera: Camera, T_world_cam: SE3, distance: np.ndarray) -> list[tuple[int, _Window]]:
        """The rectangles that face the camera and reach into the image, each with its window."""
        facing = np.flatnonzero(distance > 1e-4)
        u, v = self._edges[facing, 0], self._edges[facing, 1]
        corners = self._origin[facing][:, None] + np.stack([np.zeros_like(u), u, u + v, v], axis=1)
        corners = T_world_cam.inverse() @ corners
        following = np.roll(corners, -1, axis=1)
        z0, z1 = corners[..., 2:], following[..., 2:]
        crosses = (z0 > _NEAR) != (z1 > _NEAR)
        at = np.where(crosses, (_NEAR - z0) / np.where(crosses, z1 - z0, 1.0), 0.0)
        outline = np.concatenate([corners, corners + at * (following - corners)], axis=1)
        valid = np.concatenate([z0 > _NEAR, crosses], axis=1)[..., 0]
        bounds = _bounds(camera, outline, valid)
        windows = [_Window(*bound) for bound in bounds]
        return [(index, window) for index, window in zip(facing.tolist(), windows, strict=True) if not window.empty]


def _inside(w: np.ndarray, uw: np.ndarray, vw: np.ndarray, disc: bool) -> np.ndarray:
    if disc:
        half = 0.5 * w
        return (uw - half) ** 2 + (vw - half) ** 2 <= half * half
    return (uw >= 0) & (vw >= 0) & (uw <= w) & (vw <= w)


def _cast_rectangle(hits: Hits, window: _Window, index: int, forms: np.ndarray, *, disc: bool) -> None:
    w, uw, vw = (window.linear(form) for form in forms)
    nearest = hits.inverse_depth[window.slices]
    seen = w > nearest
    seen &= _inside(w, uw, vw, disc)
    np.copyto(nearest, w, where=seen)
    np.copyto(hits.u[window.slices], uw, where=seen)
    np.copyto(hits.v[window.slices], vw, where=seen)
    np.copyto(hits.surface[window.slices], index, where=seen)


def _cast_solid(
    hits: Hits, window: _Window, index: int, solid: Cylinder | Sphere, *, center: np.ndarray, rays: np.ndarray
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


def _solid_window(camera: Camera, T_world_cam: SE3, solid: Cylinder | Sphere) -> _Window:
    half = (solid.radius, solid.radius, solid.radius if isinstance(solid, Sphere) else 0.5 * solid.height)
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    outline = T_world_cam.inverse() @ (solid.center + signs * half)
    if outline[:, 2].max() <= _NEAR:
        return _Window(0, 0, 1, 0)
    if outline[:, 2].min() <= _NEAR:
        return _Window(0, 0, camera.width, camera.height)
    return _Window(*_bounds(camera, outline[None], np.ones((1, 8), dtype=bool))[0])


def _bounds(camera: Camera, outline: np.ndarray, valid: np.ndarray) -> list[list[int]]:
    """The windows x0 y0 x1 y1 of N outlines (N, P, 3) in the camera, of which the points valid (N, P) count."""
    z = np.where(valid, outline[..., 2], 1.0)[..., None]
    pixels = (outline / z) @ camera.K[:2].T
    low = np.where(valid[..., None], pixels, np.inf).min(1)
    high = np.where(valid[..., None], pixels, -np.inf).max(1)
    size = np.array([camera.width, camera.height])
    low, high = np.clip(np.ceil(low - 0.01), 0, size), np.clip(np.floor(high + 1.01), 0, size)
    return np.hstack([low, high]).astype(int).tolist()
