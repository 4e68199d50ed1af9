# SPDX-License-Identifier: Apache-2.0
"""Localizes an image relative to a reference image or in a saved map, without an initial guess.

A query is compared with the references, or with the keyframes of a map that look most like it. Each comparison gives matches of
the query's pixels with points in space, and RANSAC finds the pose that most of them agree on; candidates that agree with each
other are solved together. The answer is accepted when enough well-spread matches determine the pose accurately and no other pose
explains a similar number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from st3r_ros.config import RelocalizerConfig
from st3r_ros.errors import FrameError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.pnp_refinement import UncertainPoints
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.two_view_focal import FocalFit
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.projection import points_at, rays, sample
from st3r_ros.slam.optimization.scale import NETWORK_SIGMA
from st3r_ros.slam.places.comparison import (
    OTHER_FACTOR,
    THRESHOLD_PX,
    Comparison,
    refined_pose,
    same_place,
    solved_together,
    spread_enough,
)
from st3r_ros.slam.places.covisibility import PosedCamera
from st3r_ros.slam.places.direction import locate_direction
from st3r_ros.slam.places.focal_check import FocalCheck, FocalDoubt, contradicts
from st3r_ros.slam.places.reference import Reference, measured_keyframe
from st3r_ros.slam.tracking.stream import LensCorrection, check_frame
from st3r_ros.slam.workspace import Workspace
from st3r_ros.types import Features, Frame, Keyframe, LocalizationResult, LocalizationStatus, Matches, PairModel

MAX_DRAWS = 1000
FOCAL_TRIALS = (1.0, 0.7, 1.4, 0.5, 2.0)
"""Focal lengths to try when unknown, as multiples of the assumed one."""
EXPECTED = 3
"""Number of keyframes selected by an approximate pose."""
PART = 0.5
"""Share of the matches needed that a keyframe must have to count together with others that agree."""


class Relocalizer:
    """Returns a pose with its covariance, or a refusal with its reason. Not thread-safe."""

    def __init__(self, model: PairModel, config: RelocalizerConfig | None = None) -> None:
        self._model = model
        self.config = config or RelocalizerConfig()
        self._references: dict[str, Reference] = {}
        self._workspace: Workspace | None = None
        self._lens = LensCorrection()
        self._check = FocalCheck()
        self._fitted: tuple[Features, str, FocalFit | None] | None = None

    @property
    def model_name(self) -> str:
        """Of the pair model."""
        return self._model.name

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the references, in the order in which they were set."""
        return tuple(self._references)

    @property
    def doubt(self) -> FocalDoubt | None:
        """Why the calibration of the last queries seems wrong; None while it fits."""
        return self._check.doubt

    def set_reference(self, name: str, frame: Frame, *, T_ref_cam: SE3 | None = None, depth: np.ndarray | None = None) -> None:
        """Adds a reference, or replaces the one of this name.

        frame: its image, with its camera where that is known. T_ref_cam: pose of its camera in the frame that answers are in,
        which all references share; by default the reference camera itself is that frame. depth: (H, W) metres of each pixel of
        the frame's image, 0 or NaN where it is not known; with it the answers are metric.

        Raises:
            FrameError: the image or the depth cannot be used.
        """
        features = self._encode(frame)
        distance: torch.Tensor | None = None
        if depth is None:
            keyframe = None
            if self._model.traits.monocular_depth:
                alone = self._model.predict(features, features)
                assert alone.X_0_0 is not None
                distance = alone.X_0_0.norm(dim=-1)
        elif depth.shape != frame.image.shape[:2]:
            raise FrameError(
                f"The depth of reference '{name}' is {depth.shape[1]}x{depth.shape[0]} but its image is "
                f"{frame.image.shape[1]}x{frame.image.shape[0]}; give one depth per pixel of the image."
            )
        elif frame.camera is None:
            raise FrameError(f"Reference '{name}' has a depth but no calibration; a depth needs the camera it was taken with.")
        else:
            keyframe = measured_keyframe(frame, features, depth, self._model.traits.relative_depth_sigma)
        self._check = FocalCheck()  # what earlier references said may have been their own fault
        self._references[name] = Reference(name, features, T_ref_cam or SE3.identity(), keyframe, distance)

    def remove_reference(self, name: str) -> None:
        """Removes a reference, if it exists."""
        self._check = FocalCheck()
        self._references.pop(name, None)

    def use_map(self, keyframe_map: KeyframeMap | None) -> None:
        """Localizes in this map from now on (None: no map); references are kept, but a map takes precedence."""
        self.search(None if keyframe_map is None else Workspace.of(self._model, keyframe_map))

    def search(self, workspace: Workspace | None) -> None:
        """Like `use_map`, for a map that changes between queries."""
        self._check = FocalCheck()
        self._workspace = workspace

    def localize(self, frame: Frame, guess: SE3 | None = None) -> LocalizationResult:
        """Localizes one query. guess: approximate pose in the map, which is searched first.

        A pose found there is accepted even if another place looks the same.

        Raises:
            FrameError: the image cannot be used.
        """
        started = time.perf_counter()
        if self._workspace is None and not self._references:
            return LocalizationResult(LocalizationStatus.NO_REFERENCE, "There is no reference; set a reference first.")
        query = self._encode(frame)
        if self._workspace is None:
            compared = [self._with_reference(query, reference) for reference in self._references.values()]
            result = self._noted(query, self._answer(query, compared), frame.camera)
        else:
            result = self._noted(query, self._find(query, guess), frame.camera)
        ms = 1000.0 * (time.perf_counter() - started)
        return replace(result, query_image=query.image, reference_image=self._image_of(result), latency_ms=ms)

    def _image_of(self, result: LocalizationResult) -> np.ndarray | None:
        """The working image of the reference or keyframe that a result is about."""
        if self._workspace is None:
            return self._references[result.reference].features.image if result.reference else None
        return None if result.keyframe_id is None else self._workspace.map.keyframes[result.keyframe_id].image

    def find(self, query: Features, guess: SE3 | None = None) -> LocalizationResult:
        """As `localize`, for a query that is encoded already, in the map."""
        return self._noted(query, self._find(query, guess))

    def _find(self, query: Features, guess: SE3 | None) -> LocalizationResult:
        assert self._workspace is not None
        if guess is not None:
            near = self._answer(query, [self._with_keyframe(query, k) for k in self._expected(query, guess)])
            if near.localized:
                return near
        spread, rest = self._workspace.places.similar_places(self._model.describe(query), self.config.candidates)
        compared = {keyframe.id: self._with_keyframe(query, keyframe) for keyframe in spread}
        answer = self._answer(query, compared.values())
        if answer.status not in (LocalizationStatus.TOO_FEW_MATCHES, LocalizationStatus.UNCERTAIN):
            return answer
        best = max(compared.values(), key=lambda c: c.inliers)
        likely = self._expected(query, best.T_ref_cam) if best.inliers >= self.config.min_inliers * PART else []
        compared |= {k.id: self._with_keyframe(query, k) for k in (*likely, *rest) if k.id not in compared}
        return self._answer(query, compared.values())

    def _expected(self, query: Features, T_world_cam: SE3) -> list[Keyframe]:
        """The keyframes with the largest overlap with a camera at this pose; empty without overlap."""
        assert self._workspace is not None
        camera = PosedCamera.of(query, T_world_cam.sim3(1.0))
        seen = self._workspace.places.covisible(camera, self._workspace.map.keyframes, EXPECTED)
        return [found.keyframe for found in seen if found.overlap > 0]

    def _answer(self, query: Features, compared: Collection[Comparison | LocalizationResult]) -> LocalizationResult:
        """What the comparisons with references or keyframes come to."""
        if not compared:
            return LocalizationResult(LocalizationStatus.NO_CANDIDATE, "The map has no keyframes to compare with.")
        answers = [candidate if isinstance(candidate, LocalizationResult) else None for candidate in compared]
        solid = [candidate for candidate in compared if isinstance(candidate, Comparison)]
        if not solid:
            return max((a for a in answers if a is not None), key=lambda a: (a.localized, a.inliers))
        return self._agreed(query, solid)

    def _noted(self, query: Features, result: LocalizationResult, camera: Camera | None = None) -> LocalizationResult:
        """The result with what is to be said of the cameras. camera: of the query at its full size, where that is known."""
        notes = []
        if not query.K_known:
            estimated = f"; a focal length of {result.focal_px:.0f} px is estimated" if result.localized else ""
            notes.append(f"The camera is assumed: the image has no calibration{estimated}.")
        if result.reference_assumed:
            notes.append(f"The camera of {'the map' if self._workspace else 'the reference'} is assumed: it has no calibration.")
        doubt = self._check.doubt.sentence(camera) if query.K_known and self._check.doubt is not None else ""
        reason = " ".join([result.reason, *notes, *([doubt] if doubt else [])])
        return replace(result, reason=reason, focal_estimated=not query.K_known, doubt=doubt)

    def _encode(self, frame: Frame) -> Features:
        check_frame(frame)
        features: Features = self._model.encode(self._lens.undistorted(frame))
        return features

    # One candidate ----------------------------------------------------------------------------------------------------------

    def _with_reference(self, query: Features, reference: Reference) -> Comparison | LocalizationResult:
        if reference.keyframe is not None:
            candidate = self._with_keyframe(query, reference.keyframe)
            return replace(candidate, name=reference.name, T_ref_points=reference.T_ref_cam, metric=True)
        if not self._model.traits.monocular_depth:
            return locate_direction(self._model, query, reference, self.config, self._check)
        prediction = self._model.predict(reference.features, query)
        assert prediction.X_0_0 is not None and prediction.conf0 is not None
        m = prediction.matches
        X, conf = sample(prediction.X_0_0, m.pixels0).double(), sample(prediction.conf0, m.pixels0).double()
        if reference.features.K_known:
            X = rays(m.pixels0, reference.features.K).to(X.device) * X[:, 2:]
        if self._model.traits.metric and reference.distance is not None:
            X = X * self._unit(X, sample(reference.distance, m.pixels0).double(), conf)
        candidate = self._candidate(query, reference.name, m.swapped(), X, conf, reference.features)
        unit_sigma = NETWORK_SIGMA / math.sqrt(2.0) if self._model.traits.metric else 0.0
        return replace(candidate, T_ref_points=reference.T_ref_cam, metric=self._model.traits.metric, unit_sigma=unit_sigma)

    def _unit(self, X: torch.Tensor, distance: torch.Tensor, conf: torch.Tensor) -> torch.Tensor:
        """What the points X (N, 3) of a pair are multiplied by for the mean of two metres, theirs and the image's own."""
        log_ratio = (distance / X.norm(dim=1)).log()
        usable = (conf > 0) & log_ratio.isfinite()
        return (0.5 * log_ratio[usable].median()).exp() if bool(usable.any()) else X.new_ones(())

    def _with_keyframe(self, query: Features, keyframe: Keyframe) -> Comparison:
        features = keyframe.features if self._workspace is None else self._workspace.store.of(keyframe)
        assert features is not None
        # Where neither has a calibration, directions come from the pointmaps, as they do in tracking.
        dense = self._model.traits.monocular_depth and not query.K_known
        prediction = self._model.predict(query, features, dense=dense)
        matches = prediction.matches
        own = points_at(keyframe, matches.pixels1)
        scale = float(keyframe.T_world_cam.scale)  # poses are of a map in one unit, keyframes have each their own
        metric = self._workspace is not None and self._workspace.map.scale.metric
        candidate = self._candidate(query, f"keyframe {keyframe.id}", matches, scale * own.points, own.conf, features)
        keyframe_id = None if self._workspace is None else keyframe.id
        T_ref_points = keyframe.T_world_cam.se3()
        return replace(candidate, prediction=prediction, keyframe_id=keyframe_id, T_ref_points=T_ref_points, metric=metric)

    def _candidate(
        self, query: Features, name: str, matches: Matches, X: torch.Tensor, conf: torch.Tensor, image: Features
    ) -> Comparison:
        """The pose of the query that most matches agree on, relative to the camera of `image`, which saw the points X (N, 3)."""
        known = ((conf > 0) & torch.isfinite(X).all(dim=1) & (X.norm(dim=1) > 0)).cpu().numpy()
        points, pixels = X.cpu().numpy()[known], matches.pixels0.double().cpu().numpy()[known]
        sigma = self._model.traits.relative_depth_sigma / np.sqrt(conf.cpu().numpy()[known])
        cell = matches.pixels1.double().cpu().numpy()[known] / (np.array([image.image.shape[1], image.image.shape[0]]) - 1.0)
        uncertain = UncertainPoints(points, points, np.minimum(sigma, 0.5), cell, np.zeros(len(points), np.int64))
        K, found = query.K, None
        for trial in (1.0,) if query.K_known else FOCAL_TRIALS:
            tried = query.K * np.array([[trial, 1, 1], [1, trial, 1], [1, 1, 1]])
            pose = solve_pnp(points, pixels, tried, THRESHOLD_PX, MAX_DRAWS)
            if pose is not None and (found is None or pose.inliers.sum() > 1.1 * found.inliers.sum()):
                K, found = tried, pose
        refined = None
        if found is not None:
            refined = refined_pose(uncertain, pixels, K, found.T_cam_points, query)
        kept = matches.to("cpu").chosen(torch.from_numpy(known))
        return Comparison(name, kept, uncertain, pixels, K, refined, image)

    # All together -----------------------------------------------------------------------------------------------------------

    def _agreed(self, query: Features, candidates: list[Comparison]) -> LocalizationResult:
        """The pose that the best candidate and those that agree with it have in common."""
        candidates = sorted(candidates, key=lambda c: c.inliers, reverse=True)
        best, others = candidates[0], [c for c in candidates[1:] if self._is_supported(c, PART)]
        fit = self._focal_fit(query, best)
        if not self._is_supported(best, PART):
            return best.result(LocalizationStatus.TOO_FEW_MATCHES, self._too_few(best))
        with_best = [best, *(c for c in others if c.agrees_with(best))]
        if sum(c.inliers for c in with_best) < self.config.min_inliers:
            return best.result(LocalizationStatus.TOO_FEW_MATCHES, self._too_few(best))
        rivals = (c for c in others if self._is_supported(c) or 2 * c.inliers >= best.inliers)
        other = max((c.inliers for c in rivals if c.contradicts(best)), default=0)
        other = max(other, self._second_pose(best))
        if other >= self.config.ambiguity_ratio * best.inliers:
            reason = f"{best.inliers} matches with {best.name} agree on one pose, but {other} others on another one."
            return best.result(LocalizationStatus.AMBIGUOUS, reason)
        joint = best if len(with_best) == 1 else solved_together(with_best, query)
        return self._judged(query, best, joint, fit)

    def _focal_fit(self, query: Features, best: Comparison) -> FocalFit | None:
        """How far the query's calibration is from what it and its best candidate say, if they are to be asked."""
        if not query.K_known or not self._check.is_due(query):
            return None
        if self._fitted is None or self._fitted[0] is not query or self._fitted[1] != best.name:
            fit = best.checked(self._model, query, self.config.min_inliers, early=self._check.is_early())
            self._fitted = query, best.name, fit
            if fit is not None:
                self._check.add(fit)
        return self._fitted[2]

    def _judged(self, query: Features, best: Comparison, joint: Comparison, fit: FocalFit | None) -> LocalizationResult:
        """The final checks: residuals, spread, and uncertainty of the pose."""
        refined = joint.refined
        assert refined is not None
        if refined.rmse_px > self.config.max_rmse_px:
            reason = f"The reprojection error is {refined.rmse_px:.1f} pixels; at most {self.config.max_rmse_px} are allowed."
            return best.result(LocalizationStatus.UNCERTAIN, reason)
        if not spread_enough(joint.pixels[refined.inliers], query, self.config):
            return best.result(LocalizationStatus.UNCERTAIN, "All inliers are in one small part of the image.")
        pose, doubt = refined.covariance, self._check.doubt if query.K_known else None
        if doubt is not None:
            pose = pose + best.deviation(query, doubt.factor, alone=doubt.alone)
        position = math.sqrt(np.linalg.eigvalsh(pose[:3, :3])[-1]) / joint.distance
        turn = math.degrees(math.sqrt(np.linalg.eigvalsh(pose[3:, 3:])[-1]))
        if position > self.config.max_position_sigma or turn > self.config.max_rotation_sigma_deg:
            reason = (
                f"The matches leave the position uncertain by {position:.0%} of the distance, the rotation by {turn:.1f} degrees."
            )
            return best.result(LocalizationStatus.UNCERTAIN, reason)
        if doubt is None and fit is not None and contradicts(fit):
            pose = pose + best.deviation(query, fit.factor, alone=fit.alone)
        T_ref_cam = joint.T_ref_cam
        R = np.kron(np.eye(2), T_ref_cam.rotation)
        covariance = R @ pose @ R.T
        # The unit of the points may be off as a whole, and with it the way from their camera.
        moved = T_ref_cam.translation - joint.T_ref_points.translation
        covariance[:3, :3] += joint.unit_sigma**2 * np.outer(moved, moved)
        reason = f"{best.inliers} of {len(best.matches)} matches with {best.name} agree."
        answer = best.result(LocalizationStatus.LOCALIZED, reason)
        return replace(
            answer,
            T_ref_cam=T_ref_cam,
            covariance=covariance,
            rmse_px=refined.rmse_px,
            focal_px=float(joint.K[0, 0]) * refined.focal,
        )

    def _is_supported(self, candidate: Comparison, part: float = 1.0) -> bool:
        enough = candidate.inliers >= part * self.config.min_inliers
        return enough and candidate.inliers >= self.config.min_inlier_ratio * max(len(candidate.matches), 1)

    def _too_few(self, best: Comparison) -> str:
        return (
            f"At best {best.inliers} of {len(best.matches)} matches, with {best.name}, agree on a pose; "
            f"{self.config.min_inliers} and {self.config.min_inlier_ratio:.0%} are needed."
        )

    def _second_pose(self, best: Comparison) -> int:
        """How many of the other matches agree on another pose: the same thing may be there twice."""
        assert best.refined is not None
        rest = ~best.refined.inliers
        if rest.sum() < self.config.ambiguity_ratio * best.inliers:
            return 0
        found = solve_pnp(best.points.points[rest], best.pixels[rest], best.K, THRESHOLD_PX, MAX_DRAWS)
        if found is None or same_place(found.T_cam_points, best.refined.T_cam_points, best.distance, OTHER_FACTOR):
            return 0
        return int(found.inliers.sum())
