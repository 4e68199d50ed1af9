# SPDX-License-Identifier: Apache-2.0
"""Tracks: pixels of several cameras that matches connect, and so show the same point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from st3r_ros.slam.keyframes.sightings import Sighting
from st3r_ros.types import EDGE_PIXEL_STEP, Edge


@dataclass(frozen=True, eq=False)
class MatchedPixels:
    """Every matched pixel once, by camera: its track and camera (O,) int64, pixels (O, 2) float64.

    The cameras are the keyframes in the order given, and after them the frames.
    """

    track: np.ndarray
    camera: np.ndarray
    pixels: np.ndarray


def matched_pixels(keyframes: Iterable[int], edges: Iterable[Edge], frames: Sequence[Sighting] = ()) -> MatchedPixels:
    """Of the edges between keyframes, given by their ids, and of what frames see of them."""
    number = {keyframe_id: n for n, keyframe_id in enumerate(keyframes)}
    ends = [(_codes(number[e.i], e.packed_i), _codes(number[e.j], e.packed_j)) for e in edges]
    for n, seen in enumerate(frames, len(number)):
        ends.append((_codes(n, seen.packed_frame), _codes(number[seen.keyframe_id], seen.packed_keyframe)))
    ends.append((np.zeros(0, np.int64), np.zeros(0, np.int64)))
    codes, places = np.unique(np.concatenate([side for sides in zip(*ends, strict=True) for side in sides]), return_inverse=True)
    first, second = places.reshape(2, -1)
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(len(codes), len(codes)))
    track = connected_components(graph, directed=False)[1].astype(np.int64) if len(codes) else np.zeros(0, np.int64)
    halves = np.stack([codes & 0xFFFF, codes >> 16 & 0xFFFF], axis=1).astype(np.uint16)
    return MatchedPixels(track, codes >> 32, halves.astype(np.int16) * EDGE_PIXEL_STEP)


def _codes(camera: int, packed: torch.Tensor) -> np.ndarray:
    """One number (N,) for each pixel of a camera, in the order of the cameras."""
    x, y = packed.cpu().numpy().astype(np.uint16).astype(np.int64).T
    return (camera << 32) | (y << 16) | x
