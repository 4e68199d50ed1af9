# SPDX-License-Identifier: Apache-2.0
"""The pose of a frame against one keyframe: robust, damped Gauss-Newton in Sim(3), with the keyframe's depths free as well.

Every match of the frame with the keyframe gives the residual, in pixels, of where the keyframe's point appears in the frame and,
where the pair model claims depth in the frame, the difference of log-depths (calibrated) or log-distances (not calibrated). The
log-depth of each point is a variable too, held by its confidence, and eliminated point by point (a 1x1 Schur complement): exact
points fix the pose, vague ones only their epipolar line, and what the frame tells about their depth comes back as the point's
new estimate.

The solver works on at most `SOLVED_MATCHES` matches, so that a frame costs the same however many there are, and asks the device
for nothing before it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.sim3 import Sim3
from st3r_ros.slam.projection import rays
from st3r_ros.slam.residuals import (
    LogDepth,
    Observations,
    PixelObservations,
    Residuals,
    geman_mcclure,
    huber,
    linear_rows,
    sim3_exp,
)
from st3r_ros.types import Matches

PIXEL_SIGMA = 1.0
INLIER_PX = 4.0
SOLVED_MATCHES = 1500
DRAW_IN = 4
ITERATIONS = 9
ENOUGH, ENOUGH_TO_DRAW_IN = 0.01, 1.0
"""A step that lowers the cost, half a sum of squares in standard deviations, by less than this is the last one."""
SETTLE_ITERATIONS = 3
MAX_LOG_DEPTH_STEP = 0.5
MAX_LOG_DEPTH = 3.0
MAX_TURN = 0.5
SCALE_PRIOR = 1e-3
HIDDEN_PX = 100.0
KNOWN_INFORMATION = 25.0
GOOD_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class TrackingProblem:
    """Matches of keyframe and frame, with what is known of the depth of each: all tensors of length N on one device, float64.

    points: (N, 3) in the keyframe's camera. information: (N,) 1 / variance of their log-depth.
    seen: where the frame sees them. weight: (N,) trust in each match.
    frame_depth: (N,) depth the pair model claims in the frame's own scale (z for pixels, distance for rays), and its
    information (N,), 0 where nothing is claimed. None without; the scale of the frame then stays that of the guess.
    """

    points: torch.Tensor
    information: torch.Tensor
    seen: Observations
    weight: torch.Tensor
    frame_depth: torch.Tensor | None = None
    frame_information: torch.Tensor | None = None

    def __getitem__(self, index: torch.Tensor) -> TrackingProblem:
        """A subset of the matches."""
        depth, information = self.frame_depth, self.frame_information
        return TrackingProblem(
            self.points[index],
            self.information[index],
            self.seen[index],
            self.weight[index],
            None if depth is None else depth[index],
            None if information is None else information[index],
        )


@dataclass(frozen=True, eq=False)
class TrackingResult:
    """T_kf_cam; covariance (7, 7) of the tangent applied left of T_cam_kf; inliers (N,) bool.

    log_depth: (N,) change of each point's log-depth. information: (N,) what the frame's view of the point adds to it.
    rmse_px: of the inliers, infinite without any.
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
    seen = PixelObservations(matches.pixels0.double(), torch.tensor(K_frame, device=depth.device))
    return TrackingProblem(points, information.double(), seen, matches.weight.double())


def track(problem: TrackingProblem, T_kf_cam: Sim3, *others: Sim3) -> TrackingResult:
    """The pose with the smallest residuals, starting from the best guess; from PnP when the result is too far off."""
    problem = _clean(problem)
    count, device = len(problem.weight), problem.points.device
    chosen = torch.linspace(0, count - 1, min(count, SOLVED_MATCHES), device=device, dtype=torch.float64).long()
    sampled = problem[chosen] if count > SOLVED_MATCHES else problem
    found = _solve(problem, sampled, _nearest(sampled, T_kf_cam, *others), DRAW_IN)
    if found.trusted > GOOD_SHARE * found.known and found.known >= 6:
        return found.result
    guess = _pose_by_pnp(sampled, float(T_kf_cam.scale))
    if guess is None:
        return found.result
    other = _solve(problem, sampled, _nearest(sampled, guess), 0)
    return other.result if other.inliers > found.inliers else found.result


