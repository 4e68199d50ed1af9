# SPDX-License-Identifier: Apache-2.0
"""What runs as a CUDA graph must not wait for the device, nor mix it with the CPU.

The meta device, whose tensors have no values, refuses both.
"""

import pytest
import torch
from small_networks import CONFIGS

from st3r_ros.geometry.focal import intrinsics_from_pointmap
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize, plan_image, resize_live
from st3r_ros.network.retrieval import global_descriptors
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.pair.matching.projective import projective_matches

META = torch.device("meta")


@pytest.fixture(params=[torch.float32, torch.float16], ids=str, scope="module")
def output(request) -> PairOutput:
    with META:
        network = PairNetwork(CONFIGS["mast3r"]).to(request.param).requires_grad_(False)
    return network(torch.empty(2, 3, 48, 64, device=META), torch.empty(2, 3, 64, 80, device=META))


def test_the_meta_device_refuses_both():
    x = torch.empty(3, device=META)
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.nonzero()
    with pytest.raises(RuntimeError):
        x + torch.zeros(3)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network(name):
    with META:
        network = PairNetwork(CONFIGS[name])
    output = network(torch.empty(1, 3, 80, 48, device=META), torch.empty(1, 3, 48, 80, device=META))
    assert output.view0.X is not None and output.view0.X.shape == (1, 80, 48, 3)


def test_the_live_preprocessing():
    plan = plan_image(640, 480, 512)
    image = resize_live(torch.empty(480, 640, 3, dtype=torch.uint8, device=META), plan)
    assert normalize(image[None], torch.float16).shape == (1, 3, 384, 512)


@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("described", [False, True])
def test_the_projective_search(output, seeded, described):
    view0, view1 = output.view0, output.view1
    desc = (view0.desc, view1.desc) if described else (None, None)
    seeds = torch.empty(2, 10 * 8, 2, device=META) if seeded else None
    found = projective_matches(view0.X, view1.X, *desc, subsample=8, seeds=seeds)
    assert found.pixels0.shape == (2, 80, 2) and found.valid.shape == (2, 80)


def test_nearest_neighbours_intrinsics_fusion_and_retrieval(output):
    desc = output.view0.desc[0].flatten(0, 1)
    assert nearest(desc[:40], desc).index.shape == (40,)
    assert intrinsics_from_pointmap(output.view0.X).shape == (2, 3, 3)
    assert global_descriptors(torch.empty(2, 12, 32, device=META)).shape == (2, 32)
