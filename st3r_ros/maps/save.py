# SPDX-License-Identifier: Apache-2.0
"""Saves a map to a folder; docs/map_format.md specifies the files."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch

from st3r_ros.errors import MapFileError, OutputError
from st3r_ros.maps.columns import MapColumns, find_fault, to_columns
from st3r_ros.maps.format import (
    IMAGE_FOLDER,
    MANIFEST,
    MANIFEST_SUM,
    MASK_FOLDER,
    MAX_MANIFEST_BYTES,
    POINTMAP_FOLDER,
    FileEntry,
    MapInfo,
    image_name,
    is_map_file,
    mask_name,
    pointmap_name,
    read_manifest,
    write_manifest,
)
from st3r_ros.maps.origins import origins_of
from st3r_ros.maps.parallel import Progress, in_parallel
from st3r_ros.maps.pictures import encode_jpeg, encode_mask
from st3r_ros.maps.staging import check_staging, files_below, staged_folder, write_synced
from st3r_ros.maps.tensors import encode_tensors
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe

MAX_FLOAT16 = 65504.0


def save_map(
    folder: Path | str,
    keyframe_map: KeyframeMap,
    *,
    pair_model: str,
    checkpoint_sha256: str = "",
    progress: Progress | None = None,
) -> MapInfo:
    """Saves a map and replaces one in `folder`; the map must not change meanwhile.

    Pointmaps and confidences are rounded to float16, images are compressed as JPEG; everything else is exact. The
    folder always contains the complete old or the complete new map, even if the process is killed.
    pair_model, checkpoint_sha256: the origin of the map. progress: called with the number of saved keyframes and the total.

    Raises:
        OutputError: the map is empty or broken, the folder cannot be written, or it contains something else than a map.
    """
    if not keyframe_map.keyframes or not keyframe_map.frames:
        raise OutputError(f"'{folder}' is not written: the map is empty; no frame has been tracked yet.")
    columns = to_columns(keyframe_map)
    size = _image_size(keyframe_map)
    fault = find_fault(columns, size)
    if fault:
        raise OutputError(f"'{folder}' is not written: the map is broken ({fault}).")
    with staged_folder(folder, is_map_file, _check_replaceable) as staging:
        masked = any(keyframe.mask is not None for keyframe in keyframe_map.keyframes.values())
        for name in (POINTMAP_FOLDER, IMAGE_FOLDER, *([MASK_FOLDER] if masked else [])):
            (staging / name).mkdir()
        files: dict[str, FileEntry] = {}
        for written in in_parallel(partial(_write_keyframe, staging), list(keyframe_map.keyframes.values()), progress):
            files |= written
        for name, table in columns.files().items():
            files[name] = _write(staging / name, encode_tensors(table))
        info = _describe(keyframe_map, columns, size, pair_model, checkpoint_sha256, files)
        manifest = _checked_manifest(info, staging / MANIFEST)
        write_synced(staging / MANIFEST, manifest)
        write_synced(staging / MANIFEST_SUM, f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode())
    return info


def check_map_folder(folder: Path | str) -> None:
    """Checks that a map can be saved there.

    Raises:
        OutputError: the folder cannot be written, or contains something else than a map.
    """
    check_staging(folder, is_map_file, _check_replaceable)


def stored_pointmap(keyframe: Keyframe) -> dict[str, np.ndarray]:
    """X (h, w, 3) and conf (h, w) float16 for saving: finite everywhere, with confidence 0 where they were not finite."""
    X = keyframe.X.detach().to("cpu", torch.float16)
    conf = keyframe.conf.detach().cpu().clamp(0.0, MAX_FLOAT16).to(torch.float16)
    claimed = X.isfinite().all(-1) & conf.isfinite()
    if not claimed.all():
        X, conf = torch.where(claimed[..., None], X, 0.0), torch.where(claimed, conf, 0.0)
    return {"X": X.numpy(), "conf": conf.numpy()}


def _write_keyframe(folder: Path, keyframe: Keyframe) -> dict[str, FileEntry]:
    pointmap, image = pointmap_name(keyframe.id), image_name(keyframe.id)
    written = {
        pointmap: _write(folder / pointmap, encode_tensors(stored_pointmap(keyframe))),
        image: _write(folder / image, encode_jpeg(keyframe.image)),
    }
    if keyframe.mask is not None:
        mask = mask_name(keyframe.id)
        written[mask] = _write(folder / mask, encode_mask(keyframe.mask))
    return written


def _write(path: Path, data: bytes) -> FileEntry:
    write_synced(path, data)
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def _describe(
    keyframe_map: KeyframeMap,
    columns: MapColumns,
    size: tuple[int, int],
    pair_model: str,
    checkpoint_sha256: str,
    files: dict[str, FileEntry],
) -> MapInfo:
    return MapInfo(
        pair_model=pair_model,
        checkpoint_sha256=checkpoint_sha256,
        image_size=size,
        descriptor_size=columns.keyframes["descriptors"].shape[1],
        scale=keyframe_map.scale,
        T_map_world=keyframe_map.T_map_world,
        origins=origins_of(keyframe_map.keyframes.values()),
        keyframes=len(keyframe_map.keyframes),
        edges=len(columns.edges["kinds"]),
        matches=len(columns.edges["weights"]),
        frames=len(keyframe_map.frames),
        next_keyframe_id=max(keyframe_map.keyframes) + 1,
        files=files,
    )


def _checked_manifest(info: MapInfo, path: Path) -> bytes:
    """The text of map.json, verified by parsing it."""
    data = write_manifest(info)
    try:
        read_manifest(data, path)
    except MapFileError as error:
        raise OutputError(f"The map is not saved because it could not be loaded again: {error}") from error
    return data


def _image_size(keyframe_map: KeyframeMap) -> tuple[int, int]:
    """Width and height of all keyframes."""
    sizes = {(k.image.shape[1], k.image.shape[0]) for k in keyframe_map.keyframes.values()}
    sizes |= {(k.X.shape[1], k.X.shape[0]) for k in keyframe_map.keyframes.values()}
    if len(sizes) != 1:
        raise OutputError(f"The map is not saved: its keyframes are of different sizes ({', '.join(map(str, sorted(sizes)))}).")
    return sizes.pop()


def _check_replaceable(folder: Path) -> None:
    """Raises OutputError unless the folder holds a saved map and nothing else."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            info = read_manifest(file.read(MAX_MANIFEST_BYTES), path)
    except (OSError, MapFileError) as error:
        raise OutputError(
            f"'{folder}' is not overwritten: it is not empty and not a readable map; choose another folder or delete it."
        ) from error
    known = {MANIFEST, MANIFEST_SUM, *info.files}
    foreign = next((name for name in files_below(folder) if name not in known), None)
    if foreign is not None:
        raise OutputError(
            f"'{folder}' is not overwritten: it contains '{foreign}', which is not part of the map; choose another folder."
        )
