# SPDX-License-Identifier: Apache-2.0
"""Loads a map from a folder. Its files are untrusted: everything is checked before use, and nothing is executed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from st3r_ros.errors import MapFileError
from st3r_ros.maps import columns as tables
from st3r_ros.maps.columns import Columns, MapColumns
from st3r_ros.maps.format import (
    EDGES,
    FRAMES,
    KEYFRAMES,
    MANIFEST,
    MANIFEST_SUM,
    MAX_MANIFEST_BYTES,
    MapInfo,
    image_name,
    mask_name,
    pointmap_name,
    read_manifest,
)
from st3r_ros.maps.origins import Origin
from st3r_ros.maps.parallel import Progress, in_parallel
from st3r_ros.maps.pictures import decode_jpeg, decode_mask, max_jpeg_bytes
from st3r_ros.maps.staging import current
from st3r_ros.maps.tensors import MAX_HEADER_BYTES, TensorLayout, decode_tensors
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class SavedMap:
    """A loaded map: keyframes without features, pointmaps and confidences float16 on the CPU."""

    map: KeyframeMap
    info: MapInfo


def load_map(folder: Path | str, progress: Progress | None = None) -> SavedMap:
    """Loads a map written by `save_map`. progress: called with the number of loaded keyframes and the total.

    Raises:
        MapFileError: there is no map, or it is damaged, incomplete, of a newer version or too large for the memory.
    """
    for _ in range(ATTEMPTS - 1):
        place = current(folder)
        identity = _identity(place)
        try:
            return _load(place, progress)
        except MapFileError:
            # Another process that saves here replaces the whole folder: then the new one is loaded.
            if identity == _identity(current(folder)):
                raise
    return _load(current(folder), progress)


def read_info(folder: Path | str) -> MapInfo:
    """Reads and checks map.json of a saved map; the other files are not read.

    Raises:
        MapFileError: there is no map, or its map.json is damaged or of a newer version.
    """
    folder = current(folder)
    path = folder / MANIFEST
    if not path.is_file():
        what = "is not a saved map (map.json is missing)" if folder.is_dir() else "is not there"
        raise MapFileError(f"'{folder}' {what}; give a folder that `st3r map --save-map` has written.")
    data = _read(path, MAX_MANIFEST_BYTES)
    info = read_manifest(data, path)  # first, so that a newer version is reported as such
    recorded = _read(folder / MANIFEST_SUM, 1024).split()
    if recorded[:1] != [hashlib.sha256(data).hexdigest().encode()]:
        raise _damaged(path, f"its SHA-256 differs from {MANIFEST_SUM}")
    return info


def _load(folder: Path, progress: Progress | None) -> SavedMap:
    info = read_info(folder)
    try:
        stored = {name: _read_table(folder, name, info, layout) for name, layout in tables.layouts(info).items()}
        columns = MapColumns(stored[KEYFRAMES], stored[EDGES], stored[FRAMES])
        _check_tables(folder, columns, info)
        rows = range(info.keyframes)
        keyframes = in_parallel(partial(_read_keyframe, folder, info, columns.keyframes), rows, progress)
    except MemoryError as error:
        raise MapFileError(f"'{folder}' is too large for the memory of this machine ({info.bytes / 1e6:.0f} MB).") from error
    result = KeyframeMap()
    for keyframe in keyframes:
        origin = info.origins.get(keyframe.id, Origin(""))
        keyframe.source, keyframe.lens = origin.source, origin.lens
        result.add_keyframe(keyframe)
    for edge in tables.to_edges(columns.edges):
        result.add_edge(edge)
    result.frames = tables.to_frames(columns.frames)
    result.scale, result.T_map_world = info.scale, info.T_map_world
    return SavedMap(result, info)


def _check_tables(folder: Path, columns: MapColumns, info: MapInfo) -> None:
    fault = tables.find_fault(columns, info.image_size)
    if fault:
        raise _damaged(folder, fault)
    ids = columns.keyframes["ids"].tolist()
    wanted = {KEYFRAMES, EDGES, FRAMES, *map(pointmap_name, ids), *map(image_name, ids)}
    masks = set(map(mask_name, ids)) & info.files.keys()
    for names, what in (
        (wanted - info.files.keys(), "is not listed"),
        (info.files.keys() - wanted - masks, "belongs to no keyframe"),
    ):
        if names:
            raise _damaged(folder / MANIFEST, f"'{min(names)}' {what}")
    if info.next_keyframe_id <= max(ids):
        raise _damaged(folder / MANIFEST, f"next_keyframe_id is {info.next_keyframe_id}, but there is a keyframe {max(ids)}")


def _read_table(folder: Path, name: str, info: MapInfo, layout: dict[str, TensorLayout]) -> Columns:
    limit = MAX_HEADER_BYTES + 8 + sum(column.bytes for column in layout.values())
    return decode_tensors(_read_listed(folder, name, info, limit), layout, folder / name)


def _read_keyframe(folder: Path, info: MapInfo, keyframes: Columns, row: int) -> Keyframe:
    width, height = info.image_size
    keyframe_id = int(keyframes["ids"][row])
    name = pointmap_name(keyframe_id)
    arrays = _read_table(
        folder, name, info, {"X": TensorLayout((height, width, 3), "<f2"), "conf": TensorLayout((height, width), "<f2")}
    )
    X, conf = arrays["X"], arrays["conf"]
    if not (np.isfinite(X).all() and np.isfinite(conf).all() and (conf >= 0).all()):
        raise _damaged(folder / name, "a point or a confidence is not finite or negative")
    name = image_name(keyframe_id)
    data = _read_listed(folder, name, info, max_jpeg_bytes(width, height))
    image = decode_jpeg(data, info.image_size, folder / name)
    keyframe = tables.to_keyframe(keyframes, row, torch.from_numpy(X), torch.from_numpy(conf), image)
    name = mask_name(keyframe_id)
    if name in info.files:
        keyframe.mask = decode_mask(
            _read_listed(folder, name, info, max_jpeg_bytes(width, height)), info.image_size, folder / name
        )
    return keyframe


def _read_listed(folder: Path, name: str, info: MapInfo, limit: int) -> bytes:
    """The content of a file listed in map.json, verified. limit: more bytes than it can have."""
    path, entry = folder / name, info.files.get(name)
    if entry is None:
        raise _damaged(folder / MANIFEST, f"'{name}' is not listed")
    if entry.bytes > limit:
        raise _damaged(folder / MANIFEST, f"'{name}' is listed with {entry.bytes} bytes, more than possible")
    data = _read(path, entry.bytes)
    if len(data) != entry.bytes:
        raise _damaged(path, f"it has {len(data)} bytes instead of {entry.bytes}")
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _damaged(path, f"its SHA-256 differs from {MANIFEST}")
    return data


def _read(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes."""
    try:
        # Non-blocking: a named pipe would block forever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _damaged(path, "it is no regular file")
            if found.st_size > limit:
                raise _damaged(path, f"it has {found.st_size} bytes; at most {limit} are allowed")
            return file.read(limit)
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except OSError as error:
        raise MapFileError(f"'{path}' cannot be read: {error.strerror}.") from error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Identifies a folder, to notice when another one has replaced it."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _damaged(path: Path, what: str) -> MapFileError:
    return MapFileError(f"'{path}' is damaged: {what}; restore the map from a copy or map again.")
