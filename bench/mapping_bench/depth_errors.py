# SPDX-License-Identifier: Apache-2.0
"""Is the fused depth of the keyframes better than the predictions it was fused from?

docs/benchmarks.md defines both errors. The single one is the median over the pairs of a keyframe, since they may include
candidates for a loop that were rejected.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from harness import evenly

from mapping_bench.cases import Opened, Wrapper, frames_at
from st3r_ros.config import CloudConfig
from st3r_ros.errors import FrameError
from st3r_ros.eval.association import associate
from st3r_ros.eval.depth import compare_depth, resample_depth
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import SE3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.stream import LensCorrection
from st3r_ros.types import Frame, Keyframe, PairModel, PairPrediction

MAX_KEYFRAMES = 40
MAX_PAIRS = 5
MIN_CONF = CloudConfig.min_conf


@dataclass(frozen=True)
class DensePair:
    """A dense prediction that was asked for: the stamps of its images, and the relative pose that came along."""

    stamp0_ns: int
    stamp1_ns: int
    T_0_1: SE3 | None

    def swapped(self) -> DensePair:
        """The same pair the other way round."""
        return DensePair(self.stamp1_ns, self.stamp0_ns, None if self.T_0_1 is None else self.T_0_1.inverse())


class RecordingModel(Wrapper):
    """Wraps the pair model of a mapper and records the requested dense predictions."""

    def __init__(self, model: PairModel) -> None:
        super().__init__(model)
        self._stamps: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.pairs: list[DensePair] = []

    def encode(self, frame: Frame) -> Any:
        """As the model's."""
        features = self.wrapped.encode(frame)
        self._stamps[features] = frame.stamp_ns
        return features

    def predict(self, features0: Any, features1: Any, *, dense: bool = True, **settings: Any) -> PairPrediction:
        """As the model's."""
        if dense:
            self.pairs.append(DensePair(self._stamps[features0], self._stamps[features1], settings.get("T_0_1")))
        return self.wrapped.predict(features0, features1, dense=dense, **settings)

    def pairs_of(self, stamp_ns: int, tracked_ns: Collection[int]) -> list[DensePair]:
        """A few of the pairs of one image with tracked ones, this one first; with itself where there are no others."""
        pairs = [p if p.stamp0_ns == stamp_ns else p.swapped() for p in self.pairs if stamp_ns in (p.stamp0_ns, p.stamp1_ns)]
        others = {p.stamp1_ns: p for p in pairs if p.stamp1_ns != stamp_ns and p.stamp1_ns in tracked_ns}
        return evenly(list(others.values()) or [p for p in pairs if p.stamp1_ns == stamp_ns][:1], MAX_PAIRS)


@dataclass(frozen=True)
class FusionErrors:
    """AbsRel of the fused and of the single depth maps, means over `keyframes`, NaN where there are none.

    coverage: share of the measured pixels that the fused keyframes claim.
    """

    fused: float = math.nan
    single: float = math.nan
    coverage: float = math.nan
    keyframes: int = 0


def fusion_errors(keyframe_map: KeyframeMap, opened: Opened, model: RecordingModel) -> FusionErrors:
    """Compares the keyframes with the depth images of the sequence, and what `model` predicted of them."""
    sequence, everything = opened.sequence, list(keyframe_map.keyframes.values())
    if getattr(sequence, "depth", None) is None or sequence.camera is None:
        return FusionErrors()
    found = associate(np.array([k.stamp_ns for k in everything], np.int64), sequence.depth.stamps_ns)
    indices = evenly(list(zip(found.queries.tolist(), found.references.tolist(), strict=True)), MAX_KEYFRAMES)
    tracked = set(keyframe_map.trajectory().stamps_ns.tolist())
    compared = [(everything[i], model.pairs_of(everything[i].stamp_ns, tracked), image) for i, image in indices]
    needed = {stamp for keyframe, pairs, _ in compared for stamp in (keyframe.stamp_ns, *(p.stamp1_ns for p in pairs))}
    views = _Encoded(model.wrapped, frames_at(opened.frames, needed))
    rows = []
    for keyframe, pairs, image in compared:
        try:
            measured = sequence.depth.depth(image)
        except FrameError:
            continue
        K = views.true_K(keyframe, sequence.camera)
        truth = resample_depth(measured, sequence.depth.camera or sequence.camera, K, *keyframe.conf.shape)
        fused = _claimed(keyframe.X, keyframe.conf)
        errors = compare_depth(fused, truth)
        if errors is not None:
            same_pixels = np.where(np.isfinite(fused), truth, 0.0)
            rows.append((errors.median_scaled.abs_rel, views.single_error(pairs, same_pixels), errors.coverage))
    if not rows:
        return FusionErrors()
    fused_error, single_error, coverage = np.array(rows).T
    known = single_error[np.isfinite(single_error)]
    single = float(known.mean()) if len(known) else math.nan
    return FusionErrors(float(fused_error.mean()), single, float(coverage.mean()), len(rows))


class _Encoded:
    """Features of frames by their stamps, made when they are needed, as the mapper had them."""

    def __init__(self, model: PairModel, frames: dict[int, Frame]) -> None:
        self._model, lens = model, LensCorrection()
        self.of = cache(lambda stamp_ns: model.encode(lens.undistorted(frames[stamp_ns])))

    def true_K(self, keyframe: Keyframe, camera: Camera) -> np.ndarray:
        """(3, 3) intrinsics of a keyframe's pointmap, also where the mapper was not told them. camera: of the source."""
        plan = getattr(self.of(keyframe.stamp_ns), "plan", None)  # of networks that crop
        return plan.scale_K(camera.K) if plan is not None else camera.scaled(*keyframe.conf.shape[::-1]).K

    def single_error(self, pairs: list[DensePair], truth: np.ndarray) -> float:
        """Median AbsRel of the predictions of image 0 of the pairs, NaN without any."""
        errors = []
        for pair in pairs:
            prediction = self._model.predict(self.of(pair.stamp0_ns), self.of(pair.stamp1_ns), T_0_1=pair.T_0_1, dense=True)
            assert prediction.X_0_0 is not None and prediction.conf0 is not None
            found = compare_depth(_claimed(prediction.X_0_0, prediction.conf0), truth)
            errors += [] if found is None else [found.median_scaled.abs_rel]
        return float(np.median(errors)) if errors else math.nan


def _claimed(X: torch.Tensor, conf: torch.Tensor) -> np.ndarray:
    """(h, w) depth, NaN where the confidence is below that of the published cloud."""
    return torch.where(conf.float() >= MIN_CONF, X[..., 2].float(), math.nan).cpu().numpy()
