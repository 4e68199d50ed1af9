# SPDX-License-Identifier: Apache-2.0
"""The pair model of MASt3R and DUSt3R checkpoints: pointmaps by the network, matches by its descriptors or its points."""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.geometry.resizing import resized_mask
from st3r_ros.geometry.transforms import SE3
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput, ViewOutput
from st3r_ros.network.preprocess import ImagePlan, normalize, plan_image, resize_live
from st3r_ros.network.retrieval import RetrievalHead, global_descriptors
from st3r_ros.pair.masks import claimed, usable_matches
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.correspondences import match_descriptors, match_points, match_projections
from st3r_ros.pair.mast3r.device_memory import naming_full_memory
from st3r_ros.pair.mast3r.inference import Inference, MASt3RFeatures, Pair
from st3r_ros.pair.mast3r.reconstruction import reconstruct
from st3r_ros.pair.reconstruction import Reconstruction, Stage
from st3r_ros.types import Frame, Matches, ModelTraits, PairPrediction

logger = logging.getLogger(__name__)

NO_CLAIM = 0.999
"""The confidence above which a prediction is used (the minimum of the network is 1)."""

MIN_SHARE_FOLLOWED = 0.1
"""Below this share of pixels matched by projection, the views differ too much for it and descriptors are used."""


P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(
    method: Callable[Concatenate[MASt3RPairModel, P], R],
) -> Callable[Concatenate[MASt3RPairModel, P], R]:
    """Other threads wait: the network keeps its last outputs and its graphs' memory from call to call."""

    @functools.wraps(method)
    def locked(self: MASt3RPairModel, /, *arguments: P.args, **options: P.kwargs) -> R:
        with self.lock:
            return method(self, *arguments, **options)

    return locked


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """image: (h, w, 3) uint8 at working size. input: the same as the network takes it, (1, 3, h, w) on its device."""

    plan: ImagePlan
    image: np.ndarray
    input: torch.Tensor


