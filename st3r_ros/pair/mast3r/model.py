# SPDX-License-Identifier: Apache-2.0
"""The pair model of MASt3R and DUSt3R checkpoints: pointmaps by the network, matches by its descriptors or its points."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch

from st3r_ros.config import MASt3RPairConfig
from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.geometry.se3 import SE3
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput, ViewOutput
from st3r_ros.network.preprocess import ImagePlan, normalize, plan_image, resize_live
from st3r_ros.network.retrieval import RetrievalHead, global_descriptors
from st3r_ros.pair.mast3r.correspondences import Correspondences
from st3r_ros.pair.mast3r.inference import Inference, MASt3RFeatures, Pair
from st3r_ros.types import Frame, Matches, PairPrediction

logger = logging.getLogger(__name__)

NO_CLAIM = 0.999
"""The confidence at which a prediction begins to count (the lowest the network gives is 1)."""


class MASt3RPairModel:
    """Follows the `PairModel` protocol, on the device and in the precision of the network. Not thread-safe.

    Tensors of a prediction are on the CPU, where mapping solves its small problems; `infer` gives them on the network's device.
    """

    relative_depth_sigma = 0.1
    depth_prior_sigma = 0.05
    sees_depth_alone = True

    def __init__(
        self, network: PairNetwork, config: MASt3RPairConfig | None = None, retrieval: RetrievalHead | None = None
    ) -> None:
        self._config = config or MASt3RPairConfig()
        self.network = network
        self.name = network.config.kind
        self.metric = self.name == "mast3r"  # as published; DUSt3R is up to scale
        mode = self._config.acceleration
        if mode == "auto":
            mode = "graphs" if network.device.type == "cuda" else "eager"
        self._inference = Inference(network, mode=mode, batch_size=self._config.batch_size)
        self._correspondences = Correspondences(self._config, bool(network.config.desc_dim))
        self._retrieval = retrieval
        self._estimated_K: dict[ImagePlan, np.ndarray] = {}
        self._last: tuple[Pair, PairOutput] | None = None

    @torch.inference_mode()
    def encode(self, frame: Frame) -> MASt3RFeatures:
        """Working image, intrinsics and tokens of an undistorted frame.

        Without a calibration the focal length is estimated from the pointmap of the first image of its size, and kept.

        Raises:
            FrameError: the image is so thin that nothing would be left of it.
        """
        height, width = frame.image.shape[:2]
        plan = plan_image(width, height, self._config.image_size or self.network.config.working_size)
        image = resize_live(torch.from_numpy(frame.image).to(self.network.device), plan)
        tokens = self._inference.encode(normalize(image[None], self.network.dtype))[0]
        patch = self.network.config.patch_size
        grid = plan.out[1] // patch, plan.out[0] // patch
        K = plan.scale_K(frame.camera.K) if frame.camera else np.eye(3)
        features = MASt3RFeatures(image.cpu().numpy(), K, frame.camera is not None, tokens, grid, plan)
        if not features.K_known:
            features.K = self._intrinsics(features)
        return features

    def infer(self, pairs: Sequence[Pair], *, pointmaps: bool = True, descriptors: bool = True) -> list[PairOutput]:
        """What the network says of each pair, on its device: see `Inference.infer`. Both orders of a pair make it symmetric."""
        return self._inference.infer(pairs, pointmaps=pointmaps, descriptors=descriptors)

    @torch.inference_mode()
    def predict(
        self,
        features0: MASt3RFeatures,
        features1: MASt3RFeatures,
        *,
        T_0_1: SE3 | None = None,
        seed: Matches | None = None,
        dense: bool = True,
    ) -> PairPrediction:
        """Pointmaps in metres (with a metric checkpoint), confidences and matches of a pair; `T_0_1` is not used."""
        pair = features0, features1
        matches = self._match(pair, seed)
        if not dense:
            return PairPrediction(matches, math.nan)
        output = self._output(pair, pointmaps=True, descriptors=False)
        view0, view1 = output.view0, output.view1
        assert view0.X is not None and view1.X is not None and view0.conf is not None and view1.conf is not None
        conf0, conf1 = ((conf - NO_CLAIM).clamp_min(0.0) for conf in (view0.conf, view1.conf))
        return PairPrediction(matches, math.nan, view0.X.cpu(), view1.X.cpu(), conf0.cpu(), conf1.cpu())

    def adopt(self, features: MASt3RFeatures, pixels: torch.Tensor) -> None:
        """Every pixel is matched anyway."""

    @torch.inference_mode()
    def describe(self, features: MASt3RFeatures) -> torch.Tensor:
        """Global descriptor (D,) float32 of unit length, for finding images of the same place by dot product."""
        return global_descriptors(features.tokens[None], self._retrieval)[0]

    def _output(self, pair: Pair, *, pointmaps: bool, descriptors: bool) -> PairOutput:
        """At least what is asked for; what is known of the last pair is kept: a frame that becomes a keyframe is asked for again."""
        known = self._last[1] if self._last is not None and self._last[0] == pair else PairOutput(ViewOutput(), ViewOutput())
        pointmaps = pointmaps and known.view0.X is None
        descriptors = descriptors and known.view0.desc is None
        if pointmaps or descriptors:
            more = self.infer([pair], pointmaps=pointmaps, descriptors=descriptors)[0]
            known = PairOutput(known.view0.with_more(more.view0), known.view1.with_more(more.view1))
            self._last = pair, known
        return known

    def _intrinsics(self, features: MASt3RFeatures) -> np.ndarray:
        """(3, 3) float64 for images of this plan, from the first of them."""
        if features.plan not in self._estimated_K:
            X = self.infer([(features, features)], descriptors=False)[0].view0.X
            assert X is not None
            K = intrinsics_from_pointmap(X).double().cpu().numpy()
            width, height = features.plan.out
            if np.isfinite(K).all():
                logger.warning("No camera calibration: the first image tells a focal length of %.0f pixels at %dx%d.", K[0, 0], width, height)
            else:
                fov = self._config.assumed_fov_deg
                K = np.array([[1.0, 0, (width - 1) / 2], [0, 1.0, (height - 1) / 2], [0, 0, 1]])
                K[0, 0] = K[1, 1] = 0.5 * width / math.tan(math.radians(fov) / 2)
                logger.warning("No camera calibration, and the first image tells none: assuming a field of view of %g degrees.", fov)
            self._estimated_K[features.plan] = K
        return self._estimated_K[features.plan]
