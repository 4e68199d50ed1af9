# SPDX-License-Identifier: Apache-2.0
"""Matches of two images: by optical flow between close views, by descriptors otherwise."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from scipy.spatial import cKDTree

from st3r_ros.pair.masks import is_usable, shrunk_mask
from st3r_ros.pair.opencv.patches import Patches
from st3r_ros.types import Features, Matches

FLOW_WINDOW = (21, 21)
MASK_MARGIN_PX = 3
FLOW_LEVELS = 4
FLOW_PROBE = 8
FLOW_PROBE_SURVIVAL = 0.08
SAME_POINT_PX = 0.1
"""From a seed, for a point that was followed the last time."""


@dataclass(eq=False)
class OpenCVFeatures(Features):
    """The grey working image (h, w) uint8 and its features, computed when first needed.

    points: (N, 2) float32 corners to follow by optical flow, with their patches. keypoints: (M, 2) float32 with unit descriptors
    (M, 128) float32.
    """

    gray: np.ndarray
    points: np.ndarray | None = None
    patches: Patches | None = None
    keypoints: np.ndarray | None = None
    descriptors: torch.Tensor = field(default_factory=lambda: torch.zeros((0, 128)))


@dataclass(frozen=True, eq=False)
class PixelPairs:
    """Putative matches: pixels0, pixels1 (N, 2) float32, and the maximum number there could be."""

    pixels0: np.ndarray
    pixels1: np.ndarray
    possible: int

    @property
    def survival(self) -> float:
        """Share of what there could be."""
        return len(self.pixels0) / max(self.possible, 1)

    def chosen(self, kept: np.ndarray) -> Matches:
        """Some of them, by a mask (N,)."""
        pixels0, pixels1 = torch.from_numpy(self.pixels0[kept]), torch.from_numpy(self.pixels1[kept])
        return Matches(pixels0, pixels1, torch.ones(len(pixels0)), max(self.possible, 1))


class PointFinder:
    """Finds up to `max_points` corners and `max_features` described keypoints per image. Several threads may use it."""

    def __init__(self, max_points: int, max_features: int) -> None:
        self._max_points = max_points
        self._lock = threading.Lock()
        self._sift = cv2.SIFT_create(nfeatures=max_features, contrastThreshold=0.02, edgeThreshold=12)

    def detect_corners(self, features: OpenCVFeatures) -> None:
        """Corners spread over the image (Shi and Tomasi, CVPR 1994)."""
        if features.points is None:
            features.points = self._fresh_corners(features, np.zeros((0, 2), np.float32))

    def adopt(self, features: OpenCVFeatures, pixels: np.ndarray) -> None:
        """Sets `pixels` (N, 2) as the first points of the image and adds new corners between them."""
        inside = ((pixels >= 0) & (pixels <= np.array(features.gray.shape[::-1]) - 1)).all(1)
        kept = pixels[inside].astype(np.float32)
        features.points, features.patches = np.concatenate([kept, self._fresh_corners(features, kept)]), None

    def describe(self, features: OpenCVFeatures) -> None:
        """SIFT keypoints with RootSIFT descriptors."""
        with self._lock:
            if features.keypoints is not None:
                return
            keypoints, descriptors = self._sift.detectAndCompute(features.gray, _where_allowed(features))
            features.descriptors = torch.from_numpy(root_sift(descriptors))
            features.keypoints = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)

    def _fresh_corners(self, features: OpenCVFeatures, taken: np.ndarray) -> np.ndarray:
        gray, allowed = features.gray, _where_allowed(features)
        wanted = self._max_points - len(taken)
        if wanted <= 0:
            return np.zeros((0, 2), np.float32)
        distance = max(3.0, 0.4 * float(np.sqrt(gray.size / self._max_points)))
        mask = np.full(gray.shape, 255, np.uint8)
        column, row = np.rint(taken).astype(int).T
        mask[row, column] = 0
        mask = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(distance) + 1,) * 2))
        if allowed is not None:
            mask &= allowed
        found = cv2.goodFeaturesToTrack(gray, wanted, 0.003, distance, mask=mask)
        return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _where_allowed(features: OpenCVFeatures) -> np.ndarray | None:
    """Where features may be found, (h, w) uint8; None for everywhere."""
    return None if features.mask is None else shrunk_mask(features.mask, MASK_MARGIN_PX)


def root_sift(descriptors: np.ndarray | None) -> np.ndarray:
    """Unit RootSIFT descriptors (N, 128) float32 of SIFT keypoints (Arandjelovic and Zisserman, CVPR 2012)."""
    if descriptors is None:
        return np.zeros((0, 128), np.float32)
    return np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-12))


def follow_points(features0: OpenCVFeatures, features1: OpenCVFeatures, seed: Matches | None) -> PixelPairs:
    """Tracks the corners of image 1 into image 0 by pyramidal optical flow (Lucas and Kanade; Bouguet 2001), and aligns patches.

    seed: approximate matches; each point starts from the displacement of the nearest one.
    """
    points1 = features1.points
    assert points1 is not None
    if len(points1) == 0:
        return PixelPairs(points1, points1, 0)
    patches1 = features1.patches
    if patches1 is None:
        patches1 = features1.patches = Patches.of(features1.gray, points1)
    guess, known = points1.copy(), 0.0
    if seed is not None and len(seed):
        seed1, seed0 = seed.pixels1.cpu().numpy(), seed.pixels0.cpu().numpy()
        distance, nearest = cKDTree(seed1).query(points1)
        guess += (seed0 - seed1)[nearest]
        known = float((distance < SAME_POINT_PX).mean())
    if len(points1) > 10 * FLOW_PROBE and known < FLOW_PROBE_SURVIVAL:
        # Views too far apart, for which the search is slowest, are detected with a few points.
        some = slice(None, None, FLOW_PROBE)
        probe = _follow(features0, features1.gray, points1[some], patches1[some], guess[some])
        if len(probe.pixels0) < FLOW_PROBE_SURVIVAL * probe.possible:
            return PixelPairs(points1[:0], points1[:0], len(points1))
    return _follow(features0, features1.gray, points1, patches1, guess)


def _follow(
    features0: OpenCVFeatures, gray1: np.ndarray, points1: np.ndarray, patches1: Patches, guess: np.ndarray
) -> PixelPairs:
    """The points that flow tracks into image 0, and that look the same there."""
    gray0 = features0.gray
    last = np.array(gray0.shape[::-1]) - 1
    followed, found = _flow(gray1, gray0, np.ascontiguousarray(points1), np.ascontiguousarray(guess))
    found = np.flatnonzero(found & ((followed >= 0) & (followed <= last)).all(1))
    aligned = patches1[found].aligned(gray0, followed[found])
    inside = ((aligned.pixels >= 0) & (aligned.pixels <= last)).all(1)
    kept = aligned.found & inside & is_usable(features0.mask, np.where(inside[:, None], aligned.pixels, 0.0))
    return PixelPairs(aligned.pixels[kept], points1[found[kept]], len(points1))


def _flow(source: np.ndarray, target: np.ndarray, points: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 2) float32 in `target` of the points of `source`, and which of them were found (N,) bool."""
    followed, status, _ = cv2.calcOpticalFlowPyrLK(
        source,
        target,
        points,
        guess,
        winSize=FLOW_WINDOW,
        maxLevel=FLOW_LEVELS,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.02),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return followed, status.ravel() > 0


def match_keypoints(features0: OpenCVFeatures, features1: OpenCVFeatures, ratio: float) -> PixelPairs:
    """Mutual nearest neighbours of the descriptors that pass the ratio test (Lowe, IJCV 2004).

    ratio: largest quotient of the best and the second best distance. Both images must have descriptors.
    """
    assert features0.keypoints is not None and features1.keypoints is not None
    possible = min(len(features0.keypoints), len(features1.keypoints))
    if possible < 2:
        return PixelPairs(features0.keypoints[:0], features1.keypoints[:0], possible)
    similarity = features0.descriptors @ features1.descriptors.T
    best, nearest1 = similarity.max(1)
    nearest0 = similarity.argmax(0)
    rows = torch.arange(len(similarity))
    similarity[rows, nearest1] = -1.0
    second = similarity.amax(1)
    distinct = (1.0 - best).clamp_min(0.0) < ratio**2 * (1.0 - second)
    kept = (nearest0[nearest1] == rows) & distinct
    return PixelPairs(features0.keypoints[rows[kept].numpy()], features1.keypoints[nearest1[kept].numpy()], possible)
