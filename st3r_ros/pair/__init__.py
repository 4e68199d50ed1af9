# SPDX-License-Identifier: Apache-2.0
"""Pair models: two images in, their common geometry out. `load_pair_model` makes one by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from st3r_ros.config import OpenCVPairConfig
from st3r_ros.errors import ConfigError

if TYPE_CHECKING:
    from st3r_ros.types import PairModel

PAIR_MODELS = ("opencv",)


def load_pair_model(name: str, config: OpenCVPairConfig | None = None, checkpoint: str = "") -> PairModel:
    """The pair model called `name`, ready to use.

    checkpoint: file with the model's weights, "" for none. Raises ConfigError for an unknown name, a checkpoint that does not
    exist, or one given to a model without weights.
    """
    if checkpoint and not Path(checkpoint).exists():
        raise ConfigError(f"checkpoint is '{checkpoint}', which does not exist; give the path of a weight file, or leave it out.")
    if name not in PAIR_MODELS:
        raise ConfigError(f"pair_model is '{name}'; it must be one of: {', '.join(PAIR_MODELS)}.")
    if checkpoint:
        raise ConfigError(f"checkpoint is '{checkpoint}', but the pair model '{name}' has no weights; leave the checkpoint out.")
    import torch  # here, so that naming a model imports nothing heavy

    from st3r_ros.pair.opencv.model import OpenCVPairModel

    # Every tensor of this model and of the mapping with it is small: threads of torch would only wait for those of OpenCV.
    torch.set_num_threads(1)
    return OpenCVPairModel(config or OpenCVPairConfig())
