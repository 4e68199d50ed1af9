# SPDX-License-Identifier: Apache-2.0
"""Pair models: two images in, their common geometry out. `PAIR_MODELS` is their registry, `load_pair_model` loads one by name.

Each model has its folder here. A new one is added by its folder, with a dataclass of settings and a function that loads it, and a
line in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from st3r_ros.config import Validated
from st3r_ros.errors import ConfigError
from st3r_ros.pair import mast3r, opencv

if TYPE_CHECKING:
    from st3r_ros.types import PairModel


class PairModelKind(NamedTuple):
    """config: the settings, none of them live: a model is loaded once. load: the model with a checkpoint ("" for none) and
    settings; it imports what is heavy.
    """

    config: type[Validated]
    load: Callable[[str, Any], PairModel]


PAIR_MODELS = {
    "opencv": PairModelKind(opencv.OpenCVPairConfig, opencv.load_model),
    "mast3r": PairModelKind(mast3r.MASt3RPairConfig, mast3r.load_model),
}
"""Every pair model by its name, which is also the name of its group of settings. The parameters of the nodes, `st3r settings`,
the files in config/ and docs/reference.md follow from it."""


def with_pair_models(groups: Mapping[str, type[Validated]]) -> dict[str, type[Validated]]:
    """Groups of settings, and those of every pair model."""
    return {**groups, **{name: kind.config for name, kind in PAIR_MODELS.items()}}


def load_pair_model(name: str, checkpoint: str = "", config: Validated | None = None) -> PairModel:
    """The pair model called `name`, ready to use.

    checkpoint: the weights, "" for a model without: see `checkpoints.sources.locate`. config: the settings, by default theirs.

    Raises:
        ConfigError: an unknown name, a missing or superfluous checkpoint, or an unavailable device.
        CheckpointError: the checkpoint cannot be used.
        DeviceMemoryError: it does not fit on the GPU.
    """
    if name not in PAIR_MODELS:
        raise ConfigError(f"pair_model is '{name}'; it must be one of: {', '.join(PAIR_MODELS)}.")
    kind = PAIR_MODELS[name]
    return kind.load(checkpoint, config or kind.config())
