# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products.cloud import cloud_of
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import FramePose, Keyframe

EVERYTHING = CloudConfig(voxel_size=0.0, min_conf=0.0)


def keyframe(number: int, T_world_cam: Sim3, size: tuple[int, int] = (12, 16)) -> Keyframe:
    """A random pointmap and image; a quarter of the pixels has no depth."""
    rng = np.random.default_rng(number)
    X = torch.from_numpy(rng.uniform((-1, -1, 2), (1, 1, 4), (*size, 3)).astype(np.float32))
    conf = torch.from_numpy(np.where(rng.random(size) < 0.25, 0.0, rng.uniform(0.1, 5.0, size)).astype(np.float32))
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return Keyframe(number, 10 * number, number * 1_000, T_world_cam, X, conf, image, np.eye(3))


@pytest.fixture
def small_map() -> KeyframeMap:
    """Two keyframes, and four frames recorded out of order."""
    poses = [Sim3.identity(), Sim3.exp(np.array([0.5, -0.2, 0.3, 0.1, 0.4, -0.2, 0.3]))]
    keyframes = {i: keyframe(i, T) for i, T in enumerate(poses)}
    relative = [Sim3.exp(0.1 * np.random.default_rng(i).normal(size=7)) for i in range(4)]
    order = [(0, 0, 0), (2, 2000, 1), (1, 1000, 1), (3, 3000, 0)]
    frames = [FramePose(i, stamp, owner, relative[i]) for i, stamp, owner in order]
    result = KeyframeMap()
    for item in keyframes.values():
        result.add_keyframe(item)
    for frame in frames:
        result.frames.append(frame)
    return result


def poses(trajectory) -> SE3:
    return SE3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions)


def test_the_trajectory_holds_every_frame_by_stamp(small_map):
    trajectory = small_map.trajectory()
    assert trajectory.stamps_ns.tolist() == [0, 1000, 2000, 3000]
    assert trajectory.stamps_ns.dtype == np.int64
    for frame in small_map.frames:
        expected = (small_map.keyframes[frame.keyframe_id].T_world_cam @ frame.T_kf_cam).se3()
        np.testing.assert_allclose(poses(trajectory)[frame.frame_id].as_matrix(), expected.as_matrix(), atol=1e-9)


def test_frames_follow_the_correction_of_their_keyframe_and_only_theirs(small_map):
    before, correction = small_map.trajectory(), Sim3.exp(np.array([1.0, 2.0, 3.0, 0.3, -0.2, 0.1, 0.5]))
    small_map.keyframes[1].T_world_cam = correction @ small_map.keyframes[1].T_world_cam
    after = small_map.trajectory()
    moved = [1, 2]
    np.testing.assert_allclose(after.positions[moved], correction @ before.positions[moved], atol=1e-9)
    np.testing.assert_allclose(poses(after)[moved].rotation, correction.rotation @ poses(before)[moved].rotation, atol=1e-9)
    np.testing.assert_array_equal(after.positions[[0, 3]], before.positions[[0, 3]])


def test_a_correction_is_spread_also_where_time_has_gone_back():
    """Frames 1 and 2 came before the clock was set, 3 to 5 after it; 6 became a keyframe, and 8, after one more."""
    walk = KeyframeMap()
    for number, stamp in ((0, 10_000_000_000), (1, 400), (2, 50)):
        item = keyframe(number, Sim3.identity())
        item.stamp_ns = stamp
        walk.add_keyframe(item)
    stamps = (10_000_000_000, 10_000_000_100, 10_000_000_200, 100, 200, 300, 400, 500, 50)
    for number, stamp in enumerate(stamps):
        walk.frames.append(FramePose(number, stamp, int(number > 5) + int(number > 7), Sim3.identity()))
    shift = SE3(np.eye(3), np.array([3.0, 0.0, 0.0])).sim3(1.0)
    walk.move({1: shift, 2: shift @ shift})
    moved_by = [frame.T_kf_cam.translation[0] for frame in walk.frames]
    np.testing.assert_allclose(moved_by, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0], atol=1e-9)


