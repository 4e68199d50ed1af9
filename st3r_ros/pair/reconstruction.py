# SPDX-License-Identifier: Apache-2.0
"""Everything a pair model says about two images, or about one: what `st3r pair` writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.errors import ConfigError
from st3r_ros.types import Features, Frame, Matches, PairModel, PairPrediction

Stage = Callable[[str], AbstractContextManager[object]]
"""Measures the stage of that name; `contextlib.nullcontext` does not."""


@dataclass(frozen=True, eq=False)
class ReconstructedImage:
    """One image of a pair, and its pointmaps at working size.

    image: (h, w, 3) uint8. X_0: (h, w, 3) float32 in camera 0, conf: (h, w) float32, 0 = unknown.
    X_own, conf_own: the same in the image's own camera, from the order of the pair in which it comes first.
    K: (3, 3) float64 intrinsics at working size, NaN when the pointmap gives none. K_original: at the size of the file.
    """

    image: np.ndarray
    X_0: np.ndarray
    conf: np.ndarray
    X_own: np.ndarray
    conf_own: np.ndarray
    K: np.ndarray
    K_original: np.ndarray


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """images: two, or one without matches. matches: in pixels of the working images, on the CPU.

    focal_source: "pointmap", or "assumed" when the model assumes the focal length.
    """

    images: tuple[ReconstructedImage, ...]
    matches: Matches | None
    focal_source: str


def reconstruct_by_prediction(model: PairModel, image0: np.ndarray, image1: np.ndarray | None, stage: Stage) -> Reconstruction:
    """`PairModel.reconstruct` by `predict` in both orders.

    Raises:
        ConfigError: one image is given to a model that needs two.
    """
    images = [image0] if image1 is None else [image0, image1]
    if len(images) == 1 and not model.traits.monocular_depth:
        raise ConfigError(f"The pair model '{model.name}' cannot predict depth from one image; give two, or use mast3r.")
    with stage("encode"):
        features = [model.encode(Frame(id, 0, image)) for id, image in enumerate(images)]
    with stage("predict"):
        order01 = model.predict(features[0], features[-1])
        order10 = model.predict(features[-1], features[0])
    seen = (
        _reconstructed(features[0], images[0], order01.X_0_0, order01.conf0, order01),
        _reconstructed(features[-1], images[-1], order01.X_0_1, order01.conf1, order10),
    )
    return Reconstruction(seen[: len(images)], order01.matches if len(images) == 2 else None, "assumed")


def _reconstructed(
    features: Features, image: np.ndarray, X_0: torch.Tensor | None, conf: torch.Tensor | None, first: PairPrediction
) -> ReconstructedImage:
    """first: the order of the pair in which the image comes first."""
    scale = np.array(image.shape[1::-1]) / np.array(features.image.shape[1::-1])
    resize = np.array([[scale[0], 0.0, 0.5 * scale[0] - 0.5], [0.0, scale[1], 0.5 * scale[1] - 0.5], [0.0, 0.0, 1.0]])
    X_0, conf, X_own, conf_own = (as_array(x) for x in (X_0, conf, first.X_0_0, first.conf0))
    return ReconstructedImage(features.image, X_0, conf, X_own, conf_own, features.K, resize @ features.K)


def as_array(x: torch.Tensor | None) -> np.ndarray:
    """An output that was requested and is therefore not None."""
    assert x is not None
    return x.cpu().numpy()
