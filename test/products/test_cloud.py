# SPDX-License-Identifier: Apache-2.0
"""The cloud of a map: what is left out of it, and that a cloud kept up to date equals one made anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from st3r_ros.config import CloudConfig
from st3r_ros.geometry.axes import OPTICAL
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.products import cloud as cloud_module
from st3r_ros.products import voxels
from st3r_ros.products.changes import SeenKeyframe
from st3r_ros.products.cloud import CloudBuilder, cloud_of
from st3r_ros.products.pieces import joined
from st3r_ros.products.steps import finish
from st3r_ros.products.voxels import best_of_cells, cell_numbers, ranks
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Keyframe, PointCloud

CONFIG = CloudConfig(voxel_size=0.05, min_conf=0.0)
SIZE = (24, 32)


def keyframe(number: int) -> Keyframe:
    """Random points around the same place, seen from somewhere near it."""
    rng = np.random.default_rng(number)
    X = torch.from_numpy(rng.uniform((-1, -1, 2), (1, 1, 4), (*SIZE, 3)).astype(np.float32))
    conf = torch.from_numpy(rng.integers(0, 5, SIZE).astype(np.float32))  # many are equal
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    return Keyframe(number, number, number, pose(number), X, conf, image, np.eye(3))


def pose(seed: int) -> Sim3:
    return Sim3.exp(0.3 * np.random.default_rng([7, seed]).normal(size=7))


def make_map(count: int = 5) -> KeyframeMap:
    result = KeyframeMap()
    for number in range(count):
        result.add_keyframe(keyframe(number))
    return result


def assert_same(a: PointCloud, b: PointCloud) -> None:
    assert len(a)
    np.testing.assert_array_equal(a.points, b.points)
    np.testing.assert_array_equal(a.colors, b.colors)
    np.testing.assert_array_equal(a.conf, b.conf)


def count_looks(
    builder: CloudBuilder, keyframe_map: KeyframeMap, config: CloudConfig, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Which keyframes are looked at again when the cloud is brought up to date."""
    looked: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(cloud_module, "SeenKeyframe", lambda k, *rest: (looked.append(k.id), SeenKeyframe(k, *rest))[1])
        finish(builder.steps(keyframe_map, config))
    return looked


def fuse_in_place(m: KeyframeMap) -> None:
    m.keyframes[1].X[3:9, 4:20] *= 1.5
    m.keyframes[1].conf[3:9, 4:20] += 3.0


def fuse_anew(m: KeyframeMap) -> None:
    m.keyframes[2].X = m.keyframes[2].X + 0.3


def retire(m: KeyframeMap) -> None:
    m.keyframes[0].X, m.keyframes[0].conf = m.keyframes[0].X.half(), m.keyframes[0].conf.half()


CHANGES = {
    "fused in place": (fuse_in_place, [1]),
    "fused": (fuse_anew, [2]),
    "halved": (retire, [0]),
    "moved": (lambda m: m.move({3: pose(30), 1: pose(31)}), [1, 3]),
    "added": (lambda m: m.add_keyframe(keyframe(9)), [9]),
    "removed": (lambda m: m.remove_keyframe(2, 1, Sim3.identity()), []),
    "rescaled": (lambda m: m.rescale(1.7), [0, 1, 2, 3, 4]),
    "nothing": (lambda m: None, []),
}


