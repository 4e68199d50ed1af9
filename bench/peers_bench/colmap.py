# SPDX-License-Identifier: Apache-2.0
"""COLMAP's incremental mapping (https://colmap.github.io) through `pycolmap`, with the intrinsics that are known."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import harness
import numpy as np

from peers_bench.recording import NO_POSES, Placed, Recording
from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.maps.colmap import PIXEL_CENTRE
from st3r_ros.types import Trajectory

PHOTOGRAPHS = 1.0  # seconds; images so far apart in time are no video: each is matched with every other
STARTS = (16.0, 0.95), (4.0, 1.0)
"""How a model may start: degrees between the rays of its first two images at least, and the share of forward motion at most; as
usual, and for a drive forward."""
POLYNOMIAL = 8  # coefficients of FULL_OPENCV


def colmap(recording: Recording, show: bool = False) -> Placed:
    """The poses of the largest model. show: a line on stderr about the progress. COLMAP's log is silent afterwards."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as made:
        models = _reconstruct(pycolmap, recording, Path(made), show)
    ms = 1e3 * (time.perf_counter() - started) / len(recording.files)
    harness.progress("", show)
    if not models:
        return Placed(NO_POSES, ms, "no model")
    return Placed(_poses(max(models.values(), key=lambda model: model.num_reg_images()), recording), ms)


def _reconstruct(pycolmap: Any, recording: Recording, folder: Path, show: bool) -> dict[int, Any]:
    """The models of the images, by their numbers."""
    database, images = folder / "database.db", recording.folder
    model, parameters = camera_model(recording.camera)
    reader = pycolmap.ImageReaderOptions(camera_model=model, camera_params=",".join(map(repr, parameters)))
    say = partial(harness.progress, wanted=show)
    say("COLMAP: features")
    single = pycolmap.CameraMode.SINGLE
    pycolmap.extract_features(database, images, list(recording.files), camera_mode=single, reader_options=reader)
    say("COLMAP: matches")
    match = pycolmap.match_exhaustive if recording.interval >= PHOTOGRAPHS else pycolmap.match_sequential
    match(database)
    options = pycolmap.IncrementalPipelineOptions(random_seed=0, ba_refine_focal_length=False, ba_refine_extra_params=False)
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    placed = count(3)

    def next_image() -> None:
        say(f"COLMAP: image {next(placed)} of {len(recording.files)}")

    for angle, forward in STARTS:
        options.mapper.init_min_tri_angle, options.mapper.init_max_forward_motion = angle, forward
        models = pycolmap.incremental_mapping(database, images, folder, options, next_image_callback=next_image)
        if models:
            break
    return models


def camera_model(camera: Camera) -> tuple[str, list[float]]:
    """The name of COLMAP's model of a camera, and its parameters.

    Raises:
        CalibrationError: COLMAP has no model for this lens.
    """
    (fx, _, cx), (_, fy, cy) = camera.K[:2].tolist()
    pinhole = [fx, fy, cx + PIXEL_CENTRE, cy + PIXEL_CENTRE]
    if camera.distortion_model == "equidistant":
        return "OPENCV_FISHEYE", [*pinhole, *camera.distortion.tolist()]
    if np.any(camera.distortion[POLYNOMIAL:]):
        raise CalibrationError(f"COLMAP has no model for the {len(camera.distortion)} coefficients of this lens.")
    coefficients = np.zeros(POLYNOMIAL)
    coefficients[: len(camera.distortion)] = camera.distortion[:POLYNOMIAL]
    return "FULL_OPENCV", [*pinhole, *coefficients.tolist()]


def _poses(model: Any, recording: Recording) -> Trajectory:
    """Those of a model, in the order of their stamps."""
    placed = {image.name: image.cam_from_world().matrix() for image in model.images.values() if image.has_pose}
    index = [i for i, file in enumerate(recording.files) if file in placed]
    T_cam_world = np.array([placed[recording.files[i]] for i in index])
    T_world_cam = SE3(T_cam_world[:, :, :3], T_cam_world[:, :, 3]).inverse()
    return Trajectory(recording.stamps_ns[index], T_world_cam.translation, T_world_cam.quaternion_xyzw)
