# SPDX-License-Identifier: Apache-2.0
"""Tracks: pixels of several cameras that matches connect, and so show the same point."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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


def matched_pixels(keyframes: Iterable[int], edges: Collection[Edge], frames: Sequence[Sighting] = ()) -> MatchedPixels:
    """Of the edges between keyframes, given by their ids, and of what frames see of them."""
    number = {keyframe_id: n for n, keyframe_id in enumerate(keyframes)}
    first = [(number[e.i], e.packed_i) for e in edges] + [(n, s.packed_frame) for n, s in enumerate(frames, len(number))]
    second = [(number[e.j], e.packed_j) for e in edges] + [(number[s.keyframe_id], s.packed_keyframe) for s in frames]
    codes, places = np.unique(_codes(first + second), return_inverse=True)
    first_end, second_end = places.reshape(2, -1)
    graph = coo_matrix((np.ones(len(first_end), bool), (first_end, second_end)), shape=(len(codes), len(codes)))
    track = connected_components(graph, directed=False)[1].astype(np.int64) if len(codes) else np.zeros(0, np.int64)
    halves = np.stack([codes & 0xFFFF, codes >> 16 & 0xFFFF], axis=1).astype(np.uint16)
    return MatchedPixels(track, codes >> 32, halves.astype(np.int16) * EDGE_PIXEL_STEP)


def _codes(seen: list[tuple[int, torch.Tensor]]) -> np.ndarray:
    """One number (N,) for each pixel of some cameras, packed (n, 2), in the order of the cameras."""
    if not seen:
        return np.zeros(0, np.int64)
    x, y = torch.cat([packed.cpu() for _, packed in seen]).numpy().astype(np.uint16).astype(np.int64).T
    camera = np.repeat(np.array([n for n, _ in seen]), [len(packed) for _, packed in seen])
    return (camera << 32) | (y << 16) | x
