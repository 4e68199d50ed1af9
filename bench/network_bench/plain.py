# SPDX-License-Identifier: Apache-2.0
"""The same results by deliberately plain means, as the baseline that speed is compared with.

Attention scores are materialised, both images are encoded again for every pair, every output is computed in float32 (with TF32
products on CUDA), nothing is cached or captured, pairs go one by one, and matches are searched from both images.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from network_bench.stages import Stage, Workload
from network_bench.timing import tf32
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize, resize_live
from st3r_ros.pair.matching.reciprocal import one_order_matches

DTYPE = "fp32+tf32"
MODE = "plain"


def plain_tracked_frame(work: Workload, mode: str = MODE) -> Stage:
    """A new image and its keyframe through the whole network, and matches from both."""

    def run() -> None:
        new = torch.from_numpy(work.sources[1]).to(work.network.device)
        output = whole_network(work, work.images[0][:1], normalize(resize_live(new[None], work.plan)))
        view0, view1 = output.view0, output.view1
        if view0.desc is not None:
            one_order_matches(view0.desc[0], view1.desc[0], view0.desc_conf[0], view1.desc_conf[0])

    return Stage("tracked frame", run, 1, work.flops.tracked_frame)


def plain_symmetric_pair(work: Workload, mode: str = MODE) -> Stage:
    """Both orders of every pair through the whole network, one after the other."""

    def run() -> None:
        for a, b in zip(*(images.split(1) for images in work.images), strict=True):
            whole_network(work, a, b)
            whole_network(work, b, a)

    return Stage("symmetric pair", run, work.batch, work.batch * work.flops.symmetric_pair)


PLAIN = {"tracked": plain_tracked_frame, "symmetric": plain_symmetric_pair}


def whole_network(work: Workload, images0: torch.Tensor, images1: torch.Tensor) -> PairOutput:
    """Both views of pairs of normalized images (B, 3, H, W)."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), tf32(True):
        return work.network(images0, images1)
