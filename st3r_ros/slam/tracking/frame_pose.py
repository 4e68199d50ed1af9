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

from dataclasses import dataclass

import numpy as np
import torch

from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.solver.blocks import solve_dense
from st3r_ros.solver.damped import Estimate, Schedule, minimize, minimize_unseen
from st3r_ros.solver.points import Equations, Noise, SeenPoints, eliminate, linearize, look
from st3r_ros.solver.poses import sim3_exp
from st3r_ros.solver.residuals import Observations, PixelObservations, huber

PIXEL_SIGMA = 1.0
INLIER_PX = 4.0
CLOSE_PX = 1.0
"""Right matches with points of known depth are most often that close. Wrong ones may drag a pose to where all agree, far less
closely."""
SOLVED_MATCHES = 1500
GUESSED, SETTLED = Noise(PIXEL_SIGMA, hidden_px=100.0, kernel=huber), Noise(PIXEL_SIGMA, hidden_px=100.0)
"""While the guess may be wrong, outliers still have influence."""
DRAW_IN = Schedule(iterations=4, enough=1.0)
REFINE, REFINE_WELL = Schedule(iterations=5, enough=0.01), Schedule(iterations=9, enough=0.01)
SETTLE_ITERATIONS = 3
MAX_LOG_DEPTH_STEP = 0.5
MAX_LOG_DEPTH = 3.0
MAX_TURN = 0.5
SCALE_PRIOR = 1e-3
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

    def stated(self) -> SeenPoints:
        """What is minimised: points that are not finite without weight, claimed depths that are invalid left out."""
        finite = torch.isfinite(self.points).all(dim=1)
        weight = torch.where(finite, self.weight, 0.0)
        points = torch.where(finite, self.points.T, 1.0).contiguous().T  # by components in memory, see solver/residuals.py
        if self.frame_depth is None or self.frame_information is None:
            return SeenPoints(points, self.information, self.seen, weight)
        claimed = (self.frame_depth > 0) & (self.frame_depth < torch.inf) & (self.frame_information > 0) & (weight > 0)
        log_claim = torch.where(claimed, self.frame_depth, 1.0).log()
        claim = torch.where(claimed, self.frame_information, 0.0)
        return SeenPoints(points, self.information, self.seen, weight, log_claim, claim)


@dataclass(frozen=True, eq=False)
class TrackingResult:
    """T_kf_cam; covariance (7, 7) of the tangent applied left of T_cam_kf; inliers (N,) bool.

    log_depth: (N,) change of each point's log-depth. information: (N,) what the frame's view of the point adds to it.
    rmse_px: of the inliers, infinite without any. known: number of points whose depth was known before; trusted, close: of those
    that are inliers too, and that are within CLOSE_PX.
    """

    T_kf_cam: Sim3
    covariance: np.ndarray
    inliers: torch.Tensor
    log_depth: torch.Tensor
    information: torch.Tensor
    rmse_px: float
    known: int
    trusted: int
    close: int


def track(problem: TrackingProblem, T_kf_cam: Sim3, *others: Sim3) -> TrackingResult:
    """The pose with the smallest residuals, starting from the best guess; or from PnP, where that brings more points close."""
    points = problem.stated()
    count, device = len(points.weight), points.X.device
    chosen = torch.linspace(0, count - 1, min(count, SOLVED_MATCHES), device=device, dtype=torch.float64).long()
    sampled = points[chosen] if count > SOLVED_MATCHES else points
    found = solve(points, sampled, _nearest(sampled, T_kf_cam, *others)).read()
    if found.close > GOOD_SHARE * found.known and found.known >= 6:
        return found
    guess = _pose_by_pnp(sampled, float(T_kf_cam.scale))
    if guess is None:
        return found
    other = solve(points, sampled, _nearest(sampled, guess), guessed=False).read()
    return other if other.close > found.close else found


def _nearest(points: SeenPoints, *guesses: Sim3) -> torch.Tensor:
    """T_cam_kf (4, 4) of the guess with the smallest reprojection errors."""
    matrices = [torch.tensor(guess.inverse().as_matrix(), device=points.X.device) for guess in guesses]
    if len(matrices) == 1:
        return matrices[0]
    delta = torch.zeros_like(points.information)
    costs = torch.stack([look(points, T, delta, GUESSED).cost for T in matrices])
    return torch.stack(matrices).index_select(0, costs.argmin()[None])[0]


def _pose_by_pnp(points: SeenPoints, scale: float) -> Sim3 | None:
    """T_kf_cam without an initial guess, from the points of known depth."""
    known = (points.information > KNOWN_INFORMATION) & (points.weight > 0)
    X, seen = points.X[known], points.seen[known]
    if isinstance(seen, PixelObservations):
        found = solve_pnp(X.cpu().numpy(), seen.pixels.cpu().numpy(), seen.K.cpu().numpy(), CLOSE_PX)
    else:
        forward = seen.rays[:, 2] > 0.1
        at = seen.normalized()[forward].cpu().numpy()
        found = solve_pnp(X[forward].cpu().numpy(), at, np.eye(3), CLOSE_PX / float(seen.pixels_per_radian))
    return None if found is None else found.T_cam_points.inverse().sim3(scale)


# On the device ----------------------------------------------------------------------------------------------------------


