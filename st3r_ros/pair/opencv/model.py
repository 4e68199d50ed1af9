# SPDX-License-Identifier: Apache-2.0
"""The pair model without weights: optical flow or SIFT matches, essential matrix, triangulation, semi-global stereo.

Needs no GPU; its maps are up to scale.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from st3r_ros.geometry.pixels import grid_axes, rays
from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.triangulation import triangulate
from st3r_ros.geometry.two_view import TwoViewGeometry, classify_matches, estimate_two_view
from st3r_ros.pair.masks import claimed, filled
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.pair.opencv.features import OpenCVFeatures, PixelPairs, PointFinder, follow_points, match_keypoints
from st3r_ros.pair.opencv.place import PlaceDescriber
from st3r_ros.pair.opencv.stereo import DenseDepth, interpolated_depth, rectify, semi_global_depth
from st3r_ros.pair.reconstruction import Reconstruction, Stage, reconstruct_by_prediction
from st3r_ros.types import Frame, Matches, ModelTraits, PairPrediction

PIXEL_SIGMA = 1.0
STEREO_SCALE = 0.6
MAX_CONF = 25.0
FLOW_SUCCESS = 0.7
FLOW_SURVIVAL, UNSEEDED_SURVIVAL = 0.1, 0.6
"""Minimum share of corners that flow must track. Without a seed and below it, half of the tracks may be wrong and still agree
with one epipolar geometry."""
SURE_SURVIVAL = 0.2
"""With fewer corners descriptors are matched as well, and the larger number of matches decides."""
CORNERS_ENOUGH = 0.75
"""Minimum number of corners that the descriptors' matches lead to, as a share of these."""
CONFIRMED = 0.9
"""Minimum share of the descriptors' matches that agree with the geometry of the corners they led to."""


@dataclass(frozen=True, eq=False)
class _Search:
    """How the geometry of matches is found: they are compared with a known pose, or searched for one, well or quickly."""

    T_0_1: SE3 | None = None
    quick: bool = False

    def geometry(self, rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int) -> TwoViewGeometry | None:
        """Of matched rays (N, 3); None when too few agree."""
        if self.T_0_1 is None:
            return estimate_two_view(rays0, rays1, threshold, min_matches, quick=self.quick)
        return classify_matches(self.T_0_1, rays0, rays1, 2 * threshold, min_matches)


@dataclass(frozen=True, eq=False)
class _View:
    """Putative matches and the geometry that most of them agree with, if any."""

    pairs: PixelPairs
    geometry: TwoViewGeometry | None

    @property
    def count(self) -> int:
        return int(self.geometry.inliers.sum()) if self.geometry else 0

    @property
    def matches(self) -> Matches:
        """Those that agree with the geometry; none without."""
        return self.pairs.chosen(self.geometry.inliers if self.geometry else np.zeros(len(self.pairs.pixels0), bool))


