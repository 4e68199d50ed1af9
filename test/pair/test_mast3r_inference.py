# SPDX-License-Identifier: Apache-2.0
"""The caches: nothing is computed twice, and nothing changes because it was kept."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
from small_networks import CONFIGS, make_images, make_network

from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import ViewOutput
from st3r_ros.network.preprocess import plan_image
from st3r_ros.pair.mast3r.inference import KEPT_IMAGE_PARTS, Inference, MASt3RFeatures

STAGES = ("encode", "decode", "image_part", "head")


@pytest.fixture(params=CONFIGS)
def network(request) -> PairNetwork:
    return make_network(request.param)


@pytest.fixture
def calls(network: PairNetwork, monkeypatch) -> Iterator[Counter]:
    """How often each stage of the network has run."""
    counts: Counter = Counter()

    def counted(name):
        stage = getattr(network, name)

        def run(*args, **kwargs):
            counts[name] += 1
            return stage(*args, **kwargs)

        return run

    for name in STAGES:
        monkeypatch.setattr(network, name, counted(name))
    return counts


def features(inference: Inference, seed: int, height: int = 32, width: int = 48) -> MASt3RFeatures:
    tokens = inference.encode(make_images(1, height, width, seed))[0]
    image = np.zeros((height, width, 3), np.uint8)
    return MASt3RFeatures(
        image, np.eye(3), False, tokens, (height // 16, width // 16), plan_image(width, height, max(width, height))
    )


def assert_same(found: ViewOutput, wanted: ViewOutput, row: int = 0) -> None:
    for item in fields(ViewOutput):
        a, b = getattr(found, item.name), getattr(wanted, item.name)
        assert (a is None) == (b is None), item.name
        if a is not None and b is not None:
            torch.testing.assert_close(a, b[row], rtol=1e-4, atol=1e-5)


def test_a_pair_is_what_the_network_says(network):
    inference = Inference(network)
    (output,) = inference.infer([(features(inference, 0), features(inference, 1))])
    wanted = network(make_images(1, 32, 48, 0), make_images(1, 32, 48, 1))
    assert_same(output.view0, wanted.view0)
    assert_same(output.view1, wanted.view1)


def test_pairs_of_all_sizes_come_back_in_order(network):
    inference = Inference(network, batch_size=2)
    shapes = [(32, 48), (48, 32), (32, 48), (32, 48), (16, 64)]
    images = [features(inference, seed, *shape) for seed, shape in enumerate(shapes)]
    pairs = [(a, b) for a in images for b in images if a is not b]
    for (a, b), output in zip(pairs, inference.infer(pairs), strict=True):
        (alone,) = Inference(network).infer([(a, b)])
        for found, wanted in ((output.view0, alone.view0), (output.view1, alone.view1)):
            assert found.X is not None and wanted.X is not None
            torch.testing.assert_close(found.X, wanted.X, rtol=1e-4, atol=1e-5)


def test_a_keyframe_is_not_read_again(network, calls):
    inference = Inference(network)
    keyframe = features(inference, 0)
    for seed in range(1, 5):
        inference.infer([(features(inference, seed), keyframe)])
    has_part = network.config.head != "linear"
    assert calls == {"encode": 5, "decode": 4, "head": 8} | ({"image_part": 5} if has_part else {})


@pytest.mark.parametrize("network", ["mast3r", "one confidence"], indirect=True)
def test_the_second_half_of_a_prediction_costs_no_second_decoding(network, calls):
    inference = Inference(network)
    pair = features(inference, 0), features(inference, 1)
    (points,) = inference.infer([pair], descriptors=False)
    (both,) = inference.infer([pair])
    assert calls["decode"] == 1
    assert points.view0.desc is None
    assert_same(points.view0, ViewOutput(both.view0.X[None], both.view0.conf[None]))
    inference.infer([pair[::-1]])
    assert calls["decode"] == 2


def test_what_is_kept_is_bounded(network, monkeypatch):
    inference, parts, image_part = Inference(network), [], network.image_part

    def noted(*args):
        part = image_part(*args)
        parts.append(weakref.ref(part.finest))
        return part

    monkeypatch.setattr(network, "image_part", noted)
    images = [features(inference, seed) for seed in range(6)]
    for a in images:
        for b in images:
            inference.infer([(a, b)])
    held = [weakref.ref(image) for image in images]
    del images, a, b
    gc.collect()
    assert sum(image() is not None for image in held) <= KEPT_IMAGE_PARTS
    assert sum(part() is not None for part in parts) <= KEPT_IMAGE_PARTS
    assert bool(parts) == (network.config.head != "linear")


@pytest.mark.full  # the compiler takes long
def test_a_compiled_network_says_the_same():
    network = make_network("linear")
    inference, compiled = Inference(network), Inference(network, mode="compile")
    pair = features(inference, 0), features(inference, 1)
    assert compiled.encode(make_images(1, 32, 48, 0)).shape == (1, 6, 32)
    (found,), (wanted,) = compiled.infer([pair]), inference.infer([pair])
    assert found.view0.X is not None and wanted.view0.X is not None
    torch.testing.assert_close(found.view0.X, wanted.view0.X, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_graphs_say_the_same_as_kernels_one_by_one():
    network = make_network("mast3r").cuda()
    eager, graphs = Inference(network), Inference(network, mode="graphs", graph_limit=3)
    for _ in range(2):
        for seed in range(4):
            pair = features(eager, seed), features(eager, seed + 1)
            (found,), (wanted,) = graphs.infer([pair]), eager.infer([pair])
            assert_same(found.view0, ViewOutput(*(x[None] for x in vars(wanted.view0).values())))
            assert_same(found.view1, ViewOutput(*(x[None] for x in vars(wanted.view1).values())))
    assert len(graphs.graphs) <= 3
