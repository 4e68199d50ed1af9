# SPDX-License-Identifier: Apache-2.0
"""Saved maps with the pair model and the weights that made them: opened, to continue them or to localize in them, and saved."""

from __future__ import annotations

from st3r_ros.checkpoints.sources import weights_sha256
from st3r_ros.errors import MapFileError, OutputError
from st3r_ros.maps.format import MapInfo
from st3r_ros.maps.load import SavedMap, load_map
from st3r_ros.maps.save import save_map
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap


def open_map(folder: str, pair_model: str, checkpoint: str) -> SavedMap:
    """Loads a map for a pair model and the weights that `checkpoint` names, "" for none.

    Raises:
        CheckpointError: the weights cannot be read.
        MapFileError: the map cannot be loaded, or was made with another model or other weights.
    """
    sha256 = weights_sha256(checkpoint)
    try:
        saved = load_map(folder)
    except OSError as error:  # an invalid path
        raise MapFileError(f"'{folder[:200]}' cannot be read: {error.strerror}.") from error
    _check_model(saved.info, pair_model, sha256)
    return saved


def keep_map(folder: str, keyframe_map: KeyframeMap, pair_model: str, checkpoint: str) -> MapInfo:
    """Saves a map for `open_map`, with the model and the weights that made it.

    Raises:
        CheckpointError: the weights cannot be read.
        OutputError: nothing was saved.
    """
    sha256 = weights_sha256(checkpoint)
    try:
        return save_map(folder, keyframe_map, pair_model=pair_model, checkpoint_sha256=sha256)
    except OSError as error:
        raise OutputError(f"'{folder[:200]}' cannot be written: {error.strerror}.") from error


def _check_model(info: MapInfo, pair_model: str, sha256: str) -> None:
    """Raises MapFileError unless the map was made with this pair model and these weights."""
    if info.pair_model != pair_model:
        raise MapFileError(
            f"The map was made with the pair model '{info.pair_model}', but this run uses '{pair_model}'; choose the pair model "
            f"'{info.pair_model}', or begin a new map."
        )
    if info.checkpoint_sha256 != sha256:
        made, used = (digest[:12] or "none" for digest in (info.checkpoint_sha256, sha256))
        raise MapFileError(
            f"The map was made with other weights (SHA-256 {made}...) than those of this run ({used}...); give the checkpoint "
            "that the map was made with, or begin a new map."
        )
