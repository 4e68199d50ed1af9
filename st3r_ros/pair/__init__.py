# SPDX-License-Identifier: Apache-2.0
"""Pair models: two images in, their common geometry out. `load_pair_model` loads one by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from st3r_ros.config import MASt3RPairConfig, OpenCVPairConfig
from st3r_ros.errors import ConfigError

if TYPE_CHECKING:
    from st3r_ros.types import PairModel

PAIR_MODELS = ("opencv", "mast3r")


def load_pair_model(
    name: str, checkpoint: str = "", *, opencv: OpenCVPairConfig | None = None, mast3r: MASt3RPairConfig | None = None
) -> PairModel:
    """The pair model called `name`, ready to use; "mast3r" runs the networks of MASt3R and DUSt3R.

    checkpoint: the weights, "" for a model without: see `checkpoints.sources.locate`.

    Raises:
        ConfigError: an unknown name, a missing or superfluous checkpoint, or an unavailable device.
        CheckpointError: the checkpoint cannot be used.
        DeviceMemoryError: it does not fit on the GPU.
    """
    if name not in PAIR_MODELS:
        raise ConfigError(f"pair_model is '{name}'; it must be one of: {', '.join(PAIR_MODELS)}.")
    if name == "mast3r":
        from st3r_ros.pair.mast3r.load import load_mast3r

        return load_mast3r(checkpoint, mast3r or MASt3RPairConfig())
    if checkpoint:
        raise ConfigError(
            f"checkpoint is '{checkpoint}', but the pair model '{name}' has no weights; set the pair model to mast3r, or leave "
            "the checkpoint out."
        )
    import torch  # imported here to keep the import of this module light

    from st3r_ros.pair.opencv.model import OpenCVPairModel

    # All tensors of this model and its mapping are small: threads of torch would only compete with those of OpenCV.
    torch.set_num_threads(1)
    return OpenCVPairModel(opencv or OpenCVPairConfig())
