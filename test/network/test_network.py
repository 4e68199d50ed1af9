# SPDX-License-Identifier: Apache-2.0
"""What must hold for any weights; that the numbers are right is checked against goldens in test_golden_network.py."""

import copy
import dataclasses

import pytest
import torch
from small_networks import CONFIGS, make_images, make_network

from st3r_ros.errors import ConfigError
from st3r_ros.network.config import Activation, NetworkConfig
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput, ViewOutput


def values(output: PairOutput) -> dict[str, torch.Tensor]:
    pairs = (
        (view, name, getattr(getattr(output, view), name))
        for view in ("view0", "view1")
        for name in ("X", "conf", "desc", "desc_conf")
    )
    return {f"{view}.{name}": value for view, name, value in pairs if value is not None}


def assert_close(a: PairOutput, b: PairOutput) -> None:
    found, wanted = values(a), values(b)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shapes", [((48, 64), (48, 64)), ((80, 48), (48, 80))], ids=str)
def test_a_batch_gives_what_each_pair_gives_alone(name, shapes):
    network = make_network(name)
    images0, images1 = (make_images(3, *shape, seed) for seed, shape in enumerate(shapes))
    together = network(images0, images1)
    for row in range(3):
        alone = network(images0[row : row + 1], images1[row : row + 1])
        picked = PairOutput(
            *(ViewOutput(*(None if x is None else x[row : row + 1] for x in vars(v).values())) for v in vars(together).values())
        )
        assert_close(picked, alone)


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_have_the_promised_shapes_and_ranges(name):
    config, network = CONFIGS[name], make_network(name)
    output = network(make_images(2, 48, 80), make_images(2, 64, 32, seed=1))
    for view, shape in ((output.view0, (2, 48, 80)), (output.view1, (2, 64, 32))):
        assert view.X is not None and view.conf is not None
        assert view.X.shape == (*shape, 3) and view.conf.shape == shape
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in values(output).values())
        assert (view.conf >= 1).all()
        assert (view.desc is not None) == (view.desc_conf is not None) == (config.desc_dim > 0)
        if view.desc is not None:
            assert view.desc.shape == (*shape, 24)
            torch.testing.assert_close(view.desc.norm(dim=-1), torch.ones(shape))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("pointmaps", "descriptors"), [(True, False), (False, True)])
def test_what_is_not_asked_for_is_left_out_and_changes_nothing(name, pointmaps, descriptors):
    network, grid = make_network(name), (3, 5)
    images0, images1 = make_images(1, 48, 80), make_images(1, 48, 80, seed=1)
    whole = network(images0, images1)
    tokens0, tokens1 = network.encode(images0), network.encode(images1)
    layers = network.decode(tokens0, tokens1, grid, grid).view0
    asked = {"pointmaps": pointmaps, "descriptors": descriptors}
    part = network.head(0, layers, grid, network.image_part(0, tokens0, grid, pointmaps=network.needed(**asked)[0]), **asked)
    points, features = network.needed(pointmaps, descriptors)
    wanted = ViewOutput(
        *((whole.view0.X, whole.view0.conf) if points else (None, None)),
        *((whole.view0.desc, whole.view0.desc_conf) if features else (None, None)),
    )
    assert_close(PairOutput(part, ViewOutput()), PairOutput(wanted, ViewOutput()))


def test_the_views_have_weights_of_their_own():
    images = make_images(1, 48, 64)
    output = make_network("mast3r")(images, images)
    assert output.view0.X is not None and output.view1.X is not None
    assert not torch.allclose(output.view0.X, output.view1.X)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_its_outputs_are_single(dtype):
    images0, images1 = make_images(1, 48, 64), make_images(1, 48, 64, seed=1)
    network = make_network("mast3r")
    exact = values(network(images0, images1))
    coarse = values(copy.deepcopy(network).to(dtype)(images0, images1))
    for name, value in exact.items():
        assert coarse[name].dtype == torch.float32
        assert (coarse[name] - value).norm() < 0.05 * value.norm(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_num_heads": 3}, "enc_embed_dim is 1024 with 3 heads"),
        ({"dec_depth": 0}, "dec_depth is 0"),
        ({"dec_depth": 3}, "at least 4 decoder blocks"),
        ({"head": "mlp"}, "head is 'mlp'.*catmlp"),
        ({"desc_dim": 0}, "only catmlp.dpt has descriptors"),
        ({"conf_mode": Activation("softplus", 0, 1)}, "conf_mode is 'softplus'"),
    ],
)
def test_a_configuration_that_makes_no_network_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(NetworkConfig(), **change)


def test_the_released_network_has_the_published_number_of_parameters():
    """688,638,856 less what inference does not use: the mask token and a residual unit in each of the two DPT heads."""
    with torch.device("meta"):
        network = PairNetwork(NetworkConfig())
    unused = 768 + 2 * 2 * (256 * 256 * 9 + 256)
    assert sum(p.numel() for p in network.parameters()) == 688_638_856 - unused
