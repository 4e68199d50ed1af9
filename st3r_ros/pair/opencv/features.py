# SPDX-License-Identifier: Apache-2.0
"""Keypoints with descriptors of one image, and the matching of two sets of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from st3r_ros.types import Features


@dataclass(eq=False)
class OpenCVFeatures(Features):
    """Keypoints (N, 2) float32 and unit RootSIFT descriptors (N, 128) float32 of the grey working image (h, w) uint8."""

    gray: np.ndarray
    keypoints: np.ndarray
    descriptors: torch.Tensor


@dataclass(frozen=True, eq=False)
class KeypointMatches:
    """Indices into the keypoints of image 0 and 1, (N,) int64 each."""

    index0: np.ndarray
    index1: np.ndarray


class KeypointDetector:
    """SIFT keypoints with RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012)."""

    def __init__(self, max_features: int) -> None:
        self._sift = cv2.SIFT_create(nfeatures=max_features, contrastThreshold=0.02, edgeThreshold=12)

    def detect(self, gray: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        """Keypoints (N, 2) float32 and descriptors (N, 128) float32 of a grey image (h, w) uint8; N may be 0."""
        keypoints, descriptors = self._sift.detectAndCompute(gray, None)
        if descriptors is None:
            return np.zeros((0, 2), np.float32), torch.zeros((0, 128))
        root = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12))
        return cv2.KeyPoint_convert(keypoints), torch.from_numpy(root)


def match_keypoints(descriptors0: torch.Tensor, descriptors1: torch.Tensor, ratio: float) -> KeypointMatches:
    """Mutual nearest neighbours that pass the ratio test (Lowe, IJCV 2004).

    descriptors0, descriptors1: (N0, D), (N1, D) float32 of unit length. ratio: largest quotient of the best and the second
    best distance.
    """
    if len(descriptors0) < 2 or len(descriptors1) < 2:
        return KeypointMatches(np.zeros(0, np.int64), np.zeros(0, np.int64))
    similarity = descriptors0 @ descriptors1.T
    best, nearest1 = similarity.max(1)
    nearest0 = similarity.argmax(0)
    rows = torch.arange(len(descriptors0))
    similarity[rows, nearest1] = -1.0
    second = similarity.amax(1)
    distinct = (1.0 - best).clamp_min(0.0) < ratio**2 * (1.0 - second)
    kept = (nearest0[nearest1] == rows) & distinct
    return KeypointMatches(rows[kept].numpy(), nearest1[kept].numpy())
