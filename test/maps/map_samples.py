# SPDX-License-Identifier: Apache-2.0
"""Small maps of random numbers, and what makes two maps the same."""

import cv2
import numpy as np
import torch

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.maps.load import SavedMap
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Edge, FramePose, Keyframe, MapScale

WIDTH, HEIGHT = 32, 24


def random_keyframe(number: int, *, width: int = WIDTH, height: int = HEIGHT, described: bool = True) -> Keyframe:
    """A smooth image, a random pointmap; a quarter of the pixels has no depth."""
    rng = np.random.default_rng(number)
    X = torch.from_numpy(rng.uniform((-1, -1, 2), (1, 1, 4), (height, width, 3)).astype(np.float16))
    conf = torch.from_numpy(np.where(rng.random((height, width)) < 0.25, 0.0, rng.uniform(0.1, 5.0, (height, width))))
    image = cv2.resize(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    descriptor = torch.from_numpy(rng.normal(size=16).astype(np.float32)) if described else None
    K = np.array([[width, 0.0, width / 2 - 0.5], [0.0, width, height / 2 - 0.5], [0.0, 0.0, 1.0]]) * [[1.01], [1.02], [1.0]]
    return Keyframe(
        id=number,
        frame_id=10 * number,
        stamp_ns=1_700_000_000_000_000_000 + number,
        T_world_cam=Sim3.exp(rng.normal(size=7)),
        X=X,
        conf=conf.to(torch.float16),
        image=image,
        K=K,
        K_known=number % 2 == 0,
        calibrated=number % 3 == 0,
        descriptor=descriptor,
    )


def random_map(
    ids: tuple[int, ...] = (5, 0, 7, 2), *, matches: int = 20, width: int = WIDTH, height: int = HEIGHT
) -> KeyframeMap:
    """Keyframes of these ids in this order, edges between each two that follow, a loop, and ten frames per keyframe."""
    result = KeyframeMap()
    for number in ids:
        result.add_keyframe(random_keyframe(number, width=width, height=height, described=number != 7))
    rng = np.random.default_rng(len(ids))
    pairs = [*zip(ids[1:], ids, strict=False), *([(ids[-1], ids[0])] if len(ids) > 2 else [])]
    for count, (i, j) in enumerate(pairs):
        pixels = torch.from_numpy(rng.uniform(-0.4, (width - 0.6, height - 0.6), (2, matches + count, 2)).astype(np.float32))
        weight = torch.from_numpy(rng.uniform(0.01, 1.0, matches + count).astype(np.float32))
        result.add_edge(Edge.pack(i, j, "sequential" if count + 1 < len(ids) else "loop", pixels[0], pixels[1], weight))
    for number in range(10 * len(ids)):
        T = Sim3.exp(0.1 * rng.normal(size=7))
        result.frames.append(FramePose(number, 1_700_000_000_000_000_000 + 7 * number, ids[number % len(ids)], T))
    result.scale = MapScale("odometry", 0.013)
    return result


def assert_same_pose(a: Sim3, b: Sim3) -> None:
    for name in ("rotation", "translation", "scale"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def assert_same_map(loaded: KeyframeMap, original: KeyframeMap, *, image_error: int = 12) -> None:
    """Everything exact but the images. image_error: grey levels."""
    assert list(loaded.keyframes) == list(original.keyframes)
    for keyframe in original.keyframes.values():
        other = loaded.keyframes[keyframe.id]
        for name in ("id", "frame_id", "stamp_ns", "K_known", "calibrated"):
            assert getattr(other, name) == getattr(keyframe, name)
        assert_same_pose(other.T_world_cam, keyframe.T_world_cam)
        np.testing.assert_array_equal(other.K, keyframe.K)
        for name in ("X", "conf"):
            assert getattr(other, name).dtype == torch.float16
            assert torch.equal(getattr(other, name), getattr(keyframe, name).to(torch.float16))
        if keyframe.descriptor is None:
            assert other.descriptor is None
        else:
            assert torch.equal(other.descriptor, keyframe.descriptor)
        assert other.features is None
        assert other.image.dtype == np.uint8 and other.image.shape == keyframe.image.shape
        assert np.abs(other.image.astype(int) - keyframe.image).max() <= image_error
    assert [(e.i, e.j, e.kind) for e in loaded.edges] == [(e.i, e.j, e.kind) for e in original.edges]
    for edge, other in zip(original.edges, loaded.edges, strict=True):
        for name in ("packed_i", "packed_j", "packed_weight"):
            before, after = getattr(edge, name), getattr(other, name)
            assert torch.equal(after, before) and after.dtype == before.dtype
    for name in ("frame_ids", "stamps_ns", "keyframe_ids"):
        np.testing.assert_array_equal(getattr(loaded.frames, name), getattr(original.frames, name))
    assert_same_pose(loaded.frames.T_kf_cam, original.frames.T_kf_cam)
    assert loaded.scale.source == original.scale.source
    np.testing.assert_equal(loaded.scale.sigma, original.scale.sigma)


def marker(saved: SavedMap) -> float:
    """What `marked_map` was given."""
    return saved.map.scale.sigma


def marked_map(value: float) -> KeyframeMap:
    """A tiny map that can be told from others by its content, its files' names included."""
    ids = (0, 1) if value < 1 else (1, 2, 3)
    result = random_map(ids, matches=4, width=16, height=16)
    result.scale = MapScale("baseline", value)
    return result
