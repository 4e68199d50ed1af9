# SPDX-License-Identifier: Apache-2.0
"""The pair model that runs MASt3R and DUSt3R checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from st3r_ros.pair.mast3r.config import MASt3RPairConfig

if TYPE_CHECKING:
    from st3r_ros.pair.mast3r.inference import MASt3RFeatures
    from st3r_ros.types import PairModel


def load_model(checkpoint: str, config: MASt3RPairConfig) -> PairModel[MASt3RFeatures]:
    """The model with the network of a checkpoint: see `load.load_mast3r`."""
    from st3r_ros.pair.mast3r.load import load_mast3r

    return load_mast3r(checkpoint, config)
