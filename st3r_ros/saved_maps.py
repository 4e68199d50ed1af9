# SPDX-License-Identifier: Apache-2.0
"""Opens a saved map to continue it, or to localize in it, with a pair model."""

from __future__ import annotations

from st3r_ros.errors import MapFileError
from st3r_ros.maps.format import MapInfo
from st3r_ros.maps.load import SavedMap, load_map


def open_map(folder: str, pair_model: str, checkpoint_sha256: str) -> SavedMap:
    """Loads a map for a pair model and its weights ("" for none).

    Raises:
        MapFileError: it cannot be loaded, or was made with others.
    """
    try:
        saved = load_map(folder)
    except OSError as error:  # an invalid path
        raise MapFileError(f"'{folder[:200]}' cannot be read: {error.strerror}.") from error
    check_model(saved.info, pair_model, checkpoint_sha256)
    return saved


def check_model(info: MapInfo, pair_model: str, checkpoint_sha256: str) -> None:
    """Raises MapFileError unless the map was made with this pair model and these weights."""
    if info.pair_model != pair_model:
        raise MapFileError(
            f"The map was made with the pair model '{info.pair_model}', but this run uses '{pair_model}'; choose the pair model "
            f"'{info.pair_model}', or begin a new map."
        )
    if info.checkpoint_sha256 != checkpoint_sha256:
        made, used = (sha256[:12] or "none" for sha256 in (info.checkpoint_sha256, checkpoint_sha256))
        raise MapFileError(
            f"The map was made with other weights (SHA-256 {made}...) than those of this run ({used}...); give the checkpoint "
            "that the map was made with, or begin a new map."
        )