class OpenCVPairModel:
    """Follows the `PairModel` protocol."""

    name = "opencv"

    def __init__(self, config: OpenCVPairConfig) -> None:
        self._config = config
        # All tensors of this model and its mapping are small: threads of torch would only compete with those of OpenCV.
        self.traits = ModelTraits(
            metric=False,
            monocular_depth=False,
            relative_depth_sigma=0.05,
            place_similarity=0.08,
            place_lift=0.02,
            assumed_fov_deg=config.assumed_fov_deg,
            torch_threads=1,
        )
        self._finder = PointFinder(config.max_points, config.max_features)
        self._places = PlaceDescriber()

    def encode(self, frame: Frame) -> OpenCVFeatures:
        """Working image and intrinsics of an undistorted frame; its features are computed when first needed."""
        h, w = frame.image.shape[:2]
        scale = min(1.0, self._config.image_size / max(h, w))
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        image = frame.image if scale == 1.0 else cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
        K = np.array(frame.camera.scaled(*size).K) if frame.camera else self._assumed_intrinsics(*size)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if frame.mask is None:
            return OpenCVFeatures(image, K, frame.camera is not None, gray)
        mask = resized_mask(frame.mask, *size)
        return OpenCVFeatures(image, K, frame.camera is not None, filled(gray, mask), mask=mask)

    def adopt(self, features: OpenCVFeatures, pixels: torch.Tensor) -> None:
        """Later matches with this image start from `pixels` (N, 2), the known map points, and from new corners."""
        self._finder.adopt(features, pixels.cpu().numpy())

    def describe(self, features: OpenCVFeatures) -> torch.Tensor:
        """Global descriptor (D,) float32 of unit length, for finding images of the same place by dot product."""
        return self._places.describe(features.gray, features.mask)

    def predict(
        self,
        features0: OpenCVFeatures,
        features1: OpenCVFeatures,
        *,
        T_0_1: SE3 | None = None,
        seed: Matches | None = None,
        dense: bool = True,
        verified: bool = True,
    ) -> PairPrediction:
        """Matches of one epipolar geometry and, if `dense`, pointmaps in the scale of `T_0_1` (length 1 without it).

        verified: where False, corners that a seed leads to are not searched for a geometry, if enough of them are found; and
        where there is none, the search is quick.
        """
        followed, quick = self._followed(features0, features1, seed), not (verified or dense)
        if quick and followed is not None and seed is not None and followed.survival >= SURE_SURVIVAL:
            return PairPrediction(followed.chosen(np.ones(len(followed.pixels0), bool)), math.nan, putative=True)
        view = self._match(features0, features1, _Search(T_0_1, quick), followed)
        matches = view.matches
        parallax_deg = view.geometry.parallax_deg if view.geometry else 0.0
        if not dense:
            return PairPrediction(matches, parallax_deg)
        depth0, depth1 = self._dense(features0, features1, view.geometry, matches)
        T = view.geometry.T_0_1 if view.geometry else SE3.identity()
        X_0_0, conf0 = self._pointmap(depth0, features0.K)
        X_1_1, conf1 = self._pointmap(depth1, features1.K)
        X_0_1 = X_1_1 @ T.rotation.T.astype(np.float32) + T.translation.astype(np.float32)
        X_0_0, X_0_1, conf0, conf1 = (torch.from_numpy(a) for a in (X_0_0, X_0_1, conf0, conf1))
        conf0, conf1 = claimed(conf0, features0.mask), claimed(conf1, features1.mask)
        return PairPrediction(matches, parallax_deg, X_0_0, X_0_1, conf0, conf1)

    def reconstruct(
        self, image0: np.ndarray, image1: np.ndarray | None = None, *, fine: bool = False, stage: Stage = nullcontext
    ) -> Reconstruction:
        """Both orders of a pair; always at working size."""
        return reconstruct_by_prediction(self, image0, image1, stage)

    def _match(self, features0: OpenCVFeatures, features1: OpenCVFeatures, search: _Search, followed: PixelPairs | None) -> _View:
        """The followed corners of image 1; descriptors where most of them have no common geometry.

        Descriptors match other pixels than the corners, of which a keyframe knows the depths; so the corners are followed once
        more from where the descriptors' matches lead, and taken if they are not far fewer and both agree on the geometry.
        """
        near = self._corners_view(features0, features1, search, followed)
        if near is not None and near.count >= SURE_SURVIVAL * near.pairs.possible:
            return near
        self._finder.describe(features0)
        self._finder.describe(features1)
        far = self._view(match_keypoints(features0, features1, self._config.match_ratio), features0.K, features1.K, search)
        if near is not None and near.count >= far.count:
            return near
        if far.count < self._config.min_matches:
            return _View(far.pairs, None)
        near = self._corners_view(features0, features1, search, self._followed(features0, features1, far.matches))
        if near is None or near.geometry is None or near.count < CORNERS_ENOUGH * far.count:
            return far
        agreed = self._view(far.pairs, features0.K, features1.K, _Search(near.geometry.T_0_1))
        return near if agreed.count >= CONFIRMED * far.count else far

    def _followed(self, features0: OpenCVFeatures, features1: OpenCVFeatures, seed: Matches | None) -> PixelPairs | None:
        """The corners of image 1 where optical flow leads; None when too few are found."""
        if features0.gray.shape != features1.gray.shape:  # needed by optical flow
            return None
        self._finder.detect_corners(features1)
        followed = follow_points(features0, features1, seed)
        survival = FLOW_SURVIVAL if seed is not None else UNSEEDED_SURVIVAL
        enough = followed.survival >= survival and len(followed.pixels0) >= 3 * self._config.min_matches
        return followed if enough else None

    def _corners_view(
        self, features0: OpenCVFeatures, features1: OpenCVFeatures, search: _Search, followed: PixelPairs | None
    ) -> _View | None:
        """The view by followed corners; None without any, or when too few agree."""
        view = None if followed is None else self._view(followed, features0.K, features1.K, search)
        return view if view is not None and view.count >= FLOW_SUCCESS * len(view.pairs.pixels0) else None

    def _view(self, pairs: PixelPairs, K0: np.ndarray, K1: np.ndarray, search: _Search) -> _View:
        threshold = self._config.epipolar_threshold_px / K0[0, 0]
        geometry = search.geometry(rays(pairs.pixels0, K0), rays(pairs.pixels1, K1), threshold, self._config.min_matches)
        return _View(pairs, geometry)

    def _dense(
        self,
        features0: OpenCVFeatures,
        features1: OpenCVFeatures,
        geometry: TwoViewGeometry | None,
        matches: Matches,
    ) -> tuple[DenseDepth, DenseDepth]:
        """Depth of every pixel where it can be determined; none without parallax."""
        shape0, shape1 = features0.gray.shape, features1.gray.shape
        if geometry is None or geometry.parallax_deg < self._config.min_parallax_deg:
            return _no_depth(shape0), _no_depth(shape1)
        rays0, rays1 = rays(matches.pixels0.numpy(), features0.K), rays(matches.pixels1.numpy(), features1.K)
        sparse = triangulate(rays0, rays1, geometry.T_0_1)
        seen = (sparse.depth0 > 0) & (sparse.depth1 > 0) & (sparse.parallax > math.radians(0.3 * geometry.parallax_deg))
        pixels0, pixels1 = matches.pixels0.numpy()[seen], matches.pixels1.numpy()[seen]
        if len(pixels0) < self._config.min_matches:
            return _no_depth(shape0), _no_depth(shape1)
        near, far = np.percentile(sparse.depth0[seen], [1, 99])
        plane = rectify(features0.K, features1.K, geometry.T_0_1, shape0, STEREO_SCALE) if shape0 == shape1 else None
        pair = semi_global_depth(features0.gray, features1.gray, plane, geometry.T_0_1, near, far) if plane is not None else None
        if pair is None:
            pair = (
                interpolated_depth(pixels0, sparse.depth0[seen], shape0),
                interpolated_depth(pixels1, sparse.depth1[seen], shape1),
            )
        sigma = PIXEL_SIGMA / features0.K[0, 0] / np.maximum(sparse.parallax[seen], 1e-6)
        _burn_in(pair[0], pixels0, sparse.depth0[seen], sigma)
        _burn_in(pair[1], pixels1, sparse.depth1[seen], sigma)
        return pair

    def _pointmap(self, dense: DenseDepth, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(h, w, 3) float32 points in the image's own camera and (h, w) float32 confidence."""
        x, y = (axis.astype(np.float32) for axis in grid_axes(K, *dense.depth.shape[::-1]))
        X = np.stack([dense.depth * x, dense.depth * y, dense.depth], axis=-1)
        conf = np.minimum((self.traits.relative_depth_sigma / np.maximum(dense.sigma, 1e-6)) ** 2, MAX_CONF)
        return X, np.where(dense.depth > 0, conf, 0.0).astype(np.float32)

    def _assumed_intrinsics(self, width: int, height: int) -> np.ndarray:
        focal = 0.5 * width / math.tan(math.radians(self._config.assumed_fov_deg) / 2)
        return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def _no_depth(shape: tuple[int, int]) -> DenseDepth:
    return DenseDepth(np.zeros(shape, np.float32), np.ones(shape, np.float32))


def _burn_in(dense: DenseDepth, pixels: np.ndarray, depth: np.ndarray, sigma: np.ndarray) -> None:
    """Replaces dense depths by the more accurate depths of matches at their pixels."""
    column, row = np.rint(pixels).astype(int).T
    dense.depth[row, column] = depth
    dense.sigma[row, column] = sigma
