# SPDX-License-Identifier: Apache-2.0
"""The pair model without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from st3r_ros.errors import ConfigError
from st3r_ros.pair.opencv.config import OpenCVPairConfig

if TYPE_CHECKING:
    from st3r_ros.pair.opencv.features import OpenCVFeatures
    from st3r_ros.types import PairModel


def load_model(checkpoint: str, config: OpenCVPairConfig) -> PairModel[OpenCVFeatures]:
    """The model. Raises ConfigError when a checkpoint is given."""
    if checkpoint:
        raise ConfigError(
            f"checkpoint is '{checkpoint}', but the pair model 'opencv' has no weights; set the pair model to mast3r, or leave "
            "the checkpoint out."
        )
    from st3r_ros.pair.opencv.model import OpenCVPairModel

    return OpenCVPairModel(config)