class MASt3RPairModel:
    """Follows the `PairModel` protocol, on the device and in the precision of the network, one thread at a time.

    Tensors of a prediction are on the CPU, where the mapping runs; `infer` returns them on the network's device.
    """

    def __init__(
        self, network: PairNetwork, config: MASt3RPairConfig | None = None, retrieval: RetrievalHead | None = None
    ) -> None:
        self.config = config or MASt3RPairConfig()
        self.network = network
        self.name = network.config.kind
        self.traits = ModelTraits(
            metric=self.name == "mast3r",  # published MASt3R checkpoints are metric; DUSt3R is up to scale
            monocular_depth=True,
            relative_depth_sigma=0.1,
            device=str(network.device),
            dtype=str(network.dtype).removeprefix("torch."),
        )
        mode = self.config.acceleration
        if mode == "auto":
            mode = "graphs" if network.device.type == "cuda" else "eager"
        # One pair already saturates a CPU; a batch would only need more memory.
        batch_size = self.config.batch_size if network.device.type == "cuda" else 1
        self._inference = Inference(network, mode=mode, batch_size=batch_size)
        self._retrieval = retrieval
        self.lock = threading.RLock()
        self._estimated_K: dict[ImagePlan, np.ndarray] = {}
        self._last: tuple[Pair, PairOutput] | None = None

    @property
    def working_size(self) -> int:
        """Longer side of the working images, pixels."""
        return self.config.image_size or self.network.config.working_size

    @_one_at_a_time
    def encode(self, frame: Frame) -> MASt3RFeatures:
        """Working image, intrinsics and tokens of an undistorted frame.

        Without a calibration the focal length is estimated from the pointmap of the first image of each size.

        Raises:
            FrameError: the image is too thin.
            DeviceMemoryError: it does not fit on the GPU.
        """
        features = self.see(frame.image)
        if frame.mask is not None:
            features.mask = _working_mask(frame.mask, features.plan)
        features.K_known = frame.camera is not None
        features.K = self._intrinsics(features) if frame.camera is None else features.plan.scale_K(frame.camera.K)
        return features

    @naming_full_memory()
    @torch.no_grad()
    def see(self, image: np.ndarray) -> MASt3RFeatures:
        """Like `encode`, for an image (H, W, 3) uint8 RGB without a frame; its intrinsics are NaN."""
        return self.tokenize(self.prepare(image))

    def prepare(self, image: np.ndarray) -> PreparedImage:
        """The first half of `see`. Raises FrameError for an image that is too thin."""
        height, width = image.shape[:2]
        plan = plan_image(width, height, self.working_size)
        pixels = resize_live(torch.from_numpy(image).to(self.network.device), plan)
        working = pixels.cpu().numpy()  # now, while the device is not busy
        return PreparedImage(plan, working, normalize(pixels[None], self.network.dtype))

    @_one_at_a_time
    def tokenize(self, prepared: PreparedImage) -> MASt3RFeatures:
        """The second half of `see`."""
        tokens = self._inference.encode(prepared.input)[0]
        patch, (width, height) = self.network.config.patch_size, prepared.plan.out
        grid = height // patch, width // patch
        return MASt3RFeatures(prepared.image, np.full((3, 3), np.nan), False, tokens, grid, prepared.plan)

    @_one_at_a_time
    def infer(self, pairs: Sequence[Pair], *, pointmaps: bool = True, descriptors: bool = True) -> list[PairOutput]:
        """The network outputs of each pair, on its device: see `Inference.infer`. Both orders of a pair make it symmetric."""
        return self._inference.infer(pairs, pointmaps=pointmaps, descriptors=descriptors)

    @_one_at_a_time
    @naming_full_memory()
    @torch.no_grad()
    def predict(
        self,
        features0: MASt3RFeatures,
        features1: MASt3RFeatures,
        *,
        T_0_1: SE3 | None = None,
        seed: Matches | None = None,
        dense: bool = True,
        verified: bool = True,
    ) -> PairPrediction:
        """Pointmaps in metres (with a metric checkpoint), confidences and matches of a pair; `T_0_1` is not used, `verified` not
        either.

        Raises:
            DeviceMemoryError: it does not fit on the GPU.
        """
        pair = features0, features1
        matches = usable_matches(self._match(pair, seed), features0.mask, features1.mask)
        if not dense:
            return PairPrediction(matches, math.nan)
        output = self._output(pair, pointmaps=True, descriptors=False)
        view0, view1 = output.view0, output.view1
        assert view0.X is not None and view1.X is not None and view0.conf is not None and view1.conf is not None
        # Points behind the camera and overflows of half precision are invalid.
        finite0, finite1 = view0.X.isfinite().all(dim=-1), view1.X.isfinite().all(dim=-1)
        conf0 = torch.where(finite0 & (view0.X[..., 2] > 0), view0.conf - NO_CLAIM, 0.0).clamp_min(0.0)
        conf1 = torch.where(finite1, view1.conf - NO_CLAIM, 0.0).clamp_min(0.0)
        conf0, conf1 = claimed(conf0.cpu(), features0.mask), claimed(conf1.cpu(), features1.mask)
        return PairPrediction(matches, math.nan, view0.X.cpu(), view1.X.cpu(), conf0, conf1)

    def adopt(self, features: MASt3RFeatures, pixels: torch.Tensor) -> None:
        """Does nothing: every pixel is matched."""

    @torch.no_grad()
    def describe(self, features: MASt3RFeatures) -> torch.Tensor:
        """Global descriptor (D,) float32 of unit length, for finding images of the same place by dot product."""
        tokens = features.tokens
        if features.mask is not None:
            shown = _usable_patches(features.mask, features.grid)
            tokens = tokens[torch.from_numpy(shown).to(tokens.device)] if shown.any() else tokens
        return global_descriptors(tokens[None], self._retrieval)[0]

    @naming_full_memory()
    def reconstruct(
        self, image0: np.ndarray, image1: np.ndarray | None = None, *, fine: bool = False, stage: Stage = nullcontext
    ) -> Reconstruction:
        """Everything the network gives in both orders of a pair, or of one image with itself.

        Raises:
            FrameError: an image is too thin.
            DeviceMemoryError: it does not fit on the GPU.
        """
        # Graphs pay off from the second pair on.
        config = replace(self.config, acceleration="eager") if self.config.acceleration == "auto" else self.config
        images = [image0] if image1 is None else [image0, image1]
        return reconstruct(MASt3RPairModel(self.network, config), images, fine=fine, stage=stage)

    def _match(self, pair: Pair, seed: Matches | None) -> Matches:
        """Matches by projection from the last matches; by reciprocal search without them or after a large change of view."""
        subsample, min_conf, how = self.config.match_subsample, self.config.min_match_conf, self.config.matching
        if how == "projective" or (how == "auto" and seed is not None):
            output = self._output(pair, pointmaps=True, descriptors=True)
            matches = match_projections(self._inference, output, seed, subsample, min_conf)
            if how == "projective" or len(matches) >= MIN_SHARE_FOLLOWED * matches.possible:
                return matches
        if self.network.config.desc_dim:
            return match_descriptors(self._output(pair, pointmaps=False, descriptors=True), subsample, min_conf)
        return match_points(self._output(pair, pointmaps=True, descriptors=False), subsample, min_conf)

    def _output(self, pair: Pair, *, pointmaps: bool, descriptors: bool) -> PairOutput:
        """At least the requested outputs; those of the last pair are cached, for a frame that becomes a keyframe."""
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
            X = self._output((features, features), pointmaps=True, descriptors=False).view0.X
            assert X is not None
            K = intrinsics_from_pointmap(X).double().cpu().numpy()
            width, height = features.plan.out
            if not np.isfinite(K).all():
                fov = self.config.assumed_fov_deg
                logger.warning("The first image gives no focal length: a horizontal field of view of %g degrees is assumed.", fov)
                focal = 0.5 * width / math.tan(math.radians(fov) / 2)
                K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
            self._estimated_K[features.plan] = K
        return self._estimated_K[features.plan]


def _working_mask(mask: np.ndarray, plan: ImagePlan) -> np.ndarray:
    """The mask (h, w) of the working image."""
    (x, y), (width, height) = plan.offset, plan.out
    return resized_mask(mask, *plan.resized)[y : y + height, x : x + width]


def _usable_patches(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Which patches, row by row, are usable by half at least."""
    rows, columns = grid
    shares = mask.reshape(rows, mask.shape[0] // rows, columns, mask.shape[1] // columns).mean(axis=(1, 3))
    return (shares >= 0.5).ravel()