def _nearest(problem: TrackingProblem, *guesses: Sim3) -> torch.Tensor:
    """T_cam_kf (4, 4) of the guess with the smallest reprojection errors."""
    matrices = [torch.tensor(guess.inverse().as_matrix(), device=problem.points.device) for guess in guesses]
    if len(matrices) == 1:
        return matrices[0]
    delta = torch.zeros_like(problem.information)
    costs = torch.stack([_view(problem, T, delta, redescend=False).cost for T in matrices])
    return torch.stack(matrices).index_select(0, costs.argmin()[None])[0]


def _clean(problem: TrackingProblem) -> TrackingProblem:
    """Removes the weight of points that are not finite, and claimed depths that are invalid."""
    finite = torch.isfinite(problem.points).all(dim=1)
    weight = torch.where(finite, problem.weight, 0.0)
    points = torch.where(finite, problem.points.T, 1.0).contiguous().T  # by components in memory, see residuals.py
    if problem.frame_depth is None or problem.frame_information is None:
        return replace(problem, points=points, weight=weight)
    claimed = (problem.frame_depth > 0) & (problem.frame_depth < torch.inf) & (problem.frame_information > 0) & (weight > 0)
    depth, information = (torch.where(claimed, a, b) for a, b in ((problem.frame_depth, 1.0), (problem.frame_information, 0.0)))
    return TrackingProblem(points, problem.information, problem.seen, weight, depth, information)


def _pose_by_pnp(problem: TrackingProblem, scale: float) -> Sim3 | None:
    """T_kf_cam without an initial guess, from the points of known depth."""
    known = (problem.information > KNOWN_INFORMATION) & (problem.weight > 0)
    seen = problem.seen[known]
    if isinstance(seen, PixelObservations):
        found = solve_pnp(problem.points[known].cpu().numpy(), seen.pixels.cpu().numpy(), seen.K.cpu().numpy(), INLIER_PX)
    else:
        forward = seen.rays[:, 2] > 0.1
        points, at = problem.points[known][forward].cpu().numpy(), seen.normalized()[forward].cpu().numpy()
        found = solve_pnp(points, at, np.eye(3), INLIER_PX / float(seen.pixels_per_radian))
    return None if found is None else found.T_cam_points.inverse().sim3(scale)


# The solver -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Solution:
    """A result with its numbers of inliers, of points whose depth was known before (known), and of both (trusted)."""

    result: TrackingResult
    inliers: int
    known: int
    trusted: int


@dataclass(frozen=True, eq=False)
class _System:
    """An estimate, T_cam_kf (4, 4) and log-depths delta (M,), its robust cost (), and the normal equations there.

    normal: (9, 9), rows and columns of pose tangent (7), common log-depth, residual. coupling: (9, M), the same of each point
    with its own log-depth: by pose (7), its own curvature, its gradient; the hold of its depth not counted.
    """

    T: torch.Tensor
    delta: torch.Tensor
    cost: torch.Tensor
    normal: torch.Tensor
    coupling: torch.Tensor

    def or_better(self, other: _System) -> tuple[_System, torch.Tensor]:
        """The system of lower cost, and whether that is the other one."""
        better = other.cost < self.cost
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return _System(*(torch.where(better, new, old) for old, new in pairs)), better


