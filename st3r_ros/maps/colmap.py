# SPDX-License-Identifier: Apache-2.0
"""Maps as COLMAP models, for structure-from-motion and Gaussian-splatting programs.

COLMAP (https://colmap.github.io/format.html) has poses from the world to the camera, quaternions in the order w x y z, and the
centre of the top left pixel at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from st3r_ros.config import CloudConfig
from st3r_ros.maps.exported import ExportedImage, working_images
from st3r_ros.maps.staging import write_synced
from st3r_ros.maps.tracks import Tracks, build_tracks, pinhole_intrinsics
from st3r_ros.products.cloud import cloud_of
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap

PIXEL_CENTRE = 0.5
MODEL_FOLDER = "sparse/0"

_PINHOLE = 1
_NO_ERROR = -1.0
_CAMERA = np.dtype([("id", "<u4"), ("model", "<i4"), ("size", "<u8", 2), ("params", "<f8", 4)])
_IMAGE = np.dtype([("id", "<u4"), ("q_wxyz", "<f8", 4), ("t", "<f8", 3), ("camera", "<u4")])
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<u8")])
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")])
_TRACK = np.dtype([("image", "<u4"), ("observation", "<u4")])


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """Structured arrays as they stand in COLMAP's binary files, and the images' names.

    observations: of each image. tracks: of all points, one after the other; a point has `track_length` of them.
    """

    cameras: np.ndarray
    images: np.ndarray
    names: list[str]
    observations: list[np.ndarray]
    points: np.ndarray
    tracks: np.ndarray


def make_model(
    keyframe_map: KeyframeMap, cloud: CloudConfig, points: str = "both", exported: Sequence[ExportedImage] | None = None
) -> ColmapModel:
    """The keyframes with the points of their matches ("matches"), with those of the thinned cloud ("cloud"), or with both.

    The points of the matches have tracks, those of the cloud have none. exported: the images of the keyframes; their own without.
    """
    exported = working_images(keyframe_map.keyframes.values()) if exported is None else exported
    K = pinhole_intrinsics(keyframe_map)
    tracks = build_tracks(keyframe_map, K) if points != "cloud" else None
    cameras, camera_of = _cameras(exported, K)
    images = _images(keyframe_map, camera_of)
    parts, track, observations = [], np.zeros(0, _TRACK), [np.zeros(0, _OBSERVATION) for _ in images]
    if tracks is not None:
        parts.append(_tracked_points(tracks, exported))
        observations, track = _observed(tracks, exported)
    if points != "matches":
        parts.append(_cloud_points(keyframe_map, cloud))
    joined = np.concatenate(parts)
    joined["id"] = np.arange(1, len(joined) + 1)
    return ColmapModel(cameras, images, [image.name for image in exported], observations, joined, track)


def write_binary(folder: Path, model: ColmapModel) -> None:
    """Writes cameras.bin, images.bin and points3D.bin. Raises OSError where that fails."""
    write_synced(folder / "cameras.bin", _count(model.cameras) + model.cameras.tobytes())
    parts = [_count(model.images)]
    for image, name, observations in zip(model.images, model.names, model.observations, strict=True):
        parts += [image.tobytes(), name.encode() + b"\0", _count(observations), observations.tobytes()]
    write_synced(folder / "images.bin", b"".join(parts))
    write_synced(folder / "points3D.bin", _count(model.points) + _with_tracks(model))


def write_text(folder: Path, model: ColmapModel) -> None:
    """Writes cameras.txt, images.txt and points3D.txt. Raises OSError where that fails."""
    lines = ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"]
    lines += [_line(c["id"], "PINHOLE", c["size"], c["params"]) for c in model.cameras]
    write_synced(folder / "cameras.txt", _text(lines))
    lines = ["# IMAGE_ID qw qx qy qz tx ty tz CAMERA_ID NAME, then a line of x y POINT3D_ID"]
    for image, name, observations in zip(model.images, model.names, model.observations, strict=True):
        lines.append(_line(image["id"], image["q_wxyz"], image["t"], image["camera"], name))
        seen = zip(observations["xy"].tolist(), observations["point"].tolist(), strict=True)
        lines.append(" ".join(f"{x} {y} {point}" for (x, y), point in seen))
    write_synced(folder / "images.txt", _text(lines))
    lines = ["# POINT3D_ID x y z red green blue ERROR, then IMAGE_ID POINT2D_INDEX of each observation"]
    ends = np.cumsum(model.points["track_length"])
    tracks = np.stack([model.tracks["image"], model.tracks["observation"]], axis=1)
    for point, end in zip(model.points, ends.tolist(), strict=True):
        track = tracks[end - int(point["track_length"]) : end].ravel()
        lines.append(_line(point["id"], point["xyz"], point["rgb"], point["error"], track))
    write_synced(folder / "points3D.txt", _text(lines))


def _cameras(exported: Sequence[ExportedImage], K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A camera for each kind of intrinsics, and the camera's id for each keyframe."""
    K = np.stack([image.to_intrinsics(one) for image, one in zip(exported, K, strict=True)])
    params = np.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2] + PIXEL_CENTRE, K[:, 1, 2] + PIXEL_CENTRE], axis=1)
    sizes = np.array([image.size for image in exported])
    kinds, kind_of = np.unique(np.hstack([sizes, params]), axis=0, return_inverse=True)
    cameras = np.zeros(len(kinds), _CAMERA)
    cameras["id"], cameras["model"], cameras["size"] = np.arange(1, len(kinds) + 1), _PINHOLE, kinds[:, :2]
    cameras["params"] = kinds[:, 2:]
    return cameras, kind_of.ravel() + 1


