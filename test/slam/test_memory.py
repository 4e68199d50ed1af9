# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import FeatureStore, map_bytes, retire, revive
from st3r_ros.types import Edge, Features, Frame, Keyframe


@dataclass
class CountingModel:
    """Remembers which frames it has encoded."""

    encoded: list[Frame]

    def encode(self, frame: Frame) -> Features:
        self.encoded.append(frame)
        return Features(frame.image, np.full((3, 3), np.nan), frame.camera is not None)


def keyframe(number: int, *, known: bool = True) -> Keyframe:
    rng = np.random.default_rng(number)
    X = torch.from_numpy(rng.uniform(1, 5, (24, 32, 3)).astype(np.float32))
    K = np.array([[30.0, 0, 15.5], [0, 30.0, 11.5], [0, 0, 1]])
    image = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return Keyframe(number, number, number, Sim3.identity(), X, torch.full((24, 32), 7.0), image, K, known)


def test_features_of_the_last_used_keyframes_stay_and_the_others_come_back_from_the_image():
    model, keyframes = CountingModel([]), [keyframe(n, known=n != 1) for n in range(4)]
    store = FeatureStore(model, kept=2)
    for k in keyframes[:3]:
        store.of(k)
    assert keyframes[0].features is None and keyframes[1].features is not None and keyframes[2].features is not None
    store.of(keyframes[1])
    assert len(model.encoded) == 3
    features = store.of(keyframes[0])
    assert len(model.encoded) == 4 and keyframes[2].features is None
    np.testing.assert_array_equal(model.encoded[-1].image, keyframes[0].image)
    np.testing.assert_array_equal(features.K, keyframes[0].K)
    assert model.encoded[0].camera is not None and model.encoded[1].camera is None


def test_retired_pointmaps_take_half_the_memory_and_lose_next_to_nothing():
    k = keyframe(0)
    X, size = k.X.clone(), k.X.nbytes
    retire(k)
    assert k.X.nbytes == size / 2 and k.conf.dtype == torch.float16
    revive(k)
    assert k.X.dtype == torch.float32
    torch.testing.assert_close(k.X, X, rtol=5e-4, atol=0)


def test_values_beyond_half_precision_stay_finite():
    k = keyframe(0)
    k.X[0, 0], k.conf[0, 0] = torch.tensor([1e6, -1e6, 1e7]), 1e9
    retire(k)
    assert bool(k.X.isfinite().all()) and bool(k.conf.isfinite().all())


def test_the_size_of_a_map_is_that_of_its_arrays():
    whole = KeyframeMap()
    for n in range(3):
        whole.add_keyframe(keyframe(n))
    assert map_bytes(whole) == pytest.approx(3 * 24 * 32 * (12 + 4 + 3) + 3 * 72, rel=0.01)
    whole.add_edge(Edge.pack(1, 0, "loop", torch.zeros(1024, 2), torch.zeros(1024, 2), torch.ones(1024)))
    edge = next(iter(whole.edges))
    assert edge.packed_i.nbytes + edge.packed_j.nbytes + edge.packed_weight.nbytes == 10 * 1024 <= 20_000
    assert map_bytes(whole) == pytest.approx(3 * 24 * 32 * 19 + 10 * 1024, rel=0.01)
    shared = whole.keyframes[0]
    before, shared.features = map_bytes(whole), Features(shared.image, shared.K, True)
    assert map_bytes(whole) == before
    shared.features.image = shared.image.copy()
    assert map_bytes(whole) == before + shared.image.nbytes
    inside = CountingModel([])
    shared.features.patches = inside  # what features hold in a dataclass of their own counts too
    inside.arrays = np.zeros(1000)
    assert map_bytes(whole) == before + shared.image.nbytes + 8000