@pytest.mark.parametrize("voxel_size", [0.0, 0.05, 0.7])
@pytest.mark.parametrize("name", CHANGES)
def test_after_a_change_the_cloud_is_as_if_made_anew_and_only_what_changed_is_looked_at(
    name: str, voxel_size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, m, builder = replace(CONFIG, voxel_size=voxel_size), make_map(), CloudBuilder()
    change, expected = CHANGES[name]
    finish(builder.steps(m, config))
    change(m)
    assert count_looks(builder, m, config, monkeypatch) == expected
    assert_same(joined(builder.last(m)), cloud_of(m, config))


def test_steps_that_are_broken_off_are_not_lost_and_leave_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    m, builder, rng = make_map(), CloudBuilder(), np.random.default_rng(0)
    for seed in range(20):
        m.keyframes[seed % 5].T_world_cam = pose(100 + seed)
        steps = builder.steps(m, replace(CONFIG, max_points=(0, 300)[seed % 2]))
        for _, _ in zip(range(int(rng.integers(1, 30))), steps, strict=False):
            pass
        steps.close()
    finish(builder.steps(m, CONFIG))
    assert_same(joined(builder.last(m)), cloud_of(m, CONFIG))
    assert count_looks(builder, m, CONFIG, monkeypatch) == []


def test_moves_that_nobody_would_see_cost_nothing_and_never_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    m, builder = make_map(), CloudBuilder()
    finish(builder.steps(m, CONFIG))
    T = m.keyframes[2].T_world_cam
    looked = []
    for number in range(1, 13):
        m.keyframes[2].T_world_cam = Sim3(T.rotation, T.translation + np.array([0.001 * number, 0.0, 0.0]), T.scale)
        looked.append(count_looks(builder, m, CONFIG, monkeypatch))
    assert looked[0] == [] and 2 <= looked.count([2]) <= 3  # voxels of 0.05
    m.keyframes[2].T_world_cam = Sim3.exp(np.array([0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.0])) @ T
    assert count_looks(builder, m, CONFIG, monkeypatch) == [2]  # turned: what is far away has moved


def test_keyframes_that_move_between_the_steps_are_where_they_were_at_their_beginning() -> None:
    m, builder = make_map(), CloudBuilder()
    before = cloud_of(m, CONFIG)
    steps = builder.steps(m, CONFIG)
    next(steps)
    m.move({number: pose(50 + number) for number in m.keyframes})
    m.remove_keyframe(4, 3, Sim3.identity())
    assert_same(joined(finish(steps)), before)
    finish(builder.steps(m, CONFIG))
    assert_same(joined(builder.last(m)), cloud_of(m, CONFIG))


def test_a_rescaled_map_has_its_last_cloud_in_the_new_unit_at_once() -> None:
    m, builder = make_map(), CloudBuilder()
    before = joined(finish(builder.steps(m, CONFIG)))
    m.rescale(3.0)
    builder.rescale(3.0)
    np.testing.assert_allclose(joined(builder.last(m)).points, 3.0 * before.points, rtol=1e-6)
    assert builder.last(make_map()) == []


def test_another_map_begins_anew() -> None:
    builder, other = CloudBuilder(), make_map(2)
    finish(builder.steps(make_map(), CONFIG))
    finish(builder.steps(other, CONFIG))
    assert_same(joined(builder.last(other)), cloud_of(other, CONFIG))


def test_points_beyond_the_range_of_their_camera_are_left_out() -> None:
    m, config = make_map(1), replace(CONFIG, voxel_size=0.0, max_range=3.0)
    T = m.keyframes[0].T_world_cam
    everything, cloud = cloud_of(m, replace(config, max_range=0.0)), cloud_of(m, config)
    distance = np.linalg.norm(everything.points - T.translation, axis=1)
    assert 0 < len(cloud) == (distance <= 3.0).sum() < len(everything)
    assert np.linalg.norm(cloud.points - T.translation, axis=1).max() <= 3.0 + 1e-5


@pytest.mark.parametrize("T_map_world", [None, SE3.exp(np.array([0.1, 0.2, 0.5, 0.4, 0.3, 0.2]))])
def test_points_outside_the_heights_are_left_out(T_map_world: SE3 | None) -> None:
    m = make_map()
    m.T_map_world = T_map_world
    everything = cloud_of(m, replace(CONFIG, voxel_size=0.0))
    z = (m.T_level_world @ everything.points)[:, 2]
    low, high = np.quantile(z, [0.3, 0.6])
    cloud = cloud_of(m, replace(CONFIG, voxel_size=0.0, min_height=float(low), max_height=float(high)))
    assert 0 < len(cloud) < len(everything)
    np.testing.assert_array_equal(cloud.points, everything.points[(z >= low) & (z <= high)])


def test_when_the_robot_tells_where_the_map_is_heights_are_measured_anew() -> None:
    m, builder, config = make_map(), CloudBuilder(), replace(CONFIG, min_height=0.0)
    before = joined(finish(builder.steps(m, config)))
    m.T_map_world = SE3(OPTICAL.rotation, np.array([0.0, 0.0, 0.4]))
    after = joined(finish(builder.steps(m, config)))
    assert len(after) > len(before)
    assert_same(after, cloud_of(m, config))


@pytest.mark.parametrize("voxel_size", [0.0, 0.05])
@pytest.mark.parametrize("max_points", [1, 50, 700, 1200])
def test_more_points_than_allowed_are_thinned_evenly_and_always_alike(voxel_size: float, max_points: int) -> None:
    m, config = make_map(), replace(CONFIG, voxel_size=voxel_size)
    everything, cloud = cloud_of(m, config), cloud_of(m, replace(config, max_points=max_points))
    assert 0.7 * max_points - 1 <= len(cloud) <= max_points < len(everything)
    assert_same(cloud, cloud_of(m, replace(config, max_points=max_points))) if len(cloud) else None
    whole = set(map(bytes, everything.points))
    assert set(map(bytes, cloud.points)) <= whole
    if max_points >= 700:  # not cut off: every part of the space keeps its share
        share = len(cloud) / len(everything)
        for axis in range(3):
            left = everything.points[:, axis] < np.median(everything.points[:, axis])
            kept = (cloud.points[:, axis] < np.median(everything.points[:, axis])).sum()
            assert abs(kept - share * left.sum()) < 5.0 * np.sqrt(left.sum() * share * (1 - share)) + 1


def test_a_small_cloud_is_not_thinned() -> None:
    m = make_map()
    assert_same(cloud_of(m, replace(CONFIG, max_points=100_000)), cloud_of(m, replace(CONFIG, max_points=0)))


def test_what_is_kept_of_a_map_far_above_the_limit_is_bounded_and_grows_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_module, "KEPT_PER_POINT", 3)
    m, builder = make_map(12), CloudBuilder()
    largest = 0
    for _ in builder.steps(m, replace(CONFIG, max_points=400)):
        largest = max(largest, builder.kept)
    assert largest < 3 * 400 + 24 * 32 + 1  # and the keyframe that is one too many
    assert 150 < len(joined(builder.last(m))) <= 400
    for _ in range(3):  # more is looked at than before, the more the longer
        finish(builder.steps(m, replace(CONFIG, max_points=100_000)))
    assert_same(joined(builder.last(m)), cloud_of(m, CONFIG))
    assert builder.nbytes >= 19 * len(cloud_of(m, CONFIG))