def _solve(problem: TrackingProblem, sampled: TrackingProblem, T: torch.Tensor, draw_in: int) -> _Solution:
    """T: T_cam_kf (4, 4) of the guess.

    draw_in: iterations in which outliers still have influence, because the guess may be wrong; later they are excluded.
    """
    delta = torch.zeros_like(sampled.information)
    if sampled.frame_depth is not None:
        T = _in_claimed_scale(sampled, T)
    system = _descend(sampled, T, delta, iterations=draw_in, redescend=False)
    system = _descend(sampled, system.T, system.delta, iterations=ITERATIONS - draw_in, redescend=True)
    return _finish(problem, sampled, system)


def _in_claimed_scale(problem: TrackingProblem, T: torch.Tensor) -> torch.Tensor:
    """T_cam_kf (4, 4) in the unit of the depths that the pair model claims; what is seen where does not change."""
    assert problem.frame_depth is not None and problem.frame_information is not None
    points = problem.points @ T[:3, :3].T + T[:3, 3]
    ratio = problem.frame_depth.log() - problem.seen.log_depth(points).values
    usable = (problem.frame_information > 0) & (problem.information > KNOWN_INFORMATION)
    shift = torch.where(usable, ratio, torch.nan).nanmedian().nan_to_num(0.0)
    return torch.cat([shift.exp() * T[:3], T[3:]])


def _descend(problem: TrackingProblem, T: torch.Tensor, delta: torch.Tensor, iterations: int, redescend: bool) -> _System:
    """Levenberg-Marquardt: each step keeps the better result. No value leaves the device, so only a CPU can stop early."""
    best = _linearize(problem, T, delta, redescend)
    damping = torch.full_like(best.cost, 1e-4)
    for _ in range(iterations):
        tried = _linearize(problem, *_step(problem, best, damping), redescend)
        if T.device.type == "cpu" and 0.0 <= best.cost - tried.cost < (ENOUGH if redescend else ENOUGH_TO_DRAW_IN):
            return tried
        best, better = best.or_better(tried)
        damping = torch.where(better, 0.1 * damping, 10.0 * damping).clamp(1e-8, 1e6)
    return best


def _step(problem: TrackingProblem, system: _System, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """T_cam_kf (4, 4) and log-depths (M,) after one damped step."""
    E, h_point, g_point = system.coupling[:7], system.coupling[7], system.coupling[8]
    g_point = g_point + problem.information * system.delta
    inverse_h = ((1.0 + damping) * (h_point + problem.information)).reciprocal()
    scaled = E * inverse_h
    H = system.normal[:7, :7] - scaled @ E.T
    H.diagonal().add_(damping * system.normal.diagonal()[:7] + SCALE_PRIOR)
    g = system.normal[:7, 8] - scaled @ g_point
    step = -torch.linalg.solve_ex(H, g)[0]
    step = step * (MAX_TURN / step[3:].abs().max().clamp_min(MAX_TURN))
    moved = -inverse_h * (g_point + step @ E)
    delta = system.delta + moved.clamp(-MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH_STEP)
    return sim3_exp(step) @ system.T, delta.clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)


@dataclass(frozen=True, eq=False)
class _View:
    """The matches at an estimate. seen: their residual rows, the last one that of log-depth where depth is claimed.

    root: (R, M) square roots of the rows' robust weights. points, offset: (M, 3) in the frame's camera and their derivative by
    the log-depth. distance: (M,) in standard deviations. cost: the robust cost ().
    """

    seen: Residuals
    root: torch.Tensor
    points: torch.Tensor
    offset: torch.Tensor
    distance: torch.Tensor
    cost: torch.Tensor


