# SPDX-License-Identifier: Apache-2.0
"""A third pair model as somebody would add it: settings, a model, a function that loads it, and a line in the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from st3r_ros.config import Validated, setting
from st3r_ros.pair import PAIR_MODELS, PairModelKind
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.pair.opencv.features import OpenCVFeatures
from st3r_ros.pair.opencv.model import OpenCVPairModel
from st3r_ros.types import Frame


@dataclass(frozen=True)
class ToyConfig(Validated):
    """A model that sees the world as in a photographic negative."""

    white: int = setting(255, "What black becomes, grey levels.", low=128, high=255)


class ToyPairModel(OpenCVPairModel):
    """Matches negatives."""

    name = "toy"

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(OpenCVPairConfig())
        self.white = config.white

    def encode(self, frame: Frame) -> OpenCVFeatures:
        """The features of the negative; the map keeps the colours."""
        features = super().encode(replace(frame, image=self.white - frame.image.clip(max=self.white)))
        features.image = super().encode(frame).image
        return features


LOADED: list[ToyPairModel] = []
"""Every model that was loaded, the last one last."""


def load_toy(checkpoint: str, config: ToyConfig) -> ToyPairModel:
    """The model; `checkpoint` is not used."""
    LOADED.append(ToyPairModel(config))
    return LOADED[-1]


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the model for the rest of a test."""
    monkeypatch.setitem(PAIR_MODELS, "toy", PairModelKind(ToyConfig, load_toy))
