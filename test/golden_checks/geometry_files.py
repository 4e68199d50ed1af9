# SPDX-License-Identifier: Apache-2.0
"""Files of geometry: focal lengths, transforms and cameras, canonical pointmaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from golden_checks.results import Check, Result, Skipped, close, equal, relative_l2
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.focal import focal_from_pointmap
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3

TOLERANCE = 1e-5
FOCAL_LIMITS = (0.5, 3.5)
PIXEL_LIMITS = (-1000.0, 2000.0)  # of the recorded reprojections


def check_focal(path: Path) -> Iterator[Result]:
    """Focal lengths of `pts` by each method, with and without limits; `bad_pts` has points that must not count."""
    with np.load(path) as golden:
        for name in golden:
            if not (match := re.fullmatch(r"(bad_)?focal_(clip_)?(weiszfeld|median)", name)):
                continue
            bad, clip, method = match[1] or "", match[2], match[3]
            low, high = FOCAL_LIMITS if clip else (0.0, float("inf"))
            X, centre = torch.from_numpy(golden[f"{bad}pts"]), torch.from_numpy(golden[f"{bad}pp"])
            focal = focal_from_pointmap(X, centre, method=method, min_ratio=low, max_ratio=high)
            yield close(path.name, name, focal.reshape(-1), golden[name], TOLERANCE)


def check_canonical(path: Path) -> Iterator[Result]:
    """The confidence-weighted mean of several pointmaps of one image, as in MASt3R-SfM (Duisterhof et al., 2024).

    No part of the package uses it; the weight of a prediction with the minimum confidence, 1, is 0.001.
    """
    with np.load(path) as golden:
        weights = golden["conf"] - 0.999
        total = weights.sum(axis=0)
        ours = {
            "canon": (weights[..., None] * golden["pts"]).sum(axis=0) / total[..., None],
            "canon_conf": (weights**2).sum(axis=0) / total,
        }
        for name in golden:
            if name in ours:
                yield close(path.name, name, ours[name], golden[name], TOLERANCE)
            elif name not in ("pts", "conf"):
                yield Skipped(path.name, name, "this package does not compute it")


def check_geometry(path: Path) -> Iterator[Result]:
    """Transforms of points, projections and their inverses. Points behind a camera have no pixel here, and are not compared."""
    with np.load(path) as golden:
        file = dict(golden)
    T = SE3.from_matrix(file["P"].astype(np.float64))
    turn = SE3(T.rotation, np.zeros((len(file["P"]), 3)))
    camera = Camera(10_000, 10_000, file["K"])
    moved = {
        "inv_P": lambda: T.inverse().as_matrix(),
        "inv_K": lambda: _inverse_K(camera),
        "geotrf_P_batch_bhw3": lambda: T @ file["pts"],
        "geotrf_P_batch_bn3": lambda: T @ file["pts"].reshape(len(file["pts"]), -1, 3),
        "geotrf_P0_pts0": lambda: T[0] @ file["pts"][0],
        "geotrf_numpy": lambda: T[0] @ file["pts"][0],
        "geotrf_R_batch": lambda: turn @ file["pts"],
        "geotrf_K_norm1_ncol2": lambda: camera.project(file["pts"][0]),
        "geotrf_invK_2d_ncol3": lambda: camera.unproject(file["pts2"]),
        "reproj2d_out": lambda: np.clip(camera.project(T[0] @ file["reproj2d_pts"]), *PIXEL_LIMITS),
        "proj3d_out": lambda: camera.unproject(file["proj3d_uv"], file["proj3d_z"]),
    }
    yield from _compare_geometry(path.name, file, moved)


def _compare_geometry(name: str, file: dict[str, np.ndarray], moved: dict[str, Callable[[], np.ndarray]]) -> Iterator[Result]:
    for array, golden in file.items():
        if array in moved:
            ours = moved[array]()
            seen = np.isfinite(ours)
            yield Check(name, array, "relative L2", relative_l2(ours[seen], golden[seen]), TOLERANCE)
        elif match := re.fullmatch(r"xy_grid_(\d+)x(\d+)", array):
            yield equal(name, array, pixel_grid(int(match[1]), int(match[2])), golden)
        elif array.startswith(("inv_", "geotrf_", "xy_")):
            yield Skipped(name, array, "this package has no such call form")


def _inverse_K(camera: Camera) -> np.ndarray:
    """The matrix that `unproject` applies to homogeneous pixels, from its values at three of them."""
    corner, right, below = camera.unproject(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    return np.stack([right - corner, below - corner, corner], axis=1)
