# SPDX-License-Identifier: Apache-2.0
"""Matches at the full resolution of images that are larger than the network's working size (MASt3R paper, coarse to fine)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from st3r_ros.network.outputs import PairOutput
from st3r_ros.pair.mast3r.inference import MASt3RFeatures
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.coarse_to_fine import Window, WindowPair, coarse_to_fine
from st3r_ros.pair.matching.matches import DescriptorMatches, PixelMatches
from st3r_ros.pair.matching.reciprocal import one_order_matches


@torch.no_grad()
def match_full_resolution(
    model: MASt3RPairModel, image0: np.ndarray, image1: np.ndarray, coarse: PixelMatches, *, subsample: int = 8
) -> DescriptorMatches:
    """Matches of two images (H, W, 3) uint8, in pixels of the images, float32, on the CPU.

    coarse: matches of the reduced images, in pixels of the full ones. The network must have descriptors.
    """
    side = model.working_size
    images = image0, image1
    seen: dict[tuple[int, Window], MASt3RFeatures] = {}

    def see(view: int, window: Window) -> MASt3RFeatures:
        if (view, window) not in seen:
            part = images[view][window.y : window.y + window.height, window.x : window.x + window.width]
            seen[view, window] = model.see(np.ascontiguousarray(part))
        return seen[view, window]

    def match_windows(pairs: Sequence[WindowPair]) -> list[DescriptorMatches]:
        features = [(see(0, window0), see(1, window1)) for window0, window1 in pairs]
        outputs = model.infer(features, pointmaps=False)
        return [_in_window(output, *pair, subsample) for output, pair in zip(outputs, features, strict=True)]

    shapes = image0.shape[:2], image1.shape[:2]
    return coarse_to_fine(coarse, *shapes, match_windows, window_shape=(3 * side // 4, side))


def _in_window(output: PairOutput, features0: MASt3RFeatures, features1: MASt3RFeatures, subsample: int) -> DescriptorMatches:
    """Matches of two windows, in pixels of the windows."""
    view0, view1 = output.view0, output.view1
    assert view0.desc is not None and view1.desc is not None
    assert view0.desc_conf is not None and view1.desc_conf is not None
    found = one_order_matches(view0.desc, view1.desc, view0.desc_conf, view1.desc_conf, subsample=subsample)
    pixels = (f.plan.to_original(p.cpu().numpy()) for f, p in ((features0, found.pixels0), (features1, found.pixels1)))
    pixels0, pixels1 = (torch.from_numpy(p).float() for p in pixels)
    return DescriptorMatches(pixels0, pixels1, found.conf.cpu())