def test_a_correction_is_spread_from_the_keyframe_on_where_frames_from_before_it_have_it_too():
    walk = KeyframeMap()
    for number, stamp in ((0, 200), (1, 400)):
        item = keyframe(number, Sim3.identity())
        item.stamp_ns = stamp
        walk.add_keyframe(item)
    for number, stamp in enumerate((0, 100, 200, 300, 400)):
        walk.frames.append(FramePose(number, stamp, int(number == 4), Sim3.identity()))
    walk.move({1: SE3(np.eye(3), np.array([3.0, 0.0, 0.0])).sim3(1.0)})
    moved_by = [frame.T_kf_cam.translation[0] for frame in walk.frames]
    np.testing.assert_allclose(moved_by, [0.0, 0.0, 0.0, 1.5, 0.0], atol=1e-9)


def test_the_keyframe_trajectory_holds_the_keyframes(small_map):
    trajectory = small_map.keyframe_trajectory()
    assert trajectory.stamps_ns.tolist() == [0, 1000]
    expected = [k.T_world_cam.translation for k in small_map.keyframes.values()]
    np.testing.assert_allclose(trajectory.positions, expected)


def test_an_empty_map_has_an_empty_trajectory_and_cloud():
    empty = KeyframeMap()
    assert len(empty.trajectory()) == len(empty.keyframe_trajectory()) == 0
    assert empty.trajectory().positions.shape == (0, 3) and empty.trajectory().quaternions_xyzw.shape == (0, 4)
    assert len(cloud_of(empty, CloudConfig())) == 0


def test_a_keyframe_cloud_is_organised_scaled_and_empty_where_nothing_is_known(small_map):
    kf = small_map.keyframes[1]
    cloud = small_map.keyframe_cloud(1, min_conf=1.0)
    assert cloud.points.shape == (12, 16, 3) and cloud.points.dtype == np.float32
    sure = kf.conf.numpy() >= 1.0
    np.testing.assert_array_equal(np.isfinite(cloud.points).all(-1), sure)
    np.testing.assert_array_equal(np.isnan(cloud.points).all(-1), ~sure)
    np.testing.assert_array_equal(cloud.colors, kf.image)
    np.testing.assert_array_equal(cloud.conf, kf.conf)
    # In map units: the rigid part of the pose takes it to where the world has it.
    in_world = kf.T_world_cam.se3() @ cloud.points[sure]
    np.testing.assert_allclose(in_world, kf.T_world_cam @ kf.X.numpy()[sure], atol=1e-5)


def test_pixels_without_confidence_never_show(small_map):
    assert np.isnan(small_map.keyframe_cloud(0, min_conf=0.0).points[small_map.keyframes[0].conf.numpy() == 0]).all()
    known = sum(int((k.conf > 0).sum()) for k in small_map.keyframes.values())
    assert len(cloud_of(small_map, EVERYTHING)) == known


def test_the_cloud_is_in_the_world_with_its_colours(small_map):
    cloud = cloud_of(small_map, EVERYTHING)
    parts, colors, conf = [], [], []
    for k in small_map.keyframes.values():
        known = (k.conf > 0).numpy()
        parts.append(k.T_world_cam @ k.X.numpy()[known])
        colors.append(k.image[known])
        conf.append(k.conf.numpy()[known])
    np.testing.assert_allclose(cloud.points, np.concatenate(parts), atol=1e-5)
    np.testing.assert_array_equal(cloud.colors, np.concatenate(colors))
    np.testing.assert_array_equal(cloud.conf, np.concatenate(conf))
    assert (cloud.points.dtype, cloud.colors.dtype, cloud.conf.dtype) == (np.float32, np.uint8, np.float32)


def test_points_of_little_confidence_are_left_out(small_map):
    cloud = cloud_of(small_map, CloudConfig(voxel_size=0.0, min_conf=2.0))
    assert 0 < len(cloud) < len(cloud_of(small_map, EVERYTHING)) and cloud.conf.min() >= 2.0


@pytest.mark.parametrize("voxel_size", [0.3, 0.8])
def test_each_voxel_keeps_its_most_confident_point(voxel_size, small_map):
    everything = cloud_of(small_map, EVERYTHING)
    thinned = cloud_of(small_map, CloudConfig(voxel_size=voxel_size, min_conf=0.0))
    best: dict[tuple, float] = {}
    for cell, conf in zip(map(tuple, np.floor(everything.points / voxel_size).astype(int)), everything.conf, strict=True):
        best[cell] = max(best.get(cell, 0.0), float(conf))
    cells = list(map(tuple, np.floor(thinned.points / voxel_size).astype(int)))
    assert len(set(cells)) == len(cells) == len(best) < len(everything)
    np.testing.assert_allclose([best[cell] for cell in cells], thinned.conf)
