# SPDX-License-Identifier: Apache-2.0
"""Two images, or one, with everything the network gives: both orders of the pair, and the matches of both.

Images larger than the network's working size can be matched again at full resolution (MASt3R paper, coarse to fine).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.network.outputs import PairOutput
from st3r_ros.pair.mast3r.inference import MASt3RFeatures
from st3r_ros.pair.matching.coarse_to_fine import CropWindow, WindowPair, coarse_to_fine
from st3r_ros.pair.matching.pointmaps import PointMaps, symmetric_pointmap_matches
from st3r_ros.pair.matching.reciprocal import DescriptorMaps, one_order_matches, symmetric_matches
from st3r_ros.pair.reconstruction import ReconstructedImage, Reconstruction, Stage, as_array
from st3r_ros.types import Matches

if TYPE_CHECKING:
    from st3r_ros.pair.mast3r.model import MASt3RPairModel


@torch.no_grad()
def reconstruct(model: MASt3RPairModel, images: Sequence[np.ndarray], *, fine: bool, stage: Stage) -> Reconstruction:
    """Pointmaps and matches of one or two images (H, W, 3) uint8. fine: matches at full resolution, with descriptors."""
    with stage("preprocess"):
        prepared = [model.prepare(image) for image in images]
    with stage("encode"):
        seen = [model.tokenize(image) for image in prepared]
    with stage("decode+heads"):
        outputs = model.infer([(seen[0], seen[-1]), (seen[-1], seen[0])][: len(seen)])
    matches = None
    if len(seen) == 2:
        with stage("match"):
            found = _match_outputs(outputs[0], outputs[1], model.config.match_subsample)
        if fine and model.network.config.desc_dim:
            with stage("match fine"):
                found = _match_fine(model, images, seen, found)
        matches = _trusted(found, model.config.min_match_conf)
    return Reconstruction(tuple(_reconstructed(one, outputs, index) for index, one in enumerate(seen)), matches, "pointmap")


@torch.no_grad()
def match_full_resolution(
    model: MASt3RPairModel, image0: np.ndarray, image1: np.ndarray, coarse: Matches, *, subsample: int = 8
) -> Matches:
    """Matches of two images (H, W, 3) uint8, in pixels of the images, float32, on the CPU.

    coarse: matches of the reduced images, in pixels of the full ones. The network must have descriptors.
    """
    side = model.working_size
    images = image0, image1
    seen: dict[tuple[int, CropWindow], MASt3RFeatures] = {}

    def see(view: int, window: CropWindow) -> MASt3RFeatures:
        if (view, window) not in seen:
            part = images[view][window.y : window.y + window.height, window.x : window.x + window.width]
            seen[view, window] = model.see(np.ascontiguousarray(part))
        return seen[view, window]

    def match_windows(pairs: Sequence[WindowPair]) -> list[Matches]:
        features = [(see(0, window0), see(1, window1)) for window0, window1 in pairs]
        outputs = model.infer(features, pointmaps=False)
        return [_in_window(output, *pair, subsample) for output, pair in zip(outputs, features, strict=True)]

    shapes = image0.shape[:2], image1.shape[:2]
    return coarse_to_fine(coarse, *shapes, match_windows, window_shape=(3 * side // 4, side))


def _in_window(output: PairOutput, features0: MASt3RFeatures, features1: MASt3RFeatures, subsample: int) -> Matches:
    """Matches of two windows, in pixels of the windows."""
    maps = (_asked(x) for x in (output.view0.desc, output.view1.desc, output.view0.desc_conf, output.view1.desc_conf))
    found = one_order_matches(*maps, subsample=subsample)
    pixels = (f.plan.to_original(p.cpu().numpy()) for f, p in ((features0, found.pixels0), (features1, found.pixels1)))
    pixels0, pixels1 = (torch.from_numpy(p).float() for p in pixels)
    return Matches(pixels0, pixels1, found.weight.cpu())


def _match_fine(model: MASt3RPairModel, images: Sequence[np.ndarray], seen: Sequence[MASt3RFeatures], coarse: Matches) -> Matches:
    """Matches at full resolution, in pixels of the working images, without those in cropped parts."""
    plan0, plan1 = (one.plan for one in seen)
    full0, full1 = plan0.to_original(coarse.pixels0.cpu().numpy()), plan1.to_original(coarse.pixels1.cpu().numpy())
    full = Matches(torch.from_numpy(full0).float(), torch.from_numpy(full1).float())
    found = match_full_resolution(model, images[0], images[1], full, subsample=model.config.match_subsample)
    fine0, fine1 = plan0.to_working(found.pixels0.numpy()), plan1.to_working(found.pixels1.numpy())
    inside = [((p >= 0) & (p <= np.array(plan.out) - 1)).all(axis=1) for p, plan in ((fine0, plan0), (fine1, plan1))]
    kept = torch.from_numpy(inside[0] & inside[1])
    return Matches(torch.from_numpy(fine0), torch.from_numpy(fine1), found.weight).chosen(kept)


def _match_outputs(order01: PairOutput, order10: PairOutput, subsample: int) -> Matches:
    """Matches of both orders of the pair: by descriptors or, without them, by points."""
    of0, of1 = (order01.view0, order10.view1), (order01.view1, order10.view0)
    orders = zip(of0, of1, strict=True)
    if order01.view0.desc is None:
        maps = [PointMaps(*map(_asked, (a.X, b.X, a.conf, b.conf))) for a, b in orders]
        return symmetric_pointmap_matches(*maps, subsample=subsample)
    descriptors = [DescriptorMaps(*map(_asked, (a.desc, b.desc, a.desc_conf, b.desc_conf))) for a, b in orders]
    return symmetric_matches(*descriptors, subsample=subsample)


def _trusted(found: Matches, min_conf: float) -> Matches:
    """The matches with sufficient confidence, on the CPU."""
    return found.chosen(found.weight >= min_conf).to("cpu")


def _reconstructed(features: MASt3RFeatures, outputs: Sequence[PairOutput], index: int) -> ReconstructedImage:
    own = outputs[index].view0
    in_camera0 = own if index == 0 else outputs[0].view1
    K = intrinsics_from_pointmap(_asked(own.X)).double().cpu().numpy()
    return ReconstructedImage(
        image=features.image,
        X_0=as_array(in_camera0.X),
        conf=as_array(in_camera0.conf),
        X_own=as_array(own.X),
        conf_own=as_array(own.conf),
        K=K,
        K_original=np.linalg.solve(features.plan.working_from_original, K),
    )


def _asked(x: torch.Tensor | None) -> torch.Tensor:
    """An output that was requested and is therefore not None."""
    assert x is not None
    return x
