# SPDX-License-Identifier: Apache-2.0
"""Saved maps in `st3r map`: continued, localized in, saved at the end."""

from __future__ import annotations

from pathlib import Path

from st3r_ros.commands.byte_progress import megabytes
from st3r_ros.config import MapCommandConfig
from st3r_ros.errors import ConfigError
from st3r_ros.maps.save import check_map_folder
from st3r_ros.maps.staging import resolved
from st3r_ros.saved_maps import keep_map
from st3r_ros.slam.keyframes.frame_log import FrameLog
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap


def check_map_options(config: MapCommandConfig) -> None:
    """Checks the options before the mapping starts.

    Raises:
        ConfigError: options contradict each other.
        OutputError: the map cannot be saved in the requested place.
    """
    if config.localize_only and not config.map:
        raise ConfigError("localize_only needs a saved map: give its folder with --map.")
    if not config.save_map:
        return
    if config.localize_only:
        raise ConfigError(f"save_map is '{config.save_map}', but with localize_only the map does not change; omit one of them.")
    if resolved(config.save_map) in (resolved(config.out), *resolved(config.out).parents):
        raise ConfigError(f"save_map is '{config.save_map}', which would contain the results; give the map its own folder.")
    check_map_folder(config.save_map)


def with_frames_from(keyframe_map: KeyframeMap, first: int) -> KeyframeMap:
    """The same map with only the frames of this run, from number `first` on."""
    if first == 0:
        return keyframe_map
    result, frames = KeyframeMap(), keyframe_map.frames
    for keyframe in keyframe_map.keyframes.values():
        result.add_keyframe(keyframe)
    for edge in keyframe_map.edges:
        result.add_edge(edge)
    result.frames = FrameLog.of(
        frames.frame_ids[first:], frames.stamps_ns[first:], frames.keyframe_ids[first:], frames.T_kf_cam[first:]
    )
    result.scale, result.T_map_world = keyframe_map.scale, keyframe_map.T_map_world
    return result


def save_for_later(keyframe_map: KeyframeMap, pair_model: str, config: MapCommandConfig) -> None:
    """Saves the map, if requested and not empty, and prints a message."""
    if not config.save_map:
        return
    if not keyframe_map.frames:
        print(f"No map is saved in {config.save_map}: the map is empty.")
        return
    saved = keep_map(config.save_map, keyframe_map, pair_model, config.checkpoint)
    print(f"Saved the map in {Path(config.save_map)}: {saved.keyframes} keyframes, {megabytes(saved.bytes)}.")
