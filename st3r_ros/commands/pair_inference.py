# SPDX-License-Identifier: Apache-2.0
"""Runs a pair model on two images, in both orders, or on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from st3r_ros.commands.settings import Settings
from st3r_ros.commands.stages import Stages
from st3r_ros.config import MASt3RPairConfig, PairCommandConfig
from st3r_ros.errors import ConfigError
from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import ImagePlan, normalize, plan_image, resize_live
from st3r_ros.pair import load_pair_model
from st3r_ros.pair.mast3r.fine import match_full_resolution
from st3r_ros.pair.mast3r.inference import MASt3RFeatures
from st3r_ros.pair.mast3r.load import load_mast3r
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.matches import DescriptorMatches, PixelMatches
from st3r_ros.pair.matching.pointmaps import PointMaps, symmetric_pointmap_matches
from st3r_ros.pair.matching.reciprocal import DescriptorMaps, symmetric_matches
from st3r_ros.types import Features, Frame, PairPrediction


@dataclass(frozen=True, eq=False)
class SeenImage:
    """One image of a pair, and its pointmaps at working size.

    image: (h, w, 3) uint8. X_0: (h, w, 3) float32 in camera 0, conf: (h, w) float32, 0 = unknown.
    X_own, conf_own: the same in the image's own camera, from the order of the pair in which it comes first.
    K: (3, 3) float64 intrinsics at working size, NaN when the pointmap gives none. K_original: at the size of the file.
    """

    image: np.ndarray
    X_0: np.ndarray
    conf: np.ndarray
    X_own: np.ndarray
    conf_own: np.ndarray
    K: np.ndarray
    K_original: np.ndarray


@dataclass(frozen=True, eq=False)
class FoundMatches:
    """pixels0, pixels1: (N, 2) float64 at working size. weight: (N,) float64, more for better matches."""

    pixels0: np.ndarray
    pixels1: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, eq=False)
class PairReport:
    """images: two, or one without matches. metric: whether points are in metres.

    focal_source: "pointmap", or "assumed" when the model assumes the focal length.
    """

    model: str
    metric: bool
    device: str
    dtype: str
    focal_source: str
    images: tuple[SeenImage, ...]
    matches: FoundMatches | None


def ask_pair_model(images: Sequence[np.ndarray], config: PairCommandConfig, settings: Settings, stages: Stages) -> PairReport:
    """Runs the pair model on one or two images (H, W, 3) uint8.

    Raises:
        St3rError: the model cannot be loaded, or an image has an unsupported shape.
    """
    if config.pair_model == "mast3r":
        return _ask_network(images, config.checkpoint, settings.mast3r, stages, config.fine)
    return _ask_protocol(images, config, settings, stages)


def _ask_network(
    images: Sequence[np.ndarray], checkpoint: str, config: MASt3RPairConfig, stages: Stages, fine: bool
) -> PairReport:
    with stages.stage("load", "Loading the weights"):
        # Graphs and compilation pay off from the second pair on.
        model = load_mast3r(checkpoint, replace(config, acceleration="eager") if config.acceleration == "auto" else config)
    network, device = model.network, model.network.device
    if device.type == "cuda":
        stages.synchronize = torch.cuda.synchronize
    with stages.stage("preprocess", "Preparing the images"):
        plans = [plan_image(image.shape[1], image.shape[0], model.working_size) for image in images]
        working = [resize_live(torch.from_numpy(image).to(device), plan) for image, plan in zip(images, plans, strict=True)]
        inputs = [normalize(image[None], network.dtype) for image in working]
    with stages.stage("encode", "Encoding"), torch.inference_mode():
        tokens = [network.encode(image)[0] for image in inputs]
    seen = [
        MASt3RFeatures(image.cpu().numpy(), np.full((3, 3), np.nan), False, x, network.grid(normalized), plan)
        for image, x, normalized, plan in zip(working, tokens, inputs, plans, strict=True)
    ]
    with stages.stage("decode+heads", "Decoding"):
        outputs = model.infer([(seen[0], seen[-1]), (seen[-1], seen[0])][: len(seen)])
    matches = None
    if len(seen) == 2:
        with stages.stage("match", "Matching"), torch.inference_mode():
            found = _match_outputs(outputs[0], outputs[1], config)
            matches = _found(found, config)
        if fine and network.config.desc_dim:
            with stages.stage("match fine", "Matching at full resolution"):
                matches = _found(_match_fine(model, images, plans, found, config), config)
    return PairReport(
        model=model.name,
        metric=model.metric,
        device=str(device),
        dtype=str(network.dtype).removeprefix("torch."),
        focal_source="pointmap",
        images=tuple(_seen_by_network(features, outputs, index) for index, features in enumerate(seen)),
        matches=matches,
    )


def _match_fine(
    model: MASt3RPairModel,
    images: Sequence[np.ndarray],
    plans: Sequence[ImagePlan],
    coarse: PixelMatches,
    config: MASt3RPairConfig,
) -> DescriptorMatches:
    """Matches at full resolution, in pixels of the working images, without those in cropped parts."""
    plan0, plan1 = plans
    full0, full1 = plan0.to_original(coarse.pixels0.cpu().numpy()), plan1.to_original(coarse.pixels1.cpu().numpy())
    full = PixelMatches(torch.from_numpy(full0).float(), torch.from_numpy(full1).float())
    found = match_full_resolution(model, images[0], images[1], full, subsample=config.match_subsample)
    fine0, fine1 = plan0.to_working(found.pixels0.numpy()), plan1.to_working(found.pixels1.numpy())
    inside = [((p >= 0) & (p <= np.array(plan.out) - 1)).all(axis=1) for p, plan in ((fine0, plan0), (fine1, plan1))]
    kept = torch.from_numpy(inside[0] & inside[1])
    return DescriptorMatches(torch.from_numpy(fine0)[kept], torch.from_numpy(fine1)[kept], found.conf[kept])


def _found(matches: DescriptorMatches, config: MASt3RPairConfig) -> FoundMatches:
    """The matches with sufficient confidence."""
    trusted = matches.conf >= config.min_match_conf
    values = (x[trusted].cpu().numpy() for x in (matches.pixels0, matches.pixels1, matches.conf))
    return FoundMatches(*(x.astype(np.float64) for x in values))


def _match_outputs(order01: PairOutput, order10: PairOutput, config: MASt3RPairConfig) -> DescriptorMatches:
    """Matches of both orders of the pair: by descriptors or, without them, by points."""
    of0, of1 = (order01.view0, order10.view1), (order01.view1, order10.view0)
    orders = zip(of0, of1, strict=True)
    if order01.view0.desc is None:
        maps = [PointMaps(*map(_asked, (a.X, b.X, a.conf, b.conf))) for a, b in orders]
        return symmetric_pointmap_matches(*maps, subsample=config.match_subsample)
    descriptors = [DescriptorMaps(*map(_asked, (a.desc, b.desc, a.desc_conf, b.desc_conf))) for a, b in orders]
    return symmetric_matches(*descriptors, subsample=config.match_subsample)


def _seen_by_network(features: MASt3RFeatures, outputs: Sequence[PairOutput], index: int) -> SeenImage:
    own = outputs[index].view0
    in_camera0 = own if index == 0 else outputs[0].view1
    K = intrinsics_from_pointmap(_asked(own.X)).double().cpu().numpy()
    return SeenImage(
        image=features.image,
        X_0=_array(in_camera0.X),
        conf=_array(in_camera0.conf),
        X_own=_array(own.X),
        conf_own=_array(own.conf),
        K=K,
        K_original=np.linalg.solve(features.plan.working_from_original, K),
    )


def _ask_protocol(images: Sequence[np.ndarray], config: PairCommandConfig, settings: Settings, stages: Stages) -> PairReport:
    """Runs any other pair model through the `PairModel` protocol."""
    with stages.stage("load", "Loading the pair model"):
        model = load_pair_model(config.pair_model, config.checkpoint, opencv=settings.opencv, mast3r=settings.mast3r)
    if len(images) == 1 and not model.sees_depth_alone:
        raise ConfigError(f"The pair model '{config.pair_model}' cannot predict depth from one image; give two, or use mast3r.")
    with stages.stage("encode", "Encoding"):
        features = [model.encode(Frame(id, 0, image)) for id, image in enumerate(images)]
    with stages.stage("predict", "Predicting"):
        order01 = model.predict(features[0], features[-1])
        order10 = model.predict(features[-1], features[0])
    matches = order01.matches
    found = FoundMatches(*(_array(x).astype(np.float64) for x in (matches.pixels0, matches.pixels1, matches.weight)))
    seen = (
        _seen_by_protocol(features[0], images[0], order01.X_0_0, order01.conf0, order01),
        _seen_by_protocol(features[-1], images[-1], order01.X_0_1, order01.conf1, order10),
    )
    return PairReport(
        model=model.name,
        metric=model.metric,
        device="cpu",
        dtype="float32",
        focal_source="assumed",
        images=seen[: len(images)],
        matches=found if len(images) == 2 else None,
    )


def _seen_by_protocol(
    features: Features, image: np.ndarray, X_0: torch.Tensor | None, conf: torch.Tensor | None, first: PairPrediction
) -> SeenImage:
    """first: the order of the pair in which the image comes first."""
    scale = np.array(image.shape[1::-1]) / np.array(features.image.shape[1::-1])
    resize = np.array([[scale[0], 0.0, 0.5 * scale[0] - 0.5], [0.0, scale[1], 0.5 * scale[1] - 0.5], [0.0, 0.0, 1.0]])
    return SeenImage(
        image=features.image,
        X_0=_array(X_0),
        conf=_array(conf),
        X_own=_array(first.X_0_0),
        conf_own=_array(first.conf0),
        K=features.K,
        K_original=resize @ features.K,
    )


def _array(x: torch.Tensor | None) -> np.ndarray:
    return _asked(x).cpu().numpy()


def _asked(x: torch.Tensor | None) -> torch.Tensor:
    """An output that was requested and is therefore not None."""
    assert x is not None
    return x
