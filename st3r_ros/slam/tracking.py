# SPDX-License-Identifier: Apache-2.0
"""The pose of a frame against one keyframe: robust Gauss-Newton in Sim(3), with the keyframe's depths free within their errors.

Every match of the frame with the keyframe gives the pixel residual of the keyframe's point in the frame and, where the pair
model claims depth, the difference of log-depths. The log-depth of each point is a variable too, held by its confidence, and
eliminated point by point (a 1x1 Schur complement): exact points fix the pose, vague ones only their epipolar line, and what
the frame tells about their depth comes back as the point's new estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import as_tensors, huber_weight, left_jacobian, project, rays, robust_weight
from st3r_ros.types import Matches

PIXEL_SIGMA = 1.0
INLIER_PX = 4.0
ITERATIONS = 12
MAX_LOG_DEPTH_STEP = 0.5
SCALE_PRIOR = 1e-3


@dataclass(frozen=True, eq=False)
class TrackingProblem:
    """Matches of keyframe and frame, with what is known of the depth of each: all tensors of length N on one device.

    points: (N, 3) float64 in the keyframe's camera. information: (N,) float64, 1 / variance of their log-depth.
    pixels: (N, 2) float64 in the frame. weight: (N,) float64. K: (3, 3) float64 intrinsics of the frame.
    frame_depth: (N,) float64 depth the pair model claims in the frame's own scale, and its information; None without.
    """

    points: torch.Tensor
    information: torch.Tensor
    pixels: torch.Tensor
    weight: torch.Tensor
    K: np.ndarray
    frame_depth: torch.Tensor | None = None
    frame_information: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class TrackingResult:
    """T_kf_cam; covariance (7, 7) of the tangent applied left of T_cam_kf; inliers (N,) bool.

    log_depth: (N,) change of each point's log-depth. information: (N,) what the frame adds to it.
    rmse_px: of the inliers.
    """

    T_kf_cam: Sim3
    covariance: np.ndarray
    inliers: torch.Tensor
    log_depth: torch.Tensor
    information: torch.Tensor
    rmse_px: float


def make_problem(
    matches: Matches, depth: torch.Tensor, information: torch.Tensor, K_keyframe: np.ndarray, K_frame: np.ndarray
) -> TrackingProblem:
    """The problem of matches (0 = frame, 1 = keyframe), given depth (z) and information of each match in the keyframe."""
    points = rays(matches.pixels1, K_keyframe) * depth.double()[:, None]
    return TrackingProblem(points, information.double(), matches.pixels0.double(), matches.weight.double(), K_frame)


def track(problem: TrackingProblem, T_kf_cam: Sim3) -> TrackingResult:
    """The pose that explains the matches best, from the guess `T_kf_cam`; from PnP when the guess turns out too far off."""
    result = _refine(problem, T_kf_cam, draw_in=ITERATIONS // 2)
    known = problem.information > 25.0
    trusted = int((result.inliers & known).sum()), int(known.sum())
    if trusted[0] > 0.6 * trusted[1] and trusted[1] >= 6:
        return result
    chosen = known.cpu().numpy()
    guess = solve_pnp(problem.points.cpu().numpy()[chosen], problem.pixels.cpu().numpy()[chosen], problem.K, INLIER_PX)
    if guess is None:
        return result
    other = _refine(problem, guess.T_cam_points.inverse().sim3(float(T_kf_cam.scale)), draw_in=0)
    return other if other.inliers.sum() > result.inliers.sum() else result


def _refine(problem: TrackingProblem, T_kf_cam: Sim3, draw_in: int) -> TrackingResult:
    """draw_in: iterations in which what is far off still pulls, because the guess may be; then it is left out."""
    T_cam_kf = T_kf_cam.inverse()
    K = torch.tensor(problem.K, device=problem.points.device)
    delta = torch.zeros_like(problem.information)
    step_norm, damping = np.inf, 1e-6
    for iteration in range(ITERATIONS):
        system = _linearize(problem, T_cam_kf, delta, K, redescend=iteration >= draw_in)
        H = system.H + damping * torch.diag(torch.diag(system.H)) + SCALE_PRIOR * torch.eye(7, dtype=K.dtype, device=K.device)
        step = -torch.linalg.solve(H, system.g).cpu().numpy()
        step_norm = float(np.abs(step).max())
        if not np.isfinite(step_norm):
            break
        step[:6] *= min(1.0, 0.5 / max(np.abs(step[3:6]).max(), 1e-9))
        T_cam_kf = Sim3.exp(step) @ T_cam_kf
        moved = -(system.g_point + system.E @ torch.as_tensor(step, device=K.device)) / system.h_point
        delta = (delta + moved.clamp(-MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH_STEP)).clamp(-3.0, 3.0)
        if step_norm < 1e-6 and iteration > draw_in:
            break
    system = _linearize(problem, T_cam_kf, delta, K, redescend=True)
    inliers = (system.distance_px < INLIER_PX) & system.in_front
    count = max(int(inliers.sum()), 1)
    H = system.H + SCALE_PRIOR * torch.eye(7, dtype=K.dtype, device=K.device)
    variance = max(1.0, float((system.distance_px[inliers] ** 2).sum()) / (2 * count) / PIXEL_SIGMA**2)
    covariance = np.linalg.pinv(H.cpu().numpy()) * variance
    rmse = float((system.distance_px[inliers] ** 2).mean().sqrt()) if inliers.any() else float("inf")
    return TrackingResult(T_cam_kf.inverse(), covariance, inliers, delta, system.seen_information, rmse)


@dataclass(frozen=True, eq=False)
class _System:
    """Reduced normal equations H (7, 7), g (7,), and what is needed to find each point's step and error again."""

    H: torch.Tensor
    g: torch.Tensor
    E: torch.Tensor
    h_point: torch.Tensor
    g_point: torch.Tensor
    distance_px: torch.Tensor
    in_front: torch.Tensor
    seen_information: torch.Tensor


