# SPDX-License-Identifier: Apache-2.0
"""A reference image for relocalization, with or without depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from st3r_ros.geometry.pixels import pixel_grid, rays
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.undistortion import Undistorter
from st3r_ros.types import Features, Frame, Keyframe

MEASURED_DEPTH_SIGMA = 0.01
"""Relative error of a given depth: of its sensor and of its alignment with the image."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference image.

    keyframe: with the depth that was given with it, None without. distance: (h, w) of its pixels' points as the model sees them
    in this image alone, None where it sees none.
    """

    name: str
    features: Features
    T_ref_cam: SE3
    keyframe: Keyframe | None
    distance: torch.Tensor | None


def measured_keyframe(frame: Frame, features: Features, depth: np.ndarray, depth_sigma: float) -> Keyframe:
    """A reference with measured depth (H, W) metres, as a keyframe at the origin."""
    h, w = features.image.shape[:2]
    assert frame.camera is not None
    depth = Undistorter(frame.camera).rectify(depth, nearest=True)
    # An average over an edge would be a wrong depth.
    depth = cv2.resize(np.nan_to_num(depth.astype(np.float32), posinf=0.0, neginf=0.0), (w, h), interpolation=cv2.INTER_NEAREST)
    X = rays(pixel_grid(w, h), features.K) * depth[..., None]
    conf = np.where(
        (depth > 0) & (True if features.mask is None else features.mask), (depth_sigma / MEASURED_DEPTH_SIGMA) ** 2, 0.0
    )
    return Keyframe(
        id=0,
        frame_id=frame.id,
        stamp_ns=frame.stamp_ns,
        T_world_cam=SE3.identity().sim3(1.0),
        X=torch.from_numpy(X.astype(np.float32)),
        conf=torch.from_numpy(conf.astype(np.float32)),
        image=features.image,
        K=features.K,
        features=features,
        mask=features.mask,
    )