def _view(problem: TrackingProblem, T: torch.Tensor, delta: torch.Tensor, redescend: bool) -> _View:
    kernel = geman_mcclure if redescend else huber
    offset = (T[:3, :3] @ problem.points.T * delta.exp()).T
    points = offset + T[:3, 3]
    seen = problem.seen.residuals(points)
    distance = torch.where(seen.visible, seen.distance / PIXEL_SIGMA, HIDDEN_PX)
    robust = kernel(distance)
    cost = problem.weight @ robust.cost + 0.5 * (problem.information @ delta.square())
    root = (problem.weight * robust.weight * seen.visible).sqrt() / PIXEL_SIGMA
    root = root.expand(seen.values.shape[1], -1)
    if problem.frame_depth is not None and problem.frame_information is not None:
        there = problem.seen.log_depth(points)
        difference = there.values - problem.frame_depth.log()
        sqrt_information = problem.frame_information.sqrt()
        robust = kernel(difference.abs() * sqrt_information)
        cost = cost + robust.cost.sum()
        seen = seen.with_row(LogDepth(difference, there.J))
        root = torch.cat([root, ((robust.weight * seen.visible).sqrt() * sqrt_information)[None]])
    return _View(seen, root, points, offset, distance, cost)


def _linearize(problem: TrackingProblem, T: torch.Tensor, delta: torch.Tensor, redescend: bool) -> _System:
    view = _view(problem, T, delta, redescend)
    rows = linear_rows(view.seen, view.points, view.offset) * view.root
    flat = rows.flatten(1)
    return _System(T, delta, view.cost, flat @ flat.T, (rows[7] * rows).sum(1))


# The end ----------------------------------------------------------------------------------------------------------------


def _finish(problem: TrackingProblem, sampled: TrackingProblem, system: _System) -> _Solution:
    """Inliers, depths and statistics of all matches at the resulting pose, in one transfer."""
    settled = _settle(problem, system.T, system.delta if sampled is problem else torch.zeros_like(problem.information))
    distance = settled.distance_px
    inliers = (distance < INLIER_PX) & (problem.weight > 0)
    known = problem.information > KNOWN_INFORMATION
    E = system.coupling[:7]
    H = system.normal[:7, :7] - (E / (system.coupling[7] + sampled.information)) @ E.T
    sums = torch.stack([inliers.sum(), known.sum(), (inliers & known).sum(), torch.where(inliers, distance, 0.0).square().sum()])
    numbers = torch.cat([system.T.reshape(-1), H.reshape(-1), sums]).cpu().numpy()
    count, square = numbers[65], numbers[68]
    variance = max(1.0, square / (2 * max(count, 1)) / PIXEL_SIGMA**2)
    covariance = np.linalg.pinv(numbers[16:65].reshape(7, 7) + SCALE_PRIOR * np.eye(7), hermitian=True) * variance
    rmse = float(np.sqrt(square / count)) if count else float("inf")
    result = TrackingResult(
        Sim3.from_matrix(numbers[:16].reshape(4, 4)).inverse(), covariance, inliers, settled.log_depth, settled.information, rmse
    )
    return _Solution(result, *(int(number) for number in numbers[65:68]))


@dataclass(frozen=True, eq=False)
class _Settled:
    """All matches at a pose: log_depth (N,), distance_px (N,), and information (N,) of the depth from the frame."""

    log_depth: torch.Tensor
    distance_px: torch.Tensor
    information: torch.Tensor


def _settle(problem: TrackingProblem, T: torch.Tensor, delta: torch.Tensor) -> _Settled:
    """The best depth of every match at the pose T_cam_kf (4, 4), from log-depths delta (N,)."""
    for iteration in range(SETTLE_ITERATIONS + 1):
        view = _view(problem, T, delta, redescend=iteration >= SETTLE_ITERATIONS - 1)
        by_depth = (view.seen.J.movedim((-1, -2), (0, 1)) * view.offset.T[:, None]).sum(0) * view.root
        square = by_depth.square()
        if iteration == SETTLE_ITERATIONS:
            break
        gradient = (by_depth * view.root * view.seen.values.T).sum(0) + problem.information * delta
        moved = gradient / (square.sum(0) + problem.information)
        delta = (delta - moved.clamp(-MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH_STEP)).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)
    seen = square if problem.frame_depth is None else square[:-1]
    return _Settled(delta, view.distance * PIXEL_SIGMA, seen.sum(0))
