# SPDX-License-Identifier: Apache-2.0
"""Global image descriptors from SIFT features at half size: the dot product of two is the similarity of the places.

Half of the usual working size keeps the features that are repeatable under other distances and light, in a fifth of the time.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np
import torch

from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.pair.masks import shrunk_mask
from st3r_ros.pair.opencv.features import MASK_MARGIN_PX, root_sift
from st3r_ros.pair.opencv.vocabulary import Vocabulary, shipped_vocabulary

PLACE_IMAGE_SIZE = 320  # longer side, pixels
MAX_FEATURES = 600


class PlaceDescriber:
    """Describes images by their visual words."""

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self._vocabulary = vocabulary or shipped_vocabulary()
        self._sift, self._lock = place_features(), threading.Lock()

    def describe(self, gray: np.ndarray, mask: np.ndarray | None = None) -> torch.Tensor:
        """Descriptor (D,) float32 of unit length of a grey image (h, w) uint8.

        Zero when the image has no features.
        """
        with self._lock:
            descriptors = local_descriptors(self._sift, gray, mask)
        return self._vocabulary.aggregate(torch.from_numpy(descriptors))


def place_features() -> cv2.SIFT:
    """The detector for `local_descriptors`."""
    return cv2.SIFT_create(nfeatures=MAX_FEATURES, contrastThreshold=0.02, edgeThreshold=12)


def local_descriptors(sift: cv2.SIFT, gray: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """RootSIFT descriptors (N, 128) float32 of a grey image (h, w) uint8. mask: (h, w) bool, where features may be; None: all."""
    h, w = gray.shape
    scale = PLACE_IMAGE_SIZE / max(h, w)
    if scale < 1.0:
        gray = cv2.resize(gray, (max(1, round(w * scale)), max(1, round(h * scale))), interpolation=cv2.INTER_AREA)
    allowed = None
    if mask is not None:
        allowed = shrunk_mask(resized_mask(mask, gray.shape[1], gray.shape[0]), MASK_MARGIN_PX)
    return root_sift(sift.detectAndCompute(gray, allowed)[1])
