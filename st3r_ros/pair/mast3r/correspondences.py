# SPDX-License-Identifier: Apache-2.0
"""Matches of a pair from the network outputs, by three methods.

All start from every `subsample`-th pixel of image 1, skip pixels with a confidence below `min_conf`, and return matches on the
CPU, weighted by their confidence.
"""

from __future__ import annotations

import torch

from st3r_ros.network.outputs import PairOutput
from st3r_ros.pair.mast3r.graphs import Tensors
from st3r_ros.pair.mast3r.inference import Inference
from st3r_ros.pair.matching.matches import image_shape, values_at
from st3r_ros.pair.matching.pointmaps import pointmap_matches
from st3r_ros.pair.matching.projective import Projections, projective_matches, seeds_from
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.pair.matching.subpixel import refine_matches
from st3r_ros.types import Matches

FULL_TRUST = 0.9  # quantile of the confidences with weight 1
LEAST_WEIGHT = 1e-3


def match_descriptors(output: PairOutput, subsample: int, min_conf: float) -> Matches:
    """Reciprocal nearest descriptors with sub-pixel positions in image 0, for any two views of a place."""
    view0, view1 = output.view0, output.view1
    assert view0.desc is not None and view1.desc is not None
    assert view0.desc_conf is not None and view1.desc_conf is not None
    found = fast_reciprocal(view1.desc, view0.desc, subsample=subsample).swapped()
    conf = torch.minimum(values_at(view0.desc_conf, found.pixels0), values_at(view1.desc_conf, found.pixels1))
    fine = refine_matches(view0.desc, view1.desc, found)
    return _weighted(fine, conf, min_conf, _queries(view1.desc_conf, subsample))


def match_points(output: PairOutput, subsample: int, min_conf: float) -> Matches:
    """Reciprocal nearest points, for networks without descriptors."""
    view0, view1 = output.view0, output.view1
    assert view0.X is not None and view1.X is not None and view0.conf is not None and view1.conf is not None
    found = pointmap_matches(view0.X, view1.X, view0.conf, view1.conf, subsample=subsample, min_conf=min_conf)
    return _weighted(found, found.weight, min_conf, _queries(view1.conf, subsample))


def match_projections(inference: Inference, output: PairOutput, seed: Matches | None, subsample: int, min_conf: float) -> Matches:
    """Projects the points of image 1 into image 0 and refines them by descriptors if available, for views with large overlap.

    seed: approximate matches, such as those of the previous frame. inference: runs the search.
    """
    view0, view1 = output.view0, output.view1
    assert view0.X is not None and view1.X is not None and view0.conf is not None and view1.conf is not None
    seeds = None
    if seed is not None:
        seeds = seeds_from(seed.to(view1.X.device), image_shape(view1.conf), subsample)[None]

    def search(X_0_0: torch.Tensor, X_0_1: torch.Tensor, *more: torch.Tensor | None) -> Tensors:
        *descriptors, seeds = more
        found = projective_matches(X_0_0, X_0_1, *descriptors, subsample=subsample, seeds=seeds)
        return found.pixels0, found.pixels1, found.valid

    maps = [None if x is None else x[None] for x in (view0.X, view1.X, view0.desc, view1.desc)]
    pixels0, pixels1, valid = inference.run(("projective", subsample), search, *maps, seeds)
    assert pixels0 is not None and pixels1 is not None and valid is not None
    found = Projections(pixels0, pixels1, valid).of_pair(0)
    conf0, conf1 = (view.conf if view.desc_conf is None else view.desc_conf for view in (view0, view1))
    assert conf0 is not None and conf1 is not None
    height, width = conf0.shape
    inside = torch.stack([found.pixels0[:, 0].clamp(0, width - 1), found.pixels0[:, 1].clamp(0, height - 1)], dim=1)
    conf = torch.minimum(values_at(conf0, inside.round().long()), values_at(conf1, found.pixels1.long()))
    return _weighted(found, conf, min_conf, _queries(conf1, subsample))


def _weighted(found: Matches, conf: torch.Tensor, min_conf: float, possible: int) -> Matches:
    """The matches with a confidence (N,) of at least `min_conf`, as a `PairPrediction` has them."""
    kept = conf.float() >= min_conf
    pixels0, pixels1, conf = (x[kept].float().cpu() for x in (found.pixels0, found.pixels1, conf))
    reference = conf.quantile(FULL_TRUST) if len(conf) else torch.ones(())
    return Matches(pixels0, pixels1, (conf / reference).clamp(LEAST_WEIGHT, 1.0), possible)


def _queries(conf1: torch.Tensor, subsample: int) -> int:
    """Number of pixels of image 1 that are looked up, the maximum number of matches."""
    rows, columns = (len(range(subsample // 2, size, subsample)) for size in conf1.shape)
    return max(rows * columns, 1)
