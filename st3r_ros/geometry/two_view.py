# SPDX-License-Identifier: Apache-2.0
"""The relative pose of two calibrated images from point matches, and whether they have parallax."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from st3r_ros.geometry import so3
from st3r_ros.geometry.epipolar import INDEPENDENT_PAIRS, Sampson, orthogonal, sampson, sampson_derivatives, skew
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.triangulation import triangulate
from st3r_ros.solver.damped import Estimate, Schedule, minimize

REFINEMENT = Schedule(iterations=5, share=1e-6, damping=1e-9, least=1e-9, most=1e3, retry=1e-3)
NEAR_QUARTER = 75
"""Percentile of the parallax: a scene has depth where its near part has."""
THRESHOLDS = (1.0, 0.5)
"""Shares of the threshold for RANSAC: the smaller rejects more outliers that bias the pose, the larger keeps more matches."""


@dataclass(frozen=True, eq=False)
class TwoViewGeometry:
    """T_0_1 with a translation of length 1 (or the given one), inliers (N,) bool, parallax in degrees that a quarter exceed.

    The parallax is 0 when a pure rotation explains the matches; the translation is then meaningless.
    """

    T_0_1: SE3
    inliers: np.ndarray
    parallax_deg: float


def estimate_two_view(
    rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int, *, quick: bool = False
) -> TwoViewGeometry | None:
    """Relative pose from matched rays (N, 3) with z = 1, or None when fewer than `min_matches` agree on one.

    threshold: largest distance to the epipolar line, in units of the focal length. Five points and graph-cut RANSAC
    (Nister, PAMI 2004; Barath and Matas, CVPR 2018), at two thresholds, refined on the Sampson error of all inliers.
    (OpenCV's MAGSAC misses poses that most matches agree with when many points lie on one plane.)
    quick: to tell right matches from wrong ones, not for the pose: one draw, refined once.
    """
    if len(rays0) < max(min_matches, 5):
        return None
    fits = []
    for share in THRESHOLDS[:1] if quick else THRESHOLDS:
        T = _drawn(rays0, rays1, share * threshold, min_matches, quick)
        T = None if T is None else _settled(T, rays0, rays1, threshold, min_matches, 1 if quick else 2)
        fits += [] if T is None else [T]
    if not fits:
        return None
    T_0_1 = min(fits, key=lambda T: _cost(T, rays0, rays1, threshold))
    inliers = _inliers(T_0_1, rays0, rays1, threshold)
    if _is_rotation(T_0_1, rays0[inliers], rays1[inliers], threshold):
        return TwoViewGeometry(T_0_1, inliers, 0.0)
    return TwoViewGeometry(T_0_1, inliers, _parallax_deg(T_0_1, rays0[inliers], rays1[inliers]))


def _drawn(rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int, quick: bool) -> SE3 | None:
    """The pose with the most inliers, by RANSAC."""
    x0, x1 = np.ascontiguousarray(rays0[:, :2]), np.ascontiguousarray(rays1[:, :2])
    E, mask = cv2.findEssentialMat(x1, x0, np.eye(3), method=cv2.USAC_ACCURATE, prob=0.999, threshold=threshold, maxIters=1000)
    if E is None or E.shape != (3, 3) or mask is None or mask.sum() < min_matches:
        return None
    # Of the four poses of E, two have a rotation that explains distant points; the fit tells their directions apart.
    inliers = mask.ravel() > 0
    R_a, R_b, t = cv2.decomposeEssentialMat(E)
    rotation = _fit_rotation(rays0[inliers], rays1[inliers]).R
    R = max(R_a, R_b, key=lambda R: float((R * rotation).sum()))
    starts = [SE3(R, t[:, 0]), *(() if quick else (SE3(rotation, axis) for axis in np.eye(3)))]
    return _best_fit(starts, rays0, rays1, inliers, threshold)


def _settled(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int, times: int) -> SE3 | None:
    """A pose refined on its inliers, better twice: those of the first fit contain a few outliers that bias it."""
    for _ in range(times):
        inliers = _inliers(T_0_1, rays0, rays1, threshold)
        if inliers.sum() < min_matches:
            return None
        T_0_1 = refine_pose(T_0_1, rays0, rays1, inliers, threshold)
    return T_0_1 if _inliers(T_0_1, rays0, rays1, threshold).sum() >= min_matches else None


def _cost(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> float:
    """Sum of the distances to the epipolar lines, truncated at the threshold."""
    residual = np.minimum(np.abs(_sampson(T_0_1, rays0, rays1).distance), threshold)
    return float(np.where(_inliers(T_0_1, rays0, rays1, threshold), residual, threshold).sum())


def _plane_poses(rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> list[SE3]:
    """The poses that the dominant plane allows. Malis and Vargas, Deeper understanding of the homography (2007)."""
    x0, x1 = np.ascontiguousarray(rays0[:, :2]), np.ascontiguousarray(rays1[:, :2])
    H = cv2.findHomography(x1, x0, cv2.USAC_ACCURATE, 2.0 * threshold)[0] if len(x0) >= 4 else None
    if H is None:
        return []
    _, rotations, translations, _ = cv2.decomposeHomographyMat(H, np.eye(3))
    return [SE3(R, t[:, 0]) for R, t in zip(rotations, translations, strict=True) if np.linalg.norm(t) > 1e-6]


def another_pose(
    geometry: TwoViewGeometry, rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int
) -> TwoViewGeometry | None:
    """A different pose that explains the matches equally well within their noise, or None.

    Two views of a plane, for example, have two solutions. The search starts from the poses of the best plane of the matches, and
    from the pure rotation. Different: by 3 degrees of rotation or 15 of direction.
    """
    inside0, inside1 = rays0[geometry.inliers], rays1[geometry.inliers]
    starts = [SE3(_fit_rotation(inside0, inside1).R, axis) for axis in np.eye(3)] + _plane_poses(inside0, inside1, threshold)
    limit = _cost(geometry.T_0_1, rays0, rays1, threshold) * (1.0 + 3.0 / np.sqrt(len(inside0)))
    best, least = None, limit
    for start in starts:
        T = refine_pose(start, rays0, rays1, geometry.inliers, threshold)
        for candidate in (T, SE3(T.rotation, -T.translation)):
            cost = _cost(candidate, rays0, rays1, threshold)
            if cost < least and _differ(candidate, geometry.T_0_1):
                best, least = candidate, cost
    return None if best is None else classify_matches(best, rays0, rays1, threshold, min_matches)


def _differ(a: SE3, b: SE3) -> bool:
    turn = so3.degrees(a.rotation.T @ b.rotation)
    cosine = a.translation @ b.translation / (np.linalg.norm(a.translation) * np.linalg.norm(b.translation))
    return bool(turn > 3.0 or cosine < np.cos(np.radians(15.0)))


def classify_matches(
    T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, threshold: float, min_matches: int
) -> TwoViewGeometry | None:
    """The matches (N, 3) that agree with a known relative pose, or None when fewer than `min_matches` do."""
    inliers = _inliers(T_0_1, rays0, rays1, threshold)
    if len(rays0) < min_matches or inliers.sum() < min_matches:
        return None
    return TwoViewGeometry(T_0_1, inliers, _parallax_deg(T_0_1, rays0[inliers], rays1[inliers]))


def direction_covariance(geometry: TwoViewGeometry, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    """Covariance (6, 6) of a pose whose translation has length 1, as (translation, rotation), in camera 0's axes.

    It is estimated from the epipolar distances of the inliers; along the translation itself it is 0.
    """
    R, t = geometry.T_0_1.rotation, geometry.T_0_1.translation / np.linalg.norm(geometry.T_0_1.translation)
    rays0, rays1 = rays0[geometry.inliers], rays1[geometry.inliers]
    at = _sampson(SE3(R, t), rays0, rays1)
    B = orthogonal(t)
    # E of t x exp(w) R, and of (t + B b) x R with B spanning the directions orthogonal to t.
    forms = [skew(t) @ skew(axis) @ R for axis in np.eye(3)] + [skew(direction) @ R for direction in B]
    J = sampson_derivatives(at, np.stack(forms), rays0, rays1)
    noise = (1.48 * np.median(np.abs(at.distance))) ** 2
    alike = max(1.0, len(rays0) / INDEPENDENT_PAIRS)
    small = alike * noise * np.linalg.pinv(J.T @ J, hermitian=True)
    lift = np.zeros((6, 5))
    lift[3:, :3], lift[:3, 3:] = np.eye(3), B.T
    return lift @ small @ lift.T


def _inliers(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> np.ndarray:
    """Matches near their epipolar line and in front of both cameras, (N,) bool."""
    residual = np.abs(_sampson(T_0_1, rays0, rays1).distance)
    depths = triangulate(rays0, rays1, T_0_1)
    # A ray pair that is parallel within the noise may triangulate behind the camera: it is far away, not wrong.
    in_front = ((depths.depth0 > 0) & (depths.depth1 > 0)) | (depths.parallax < 2 * threshold)
    return (residual < threshold) & in_front


def _parallax_deg(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray) -> float:
    return float(np.degrees(np.percentile(triangulate(rays0, rays1, T_0_1).parallax, NEAR_QUARTER)))


def _sampson(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray) -> Sampson:
    return sampson(skew(T_0_1.translation) @ T_0_1.rotation, rays0, rays1)


def refine_pose(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, inliers: np.ndarray, threshold: float) -> SE3:
    """The relative pose, with a translation of length 1, that fits the `inliers` (N,) of the rays (N, 3) best.

    T_0_1: an approximate pose. It minimises the Huber cost of the Sampson distances, which are outliers from half the threshold.
    """
    t = T_0_1.translation / np.linalg.norm(T_0_1.translation)
    start = _Direction.of(rays0[inliers], rays1[inliers], 0.5 * threshold, T_0_1.rotation, t)
    best = minimize(start, REFINEMENT).estimate
    return SE3(best.R, best.t)


@dataclass(frozen=True, eq=False)
class _Direction(Estimate):
    """A rotation R (3, 3) and a direction t (3,) with the distances of the rays (N, 3). width: where the Huber cost is linear."""

    rays0: np.ndarray
    rays1: np.ndarray
    width: float
    R: np.ndarray
    t: np.ndarray
    at: Sampson
    cost: float

    @staticmethod
    def of(rays0: np.ndarray, rays1: np.ndarray, width: float, R: np.ndarray, t: np.ndarray) -> _Direction:
        at = sampson(skew(t) @ R, rays0, rays1)
        distance = np.abs(at.distance)
        near = np.minimum(distance, width)
        return _Direction(rays0, rays1, width, R, t, at, float((near * (distance - 0.5 * near)).sum()))

    def stepped(self, damping: float | torch.Tensor) -> _Direction:
        """By exp(w) right of R, and by two numbers along directions orthogonal to t."""
        E, B = skew(self.t) @ self.R, orthogonal(self.t)
        forms = np.stack([*(E @ skew(axis) for axis in np.eye(3)), *(skew(direction) @ self.R for direction in B)])
        J = sampson_derivatives(self.at, forms, self.rays0, self.rays1)
        weight = np.minimum(1.0, self.width / np.maximum(np.abs(self.at.distance), 1e-12))
        H = (J * weight[:, None]).T @ J
        H += np.diag(float(damping) * H.diagonal() + 1e-9 * np.trace(H))
        step = -np.linalg.solve(H, J.T @ (weight * self.at.distance))
        t = self.t + step[3:] @ B
        return _Direction.of(self.rays0, self.rays1, self.width, self.R @ so3.exp(step[:3]), t / np.linalg.norm(t))


def _best_fit(starts: list[SE3], rays0: np.ndarray, rays1: np.ndarray, inliers: np.ndarray, threshold: float) -> SE3:
    """The best of several refinements: with little parallax rotation and sideways motion are similar, and one may diverge."""
    fits = [refine_pose(start, rays0, rays1, inliers, threshold) for start in starts]
    costs = [np.minimum(np.abs(_sampson(fit, rays0, rays1).distance), threshold).sum() for fit in fits]
    best = fits[int(np.argmin(costs))]
    opposite = SE3(best.rotation, -best.translation)
    ahead, behind = (_in_front(T, rays0[inliers], rays1[inliers]) for T in (best, opposite))
    return best if ahead >= behind else opposite


def _in_front(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray) -> int:
    depths = triangulate(rays0, rays1, T_0_1)
    return int(((depths.depth0 > 0) & (depths.depth1 > 0)).sum())


@dataclass(frozen=True, eq=False)
class _RotationFit:
    """R (3, 3) rotates camera 1's rays to camera 0's; distance (N,): remaining angle between the rays, radians."""

    R: np.ndarray
    distance: np.ndarray


def _fit_rotation(rays0: np.ndarray, rays1: np.ndarray) -> _RotationFit:
    """The single rotation that explains most matches (least absolute distances)."""
    unit0 = rays0 / np.linalg.norm(rays0, axis=1, keepdims=True)
    unit1 = rays1 / np.linalg.norm(rays1, axis=1, keepdims=True)
    R, distance, weight = np.eye(3), np.zeros(len(unit0)), np.ones(len(unit0))
    for _ in range(3):
        U, _, Vt = np.linalg.svd((unit0 * weight[:, None]).T @ unit1)
        R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
        distance = np.linalg.norm(unit0 - unit1 @ R.T, axis=1)
        weight = 1.0 / np.maximum(distance, 1e-4)
    return _RotationFit(R, distance)


def _is_rotation(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray, threshold: float) -> bool:
    """Whether the best pure rotation explains the matches about as well as the full pose.

    Only noise may remain: the noise is estimated from the epipolar distances, which measure half of it, and the worst tenth of
    the matches must be within three times that (a translation is visible at least in near points).
    """
    distance = _fit_rotation(rays0, rays1).distance
    noise = np.sqrt(2.0) * 1.48 * float(np.median(np.abs(_sampson(T_0_1, rays0, rays1).distance)))
    return float(np.quantile(distance, 0.9)) < max(3.0 * noise, 0.5 * threshold)
