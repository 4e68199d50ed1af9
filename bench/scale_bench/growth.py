# SPDX-License-Identifier: Apache-2.0
"""A map of a given size, made by the mapper itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from st3r_ros.config import MapperConfig
from st3r_ros.errors import InputError
from st3r_ros.slam.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.memory import retire
from st3r_ros.types import Frame

MANY_KEYFRAMES = MapperConfig(keyframe_match_fraction=0.9, max_keyframes=100_000, memory_budget_mb=0)
"""A keyframe every few frames, and none is dropped."""


def grow(mapper: Mapper, frames: Iterator[Frame], keyframes: int) -> None:
    """Feeds frames until the map has so many keyframes.

    Raises:
        InputError: the frames end before that.
    """
    progress = sys.stderr.isatty()
    for frame in frames:
        mapper.register_frame(frame)
        count = len(mapper.map.keyframes)
        if progress:
            print(f"\r\033[Kmapping: frame {frame.id + 1}, {count} keyframes", end="", file=sys.stderr, flush=True)
        if count >= keyframes:
            break
    else:
        raise InputError(
            f"The sequence gave {len(mapper.map.keyframes)} keyframes, not {keyframes}; take one of more frames or a longer way."
        )
    if progress:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def newest_part(grown: KeyframeMap, keyframes: int) -> KeyframeMap:
    """A copy of the newest keyframes, the edges among them and their frames, packed as in a saved map."""
    part, newest = KeyframeMap(), list(grown.keyframes)[-keyframes:]
    for keyframe_id in newest:
        known = grown.keyframes[keyframe_id]
        copied = replace(known, X=known.X.clone(), conf=known.conf.clone(), features=None)
        retire(copied)
        part.add_keyframe(copied)
    chosen = set(newest)
    for edge in grown.edges:
        if edge.i in chosen and edge.j in chosen:
            part.add_edge(edge)
    for index in range(len(grown.frames)):
        if grown.frames[index].keyframe_id in chosen:
            part.frames.append(grown.frames[index])
    part.scale = grown.scale
    return part


def storage_bytes(tensor: torch.Tensor) -> int:
    """Of the memory that a tensor keeps alive, which is more than its own where it is a part of another."""
    return tensor.untyped_storage().nbytes()