def _linearize(problem: TrackingProblem, T_cam_kf: Sim3, delta: torch.Tensor, K: torch.Tensor, redescend: bool) -> _System:
    sR, t = as_tensors(T_cam_kf, K)
    offset = (problem.points * delta.exp()[:, None]) @ sR.T  # = d point / d delta
    points = offset + t
    in_front = points[:, 2] > 1e-6
    predicted, J_projection = project(points, K)
    residual = (predicted - problem.pixels) / PIXEL_SIGMA
    distance = residual.norm(dim=1)
    weight = problem.weight * (robust_weight(distance) if redescend else huber_weight(distance)) * in_front
    J_point = left_jacobian(points)
    J_pose = (J_projection @ J_point) / PIXEL_SIGMA
    j_depth = (J_projection @ offset[:, :, None])[..., 0] / PIXEL_SIGMA
    weights = weight[:, None].expand(-1, 2)
    seen = (weights * j_depth**2).sum(1)
    if problem.frame_depth is not None and problem.frame_information is not None:
        # Third row: log-depth in the frame against what the pair model claims there.
        z = points[:, 2].clamp_min(1e-6)
        claimed = problem.frame_information > 0
        difference = torch.where(claimed, (z / problem.frame_depth.clamp_min(1e-9)).log(), 0.0)
        sigma = problem.frame_information.clamp_min(1e-9).rsqrt()
        row_weight = problem.frame_information * huber_weight(difference.abs() / sigma) * (claimed & in_front)
        residual = torch.cat([residual, difference[:, None]], dim=1)
        weights = torch.cat([weights, row_weight[:, None]], dim=1)
        J_pose = torch.cat([J_pose, J_point[:, 2:3] / z[:, None, None]], dim=1)
        j_depth = torch.cat([j_depth, (offset[:, 2] / z)[:, None]], dim=1)
    weighted_J = weights[:, :, None] * J_pose
    h_point = (weights * j_depth**2).sum(1) + problem.information
    g_point = (weights * j_depth * residual).sum(1) + problem.information * delta
    E = (weighted_J * j_depth[:, :, None]).sum(1)
    flat_J = weighted_J.reshape(-1, 7)
    H = flat_J.T @ J_pose.reshape(-1, 7) - (E / h_point[:, None]).T @ E
    g = flat_J.T @ residual.reshape(-1) - E.T @ (g_point / h_point)
    return _System(H, g, E, h_point, g_point, distance * PIXEL_SIGMA, in_front, seen)