def solve(points: SeenPoints, sampled: SeenPoints, T: torch.Tensor, *, guessed: bool = True) -> Solution:
    """The pose and depths of all points, from some of them and T_cam_kf (4, 4). Only on a CPU is any value looked at.

    guessed: the initial pose may be wrong, so that outliers keep their influence for a while.
    """
    delta = torch.zeros_like(sampled.information)
    if sampled.log_claim is not None:
        T = _in_claimed_scale(sampled, T)
    if guessed:
        start = _descend(_Pose.at(sampled, T, delta, GUESSED), DRAW_IN)
        T, delta = start.T, start.delta
    found = _descend(_Pose.at(sampled, T, delta, SETTLED), REFINE if guessed else REFINE_WELL)
    return _settle(points, found, found.delta if sampled is points else torch.zeros_like(points.information))


def _in_claimed_scale(points: SeenPoints, T: torch.Tensor) -> torch.Tensor:
    """T_cam_kf (4, 4) in the unit of the depths that the pair model claims; what is seen where does not change."""
    assert points.log_claim is not None and points.claim is not None
    ratio = points.log_claim - points.seen.log_depth(points.X @ T[:3, :3].T + T[:3, 3]).values
    usable = (points.claim > 0) & (points.information > KNOWN_INFORMATION)
    shift = torch.where(usable, ratio, torch.nan).nanmedian().nan_to_num(0.0)
    return torch.cat([shift.exp() * T[:3], T[3:]])


@dataclass(frozen=True, eq=False)
class _Pose(Estimate):
    """T_cam_kf (4, 4) and log-depths delta (M,)."""

    points: SeenPoints
    noise: Noise
    T: torch.Tensor
    delta: torch.Tensor
    equations: Equations
    cost: torch.Tensor

    @staticmethod
    def at(points: SeenPoints, T: torch.Tensor, delta: torch.Tensor, noise: Noise) -> _Pose:
        equations = linearize(points, T, delta, noise)
        return _Pose(points, noise, T, delta, equations, equations.cost)

    def stepped(self, damping: float | torch.Tensor) -> _Pose:
        rest = eliminate(self.equations, self.points.information, self.delta, damping)
        H = rest.B + torch.diag_embed(damping * self.equations.normal.diagonal()[:7] + SCALE_PRIOR)
        step = -solve_dense(H, rest.b)
        step = step * (MAX_TURN / step[3:].abs().max().clamp_min(MAX_TURN))
        return _Pose.at(self.points, sim3_exp(step) @ self.T, _within(self.delta, rest.depth_step(step)), self.noise)


def _within(delta: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Log-depths (N,) after a step, neither of them too large."""
    return (delta + step.clamp(-MAX_LOG_DEPTH_STEP, MAX_LOG_DEPTH_STEP)).clamp(-MAX_LOG_DEPTH, MAX_LOG_DEPTH)


def _descend(pose: _Pose, schedule: Schedule) -> _Pose:
    """Only a CPU can stop early."""
    return minimize(pose, schedule).estimate if pose.T.device.type == "cpu" else minimize_unseen(pose, schedule)


# The end ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Solution:
    """On the device: T_cam_kf (4, 4), information (7, 7) of the tangent left of it, and all points (N) there.

    log_depth, log_depth_information, distance_px: (N,) as in `TrackingResult`, and from where they are seen.
    """

    points: SeenPoints
    T_cam_kf: torch.Tensor
    information: torch.Tensor
    log_depth: torch.Tensor
    log_depth_information: torch.Tensor
    distance_px: torch.Tensor

    def read(self) -> TrackingResult:
        """The result, in one transfer."""
        inliers = (self.distance_px < INLIER_PX) & (self.points.weight > 0)
        known = self.points.information > KNOWN_INFORMATION
        close = inliers & known & (self.distance_px < CLOSE_PX)
        squares = torch.where(inliers, self.distance_px, 0.0).square().sum()
        sums = torch.stack([inliers.sum(), known.sum(), (inliers & known).sum(), close.sum(), squares])
        numbers = torch.cat([self.T_cam_kf.reshape(-1), self.information.reshape(-1), sums]).cpu().numpy()
        count, squares = numbers[65], numbers[69]
        variance = max(1.0, squares / (2 * max(count, 1)) / PIXEL_SIGMA**2)
        return TrackingResult(
            T_kf_cam=Sim3.from_matrix(numbers[:16].reshape(4, 4)).inverse(),
            covariance=np.linalg.pinv(numbers[16:65].reshape(7, 7) + SCALE_PRIOR * np.eye(7), hermitian=True) * variance,
            inliers=inliers,
            log_depth=self.log_depth,
            information=self.log_depth_information,
            rmse_px=float(np.sqrt(squares / count)) if count else float("inf"),
            known=int(numbers[66]),
            trusted=int(numbers[67]),
            close=int(numbers[68]),
        )


def _settle(points: SeenPoints, pose: _Pose, delta: torch.Tensor) -> Solution:
    """The best depth of every point at a pose, from log-depths delta (N,)."""
    for iteration in range(SETTLE_ITERATIONS + 1):
        at = look(points, pose.T, delta, SETTLED if iteration >= SETTLE_ITERATIONS - 1 else GUESSED)
        by_depth = at.by_depth()
        square = by_depth.square()
        if iteration == SETTLE_ITERATIONS:
            break
        gradient = (by_depth * at.root * at.rows.values.T).sum(0) + points.information * delta
        delta = _within(delta, -gradient / (square.sum(0) + points.information))
    seen = square if points.claim is None else square[:-1]
    information = eliminate(pose.equations, pose.points.information, pose.delta).B
    return Solution(points, pose.T, information, delta, seen.sum(0), at.distance * PIXEL_SIGMA)