def test_points_that_are_nowhere_do_no_harm() -> None:
    m = make_map(2)
    m.keyframes[0].X[0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30])[:, None]
    m.keyframes[0].conf[0, :4] = 5.0
    for voxel_size in (0.0, 0.05):
        cloud = cloud_of(m, replace(CONFIG, voxel_size=voxel_size))
        assert len(cloud) > 100 and np.isfinite(cloud.points).all()


def test_points_too_far_for_tiny_voxels_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    m = make_map(1)
    all_points = cloud_of(m, replace(CONFIG, voxel_size=0.0)).points
    cloud = cloud_of(m, replace(CONFIG, voxel_size=2e-6))
    reach = 2e-6 * 2**20
    assert np.abs(cloud.points).max() <= reach
    lost = np.count_nonzero((np.abs(all_points) >= reach).any(1))
    assert (
        f"{lost} points of the keyframes are left out of the cloud: with a voxel_size of 2e-06 it reaches 2.09715 from"
        in caplog.text
    )


def test_the_best_of_each_cell_is_found_and_of_equal_ones_the_first() -> None:
    rng = np.random.default_rng(3)
    for cells in (rng.integers(0, 50, 3000), rng.integers(0, 1 << 30, 200).astype(np.int32).repeat(9), np.zeros(7, np.int32)):
        conf = rng.integers(0, 6, len(cells)).astype(np.float32)
        expected = [max(np.flatnonzero(cells == cell), key=lambda i: (conf[i], -i)) for cell in np.unique(cells)]
        np.testing.assert_array_equal(best_of_cells(cells, conf), expected)


@pytest.mark.parametrize("spread", [0.5, 5.0, 5000.0])
def test_ranks_are_in_the_order_of_the_cells(spread: float) -> None:
    points = (np.random.default_rng(4).normal(size=(500, 3)) * spread + [300.0, -40.0, 0.0]).astype(np.float32).repeat(2, 0)
    small, cells = ranks(points, 0.05), cell_numbers(points, 0.05)
    assert small.dtype == (np.int64 if spread > 1000 else np.int32) and small.min() >= 0
    np.testing.assert_array_equal(np.unique(small, return_inverse=True)[1], np.unique(cells, return_inverse=True)[1])
    for bits in (7, 10, 11, 20):
        small, cells = ranks(points, 0.05, bits), cell_numbers(points, 0.05, bits)
        np.testing.assert_array_equal(np.unique(small, return_inverse=True)[1], np.unique(cells, return_inverse=True)[1])


def test_tiny_voxels_lie_in_few_blocks_and_thin_as_larger_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    m, builder = make_map(), CloudBuilder()
    m.keyframes[2].X, m.keyframes[2].T_world_cam = m.keyframes[1].X.clone(), m.keyframes[1].T_world_cam  # the same points twice
    monkeypatch.setattr(voxels, "FEW_BLOCKS", 20)
    steps = sum(1 for _ in builder.steps(m, replace(CONFIG, voxel_size=1e-5)))
    cloud = joined(builder.last(m))
    assert steps - len(m.keyframes) < 200  # each of the others is a block
    expected = len(np.unique(cloud_of(m, replace(CONFIG, voxel_size=0.0)).points, axis=0))
    assert expected - 10 < len(cloud) <= expected  # a few points share a voxel
    assert len(np.unique(cloud.points, axis=0)) == len(cloud)
