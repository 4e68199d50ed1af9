# SPDX-License-Identifier: Apache-2.0
"""Maps for other programs: a cloud, trajectories, a COLMAP model, a nerfstudio data set."""

from __future__ import annotations

import json
from pathlib import Path

from st3r_ros.config import CloudConfig
from st3r_ros.io.ply import write_ply
from st3r_ros.io.trajectory import write_tum
from st3r_ros.maps.colmap import MODEL_FOLDER, image_file, make_model, write_binary, write_text
from st3r_ros.maps.nerfstudio import CLOUD_FILE, make_transforms
from st3r_ros.maps.parallel import in_parallel
from st3r_ros.maps.pictures import encode_jpeg
from st3r_ros.maps.staging import staged_folder, write_synced
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe


def export_map(
    out: Path | str, keyframe_map: KeyframeMap, kind: str, cloud: CloudConfig, *, points: str = "both", text: bool = False
) -> str:
    """Writes one of EXPORT_FORMATS. Returns what was written, as a phrase. points, text: of a COLMAP model.

    Raises:
        OutputError: the file or folder cannot be written, or the folder is not empty.
    """
    if kind == "ply":
        return export_ply(out, keyframe_map, cloud)
    if kind == "tum":
        return export_tum(out, keyframe_map)
    if kind == "colmap":
        return export_colmap(out, keyframe_map, cloud, points=points, text=text)
    return export_nerfstudio(out, keyframe_map, cloud)


def export_ply(out: Path | str, keyframe_map: KeyframeMap, cloud: CloudConfig) -> str:
    """Writes the cloud to a file. Returns what was written, as a phrase.

    Raises:
        OutputError: the file cannot be written.
    """
    points = keyframe_map.cloud(cloud)
    write_ply(out, points)
    return f"{len(points)} points"


def export_tum(out: Path | str, keyframe_map: KeyframeMap) -> str:
    """Writes trajectory.txt (every tracked frame) and keyframes.txt to a new folder. Returns what was written, as a phrase.

    Raises:
        OutputError: the folder cannot be written, or is not empty.
    """
    frames, keyframes = keyframe_map.trajectory(), keyframe_map.keyframe_trajectory()
    with staged_folder(out, _is_ours) as folder:
        write_tum(folder / "trajectory.txt", frames)
        write_tum(folder / "keyframes.txt", keyframes)
    return f"the poses of {len(frames)} frames and {len(keyframes)} keyframes"


def export_colmap(
    out: Path | str, keyframe_map: KeyframeMap, cloud: CloudConfig, *, points: str = "both", text: bool = False
) -> str:
    """Writes images/ and the model sparse/0/ to a new folder. Returns what was written, as a phrase.

    points: as for `make_model`. text: the model as text instead of binary.

    Raises:
        OutputError: the folder cannot be written, or is not empty.
    """
    model = make_model(keyframe_map, cloud, points)
    with staged_folder(out, _is_ours) as folder:
        _write_images(folder, keyframe_map)
        (folder / MODEL_FOLDER).mkdir(parents=True)
        (write_text if text else write_binary)(folder / MODEL_FOLDER, model)
    tracked = int((model.points["track_length"] > 0).sum())
    return f"{len(model.images)} images and {len(model.points)} points ({tracked} of them with tracks)"


def export_nerfstudio(out: Path | str, keyframe_map: KeyframeMap, cloud: CloudConfig) -> str:
    """Writes images/, transforms.json and the cloud to a new folder. Returns what was written, as a phrase.

    Raises:
        OutputError: the folder cannot be written, or is not empty.
    """
    transforms, points = make_transforms(keyframe_map), keyframe_map.cloud(cloud)
    with staged_folder(out, _is_ours) as folder:
        _write_images(folder, keyframe_map)
        write_ply(folder / CLOUD_FILE, points)
        write_synced(folder / "transforms.json", (json.dumps(transforms, indent=1, allow_nan=False) + "\n").encode())
    return f"{len(keyframe_map.keyframes)} images and {len(points)} points"


def _write_images(folder: Path, keyframe_map: KeyframeMap) -> None:
    images = folder / "images"
    images.mkdir()

    def write(keyframe: Keyframe) -> None:
        write_synced(images / image_file(keyframe), encode_jpeg(keyframe.image))

    in_parallel(write, list(keyframe_map.keyframes.values()))


def _is_ours(name: str) -> bool:
    """Everything in a folder that is being written is; a folder that is not empty is never replaced."""
    return True
