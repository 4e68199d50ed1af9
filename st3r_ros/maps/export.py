# SPDX-License-Identifier: Apache-2.0
"""Maps for other programs: a cloud, trajectories, a COLMAP model, a nerfstudio data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from st3r_ros.config import CloudConfig
from st3r_ros.errors import OutputError
from st3r_ros.io.ply import write_ply
from st3r_ros.io.trajectory import write_tum
from st3r_ros.maps.colmap import MODEL_FOLDER, make_model, write_binary, write_text
from st3r_ros.maps.exported import (
    SOURCES_FILE,
    ExportedImage,
    OriginalImages,
    exported_stems,
    sources_table,
    working_images,
)
from st3r_ros.maps.nerfstudio import CLOUD_FILE, make_transforms
from st3r_ros.maps.parallel import in_parallel
from st3r_ros.maps.pictures import encode_jpeg
from st3r_ros.maps.staging import staged_folder, write_synced
from st3r_ros.products.cloud import cloud_of
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe, PointCloud


def export_map(
    out: Path | str,
    keyframe_map: KeyframeMap,
    kind: str,
    cloud: CloudConfig,
    *,
    points: str = "both",
    text: bool = False,
    originals: OriginalImages | None = None,
) -> str:
    """Writes one of EXPORT_FORMATS. Returns what was written, as a phrase. points, text: of a COLMAP model. originals: written
    instead of the keyframes' own images.

    Raises:
        OutputError: the file or folder cannot be written, or the folder is not empty.
    """
    if kind == "ply":
        return export_ply(out, keyframe_map, cloud)
    if kind == "tum":
        return export_tum(out, keyframe_map)
    if kind == "colmap":
        return export_colmap(out, keyframe_map, cloud, points=points, text=text, originals=originals)
    return export_nerfstudio(out, keyframe_map, cloud, originals)


def export_ply(out: Path | str, keyframe_map: KeyframeMap, cloud: CloudConfig) -> str:
    """Writes the cloud to a file. Returns what was written, as a phrase.

    Raises:
        OutputError: as `export_cloud`.
    """
    return export_cloud(out, cloud_of(keyframe_map, cloud))


def export_cloud(out: Path | str, points: PointCloud) -> str:
    """Writes a cloud that is at hand to a file. Returns what was written, as a phrase.

    Raises:
        OutputError: the file cannot be written, or the cloud has no points.
    """
    _check_points(out, len(points))
    write_ply(out, points)
    return f"{len(points)} points"


def export_tum(out: Path | str, keyframe_map: KeyframeMap) -> str:
    """Writes trajectory.txt (every tracked frame), keyframes.txt and keyframes.csv, which names the images, to a new folder.

    Returns what was written, as a phrase.

    Raises:
        OutputError: the folder cannot be written, or is not empty.
    """
    frames, keyframes = keyframe_map.trajectory(), keyframe_map.keyframe_trajectory()
    with staged_folder(out, _is_ours) as folder:
        write_tum(folder / "trajectory.txt", frames)
        write_tum(folder / "keyframes.txt", keyframes, keyframe_map.keyframe_sources())
        write_synced(folder / SOURCES_FILE, sources_table(keyframe_map.keyframes.values()))
    return f"the poses of {len(frames)} frames and {len(keyframes)} keyframes"


def export_colmap(
    out: Path | str,
    keyframe_map: KeyframeMap,
    cloud: CloudConfig,
    *,
    points: str = "both",
    text: bool = False,
    originals: OriginalImages | None = None,
) -> str:
    """Writes images/, the model sparse/0/ and keyframes.csv to a new folder. Returns what was written, as a phrase.

    points: as for `make_model`. text: the model as text instead of binary. originals: instead of the keyframes' own images.

    Raises:
        OutputError: the folder cannot be written, or is not empty, or neither the cloud nor the matches have points.
    """
    with staged_folder(out, _is_ours) as folder:
        model = make_model(keyframe_map, cloud, points, _write_images(folder, keyframe_map, originals))
        if points != "matches":
            _check_points(out, len(model.points))
        (folder / MODEL_FOLDER).mkdir(parents=True)
        (write_text if text else write_binary)(folder / MODEL_FOLDER, model)
    tracked = int((model.points["track_length"] > 0).sum())
    return f"{len(model.images)} images and {len(model.points)} points ({tracked} of them with tracks)"


def export_nerfstudio(
    out: Path | str, keyframe_map: KeyframeMap, cloud: CloudConfig, originals: OriginalImages | None = None
) -> str:
    """Writes images/, transforms.json, the cloud and keyframes.csv to a new folder. Returns what was written, as a phrase.

    z is up in them. originals: instead of the keyframes' own images.

    Raises:
        OutputError: the folder cannot be written, or is not empty, or the cloud has no points.
    """
    T_up_world = keyframe_map.T_level_world
    points = cloud_of(keyframe_map, cloud)
    _check_points(out, len(points))
    points = replace(points, points=(T_up_world @ points.points).astype(np.float32))
    with staged_folder(out, _is_ours) as folder:
        transforms = make_transforms(keyframe_map, _write_images(folder, keyframe_map, originals), T_up_world)
        write_ply(folder / CLOUD_FILE, points)
        write_synced(folder / "transforms.json", (json.dumps(transforms, indent=1, allow_nan=False) + "\n").encode())
    return f"{len(keyframe_map.keyframes)} images and {len(points)} points"


def _write_images(folder: Path, keyframe_map: KeyframeMap, originals: OriginalImages | None) -> list[ExportedImage]:
    """Writes the images and the table of their sources; they are returned in the order of the keyframes."""
    keyframes = list(keyframe_map.keyframes.values())
    (folder / "images").mkdir()
    if originals is None:
        images = working_images(keyframes)

        def write(row: int) -> None:
            write_synced(folder / "images" / images[row].name, encode_jpeg(keyframes[row].image))

        in_parallel(write, range(len(keyframes)))
    else:
        images = _write_originals(folder / "images", keyframes, originals)
    write_synced(folder / SOURCES_FILE, sources_table(keyframes, images))
    return images


def _write_originals(folder: Path, keyframes: list[Keyframe], originals: OriginalImages) -> list[ExportedImage]:
    stems = exported_stems(keyframes)
    written: dict[int, ExportedImage] = {}
    for keyframe, original in originals(keyframes):
        name = f"{stems[keyframe.id]}{original.suffix}"
        write_synced(folder / name, original.data)
        height, width = keyframe.image.shape[:2]
        written[keyframe.id] = ExportedImage.at_full_resolution(name, original.size, (width, height))
    return [written[keyframe.id] for keyframe in keyframes]


def _check_points(out: Path | str, count: int) -> None:
    """Raises OutputError where the settings of the cloud leave no point of a map."""
    if not count:
        raise OutputError(
            f"'{out}' is not written: cloud.voxel_size, cloud.min_conf, cloud.max_range, cloud.min_height and cloud.max_height "
            "leave no point of the map."
        )


def _is_ours(name: str) -> bool:
    """Everything in a folder that is being written is; a folder that is not empty is never replaced."""
    return True
