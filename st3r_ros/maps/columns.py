# SPDX-License-Identifier: Apache-2.0
"""Converts a map without its pointmaps and images to columns of numbers, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.maps.format import EDGES, FRAMES, KEYFRAMES, MapInfo
from st3r_ros.maps.tensors import TensorLayout
from st3r_ros.slam.keyframes.frame_log import FrameLog
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import EDGE_PIXEL_STEP, Edge, Keyframe

EDGE_KINDS = ("sequential", "loop")
MAX_ROTATION_ERROR = 1e-4

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class MapColumns:
    """The three tables of a map; docs/map_format.md lists their columns."""

    keyframes: Columns
    edges: Columns
    frames: Columns

    def files(self) -> dict[str, Columns]:
        """The tables by file name."""
        return {KEYFRAMES: self.keyframes, EDGES: self.edges, FRAMES: self.frames}


def layouts(info: MapInfo) -> dict[str, dict[str, TensorLayout]]:
    """The columns of each table for a map of these sizes."""
    n, e, m, f = info.keyframes, info.edges, info.matches, info.frames
    keyframes = {
        "ids": TensorLayout((n,), "<i8"),
        "frame_ids": TensorLayout((n,), "<i8"),
        "stamps_ns": TensorLayout((n,), "<i8"),
        "T_world_cam": TensorLayout((n, 13), "<f8"),
        "K": TensorLayout((n, 3, 3), "<f8"),
        "K_known": TensorLayout((n,), "|u1"),
        "calibrated": TensorLayout((n,), "|u1"),
        "described": TensorLayout((n,), "|u1"),
        "descriptors": TensorLayout((n, info.descriptor_size), "<f4"),
    }
    edges = {
        "keyframe_ids": TensorLayout((e, 2), "<i8"),
        "kinds": TensorLayout((e,), "|u1"),
        "match_counts": TensorLayout((e,), "<i8"),
        "pixels_i": TensorLayout((m, 2), "<i2"),
        "pixels_j": TensorLayout((m, 2), "<i2"),
        "weights": TensorLayout((m,), "<f2"),
    }
    frames = {
        "frame_ids": TensorLayout((f,), "<i8"),
        "stamps_ns": TensorLayout((f,), "<i8"),
        "keyframe_ids": TensorLayout((f,), "<i8"),
        "T_kf_cam": TensorLayout((f, 13), "<f8"),
    }
    return {KEYFRAMES: keyframes, EDGES: edges, FRAMES: frames}


def to_columns(keyframe_map: KeyframeMap) -> MapColumns:
    """The tables of a map; keyframes, edges and frames in the map's order."""
    keyframes, edges, frames = list(keyframe_map.keyframes.values()), list(keyframe_map.edges), keyframe_map.frames
    described = [k.descriptor is not None for k in keyframes]
    size = next((int(k.descriptor.numel()) for k in keyframes if k.descriptor is not None), 0)
    descriptors = np.zeros((len(keyframes), size), np.float32)
    for row, keyframe in enumerate(keyframes):
        if keyframe.descriptor is not None:
            descriptors[row] = keyframe.descriptor.detach().cpu().numpy()
    return MapColumns(
        keyframes={
            "ids": np.array([k.id for k in keyframes], np.int64),
            "frame_ids": np.array([k.frame_id for k in keyframes], np.int64),
            "stamps_ns": np.array([k.stamp_ns for k in keyframes], np.int64),
            "T_world_cam": np.array([_pose_row(k.T_world_cam) for k in keyframes]),
            "K": np.array([k.K for k in keyframes], np.float64),
            "K_known": np.array([k.K_known for k in keyframes], np.uint8),
            "calibrated": np.array([k.calibrated for k in keyframes], np.uint8),
            "described": np.array(described, np.uint8),
            "descriptors": descriptors,
        },
        edges={
            "keyframe_ids": np.array([(e.i, e.j) for e in edges], np.int64).reshape(-1, 2),
            "kinds": np.array([EDGE_KINDS.index(e.kind) for e in edges], np.uint8),
            "match_counts": np.array([len(e) for e in edges], np.int64),
            "pixels_i": _joined((e.packed_i for e in edges), np.zeros((0, 2), np.int16)),
            "pixels_j": _joined((e.packed_j for e in edges), np.zeros((0, 2), np.int16)),
            "weights": _joined((e.packed_weight for e in edges), np.zeros(0, np.float16)),
        },
        frames={
            "frame_ids": frames.frame_ids,
            "stamps_ns": frames.stamps_ns,
            "keyframe_ids": frames.keyframe_ids,
            "T_kf_cam": _pose_rows(frames.T_kf_cam),
        },
    )


def to_edges(columns: Columns) -> list[Edge]:
    """The edges of a checked table."""
    bounds = np.concatenate([[0], np.cumsum(columns["match_counts"])]).tolist()
    packed = [torch.from_numpy(columns[name]) for name in ("pixels_i", "pixels_j", "weights")]
    rows = zip(columns["keyframe_ids"].tolist(), columns["kinds"].tolist(), pairwise(bounds), strict=True)
    # Copies, so that the memory of an edge that is dropped later is freed.
    return [Edge(i, j, EDGE_KINDS[kind], *(p[first:end].clone() for p in packed)) for (i, j), kind, (first, end) in rows]


