# SPDX-License-Identifier: Apache-2.0
"""A frame with calibration and mask, and maps of one keyframe."""

import dataclasses

import numpy as np
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Frame, Keyframe


def masked_frame(room) -> Frame:
    """Of the room from its home; the upper quarter is masked."""
    h, w = room.camera.height, room.camera.width
    mask = np.ones((h, w), bool)
    mask[: h // 4] = False
    return dataclasses.replace(room.frame(room.home.inverse() @ room.home), mask=mask)


def map_of(camera: Camera, *, known: bool = True, lens: Camera | None = None) -> KeyframeMap:
    """A map of one keyframe."""
    h, w = camera.height, camera.width
    image, X, conf = np.zeros((h, w, 3), np.uint8), torch.zeros(h, w, 3), torch.zeros(h, w)
    made = KeyframeMap()
    made.add_keyframe(Keyframe(0, 0, 0, Sim3.identity(), X, conf, image, camera.K, K_known=known, lens=lens))
    return made