def _images(keyframe_map: KeyframeMap, camera_of: np.ndarray) -> np.ndarray:
    images = np.zeros(len(keyframe_map.keyframes), _IMAGE)
    images["id"], images["camera"] = np.arange(1, len(images) + 1), camera_of
    for image, keyframe in zip(images, keyframe_map.keyframes.values(), strict=True):
        T_cam_world = keyframe.T_world_cam.se3().inverse()
        image["q_wxyz"], image["t"] = np.roll(T_cam_world.quaternion_xyzw, 1), T_cam_world.translation
    return images


def _tracked_points(tracks: Tracks, exported: Sequence[ExportedImage]) -> np.ndarray:
    points = np.zeros(len(tracks), _POINT)
    errors = tracks.errors * np.mean([image.scale for image in exported])
    points["xyz"], points["rgb"], points["error"] = tracks.points, tracks.colors, errors
    points["track_length"] = np.bincount(tracks.point, minlength=len(tracks))
    return points


def _cloud_points(keyframe_map: KeyframeMap, config: CloudConfig) -> np.ndarray:
    cloud = cloud_of(keyframe_map, config)
    points = np.zeros(len(cloud), _POINT)
    points["xyz"], points["rgb"], points["error"] = cloud.points, cloud.colors, _NO_ERROR
    return points


def _observed(tracks: Tracks, exported: Sequence[ExportedImage]) -> tuple[list[np.ndarray], np.ndarray]:
    """The observations of each image, and the tracks of the points, which count the observations of an image from 0."""
    scale, offset = (np.stack([getattr(image, name) for image in exported])[tracks.keyframe] for name in ("scale", "offset"))
    by_image = np.argsort(tracks.keyframe, kind="stable")
    observations = np.zeros(len(by_image), _OBSERVATION)
    observations["xy"] = ((tracks.pixels + PIXEL_CENTRE + offset) * scale)[by_image]
    observations["point"] = tracks.point[by_image] + 1
    bounds = np.searchsorted(tracks.keyframe[by_image], np.arange(len(exported) + 1))
    track = np.zeros(len(by_image), _TRACK)
    track["image"] = tracks.keyframe + 1
    track["observation"][by_image] = np.arange(len(by_image)) - bounds[tracks.keyframe[by_image]]
    return [observations[first:end] for first, end in pairwise(bounds)], track


def _with_tracks(model: ColmapModel) -> bytes:
    """Each point followed by its track."""
    lengths = model.points["track_length"].astype(np.int64)
    starts = np.cumsum(_POINT.itemsize + _TRACK.itemsize * lengths) - (_POINT.itemsize + _TRACK.itemsize * lengths)
    data = np.zeros(model.points.nbytes + model.tracks.nbytes, np.uint8)
    data[starts[:, None] + np.arange(_POINT.itemsize)] = model.points.view(np.uint8).reshape(-1, _POINT.itemsize)
    within = np.arange(len(model.tracks)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.repeat(starts + _POINT.itemsize, lengths) + _TRACK.itemsize * within
    data[at[:, None] + np.arange(_TRACK.itemsize)] = model.tracks.view(np.uint8).reshape(-1, _TRACK.itemsize)
    return data.tobytes()


def _count(items: np.ndarray) -> bytes:
    return len(items).to_bytes(8, "little")


def _line(*values: object) -> str:
    """The values with every digit, arrays one number after the other."""
    words = [str(word) for value in values for word in (value.tolist() if isinstance(value, np.ndarray) else [value])]
    return " ".join(words)


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