def to_frames(columns: Columns) -> FrameLog:
    """The frames of a checked table."""
    return FrameLog.of(columns["frame_ids"], columns["stamps_ns"], columns["keyframe_ids"], to_poses(columns["T_kf_cam"]))


def to_poses(rows: np.ndarray) -> Sim3:
    """The transforms (N,) of rows (N, 13): rotation matrix row by row, translation, scale."""
    return Sim3(rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12])


def to_keyframe(columns: Columns, row: int, X: torch.Tensor, conf: torch.Tensor, image: np.ndarray) -> Keyframe:
    """One keyframe of a checked table, with its parts from other files."""
    described = bool(columns["described"][row])
    return Keyframe(
        id=int(columns["ids"][row]),
        frame_id=int(columns["frame_ids"][row]),
        stamp_ns=int(columns["stamps_ns"][row]),
        T_world_cam=to_poses(columns["T_world_cam"][row : row + 1])[0],
        X=X,
        conf=conf,
        image=image,
        K=columns["K"][row].copy(),
        K_known=bool(columns["K_known"][row]),
        calibrated=bool(columns["calibrated"][row]),
        descriptor=torch.from_numpy(columns["descriptors"][row].copy()) if described else None,
    )


def find_fault(columns: MapColumns, image_size: tuple[int, int]) -> str:
    """Why these tables are not a valid map, as part of a sentence; "" when they are."""
    return (
        _keyframe_fault(columns.keyframes)
        or _edge_fault(columns.edges, columns.keyframes["ids"], image_size)
        or _frame_fault(columns.frames, columns.keyframes["ids"])
    )


def _keyframe_fault(columns: Columns) -> str:
    ids, K = columns["ids"], columns["K"]
    if (ids < 0).any() or len(np.unique(ids)) != len(ids):
        return "keyframe ids are negative or duplicate"
    K_rows = K.reshape(-1, 9)
    usable = np.isfinite(K_rows).all(1) & (K[:, 0, 0] > 0) & (K[:, 1, 1] > 0) & (K[:, 2] == (0, 0, 1)).all(1) & (K[:, 1, 0] == 0)
    for good, what in (
        (_are_poses(columns["T_world_cam"]), "a pose that is not a similarity transform"),
        (usable, "impossible intrinsics K"),
        (np.isfinite(columns["descriptors"]).all(1), "a descriptor that is not finite"),
    ):
        if not good.all():
            return f"keyframe {ids[np.flatnonzero(~good)[0]]} has {what}"
    return ""


def _edge_fault(columns: Columns, ids: np.ndarray, image_size: tuple[int, int]) -> str:
    pairs, counts, weights = columns["keyframe_ids"], columns["match_counts"], columns["weights"]
    pixels = np.concatenate([columns["pixels_i"], columns["pixels_j"]])
    first, last = -0.5 / EDGE_PIXEL_STEP, (np.array(image_size) - 0.5) / EDGE_PIXEL_STEP
    # Each count is limited before they are added, because the sum could overflow.
    limited = ((counts >= 0) & (counts <= len(weights))).all()
    faults = {
        "an edge refers to a missing keyframe": not np.isin(pairs, ids).all(),
        "an edge connects a keyframe to itself": (pairs[:, 0] == pairs[:, 1]).any(),
        "two edges connect the same keyframes": len(np.unique(np.sort(pairs, axis=1), axis=0)) != len(pairs),
        "an edge has an unknown kind": (columns["kinds"] >= len(EDGE_KINDS)).any(),
        "the number of matches differs from the counts of the edges": not limited or counts.sum() != len(weights),
        "a match of an edge lies outside the image": ((pixels < first) | (pixels > last)).any(),
        "a match of an edge has a weight that is negative or not finite": not (np.isfinite(weights) & (weights >= 0)).all(),
    }
    return next((fault for fault, found in faults.items() if found), "")


def _frame_fault(columns: Columns, ids: np.ndarray) -> str:
    stray = ~np.isin(columns["keyframe_ids"], ids)
    bad = ~_are_poses(columns["T_kf_cam"])
    if stray.any():
        return f"frame {columns['frame_ids'][stray][0]} belongs to a missing keyframe"
    return f"frame {columns['frame_ids'][bad][0]} has a pose that is not a similarity transform" if bad.any() else ""


def _are_poses(rows: np.ndarray) -> np.ndarray:
    """Which rows (N, 13) are similarity transforms."""
    good = np.isfinite(rows).all(1) & (rows[:, 12] > 0)
    R = np.where(good[:, None], rows[:, :9], 0.0).reshape(-1, 3, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(R @ R.swapaxes(-1, -2) - np.eye(3)).max(axis=(-1, -2), initial=0.0)
        return good & (error < MAX_ROTATION_ERROR) & (np.linalg.det(R) > 0)


def _pose_row(T: Sim3) -> np.ndarray:
    return np.concatenate([T.rotation.ravel(), T.translation, [T.scale]])


def _pose_rows(T: Sim3) -> np.ndarray:
    return np.concatenate([T.rotation.reshape(-1, 9), T.translation, T.scale[:, None]], axis=1)


def _joined(parts: Iterable[torch.Tensor], nothing: np.ndarray) -> np.ndarray:
    return np.concatenate([nothing, *(part.cpu().numpy() for part in parts)])
