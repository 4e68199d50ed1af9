# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.frame_log import FrameLog
from st3r_ros.types import FramePose


def pose(seed: int) -> Sim3:
    return Sim3.exp(0.3 * np.random.default_rng(seed).normal(size=7))


def log_of(keyframe_ids: list[int]) -> FrameLog:
    log = FrameLog()
    for n, keyframe_id in enumerate(keyframe_ids):
        log.append(FramePose(10 + n, 1000 * n, keyframe_id, pose(n)))
    return log


def test_frames_come_back_as_they_were_put_in_however_many():
    log = log_of([n // 7 for n in range(1000)])
    assert len(log) == 1000
    for n in (0, 255, 256, 999, -1):
        frame = log[n]
        assert (frame.frame_id, frame.stamp_ns, frame.keyframe_id) == (10 + n % 1000, 1000 * (n % 1000), n % 1000 // 7)
        np.testing.assert_array_equal(frame.T_kf_cam.as_matrix(), pose(n % 1000).as_matrix())
    with pytest.raises(IndexError):
        log[1000]


def test_frames_of_a_dropped_keyframe_stay_where_they_are():
    log, T_world = log_of([0, 1, 1, 2, 1]), {k: pose(100 + k) for k in range(3)}
    before = [(T_world[f.keyframe_id] @ f.T_kf_cam).as_matrix() for f in log]
    log.retie(1, 2, T_world[2].inverse() @ T_world[1])
    assert log.keyframe_ids.tolist() == [0, 2, 2, 2, 2]
    after = [(T_world[f.keyframe_id] @ f.T_kf_cam).as_matrix() for f in log]
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_a_correction_is_spread_over_the_frames_by_time():
    log, D = log_of([0] * 5), Sim3.exp(np.array([0.2, 0.1, -0.1, 0.05, 0.1, 0.0, 0.1]))
    before = log.T_kf_cam
    log.bend(0, 4, D)
    for n in range(4):
        expected = Sim3.exp(n / 4 * D.log()) @ before[n]
        np.testing.assert_allclose(log[n].T_kf_cam.as_matrix(), expected.as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(log[4].T_kf_cam.as_matrix(), before[4].as_matrix())


def test_frames_between_placed_ones_follow_them():
    log = log_of([0, 0, 0, 0, 1, 0, 0])
    log.put(0, FramePose(10, 0, 0, Sim3.identity()))  # the keyframe itself
    before, D = log.T_kf_cam[:], Sim3.exp(np.array([0.2, 0.1, -0.1, 0.05, 0.1, 0.0, 0.1]))
    before = Sim3(before.rotation.copy(), before.translation.copy(), before.scale.copy())
    log.place(np.array([2, 5]), D @ before[[2, 5]])
    for n, share in enumerate((0.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0)):
        expected = Sim3.exp(share * D.log()) @ before[n]
        np.testing.assert_allclose(log[n].T_kf_cam.as_matrix(), expected.as_matrix(), atol=1e-12)


def test_a_keyframe_amid_its_frames_stays_where_it_is():
    """Frames from before the start of a map come before the first keyframe, and are tracked against it."""
    log = log_of([0, 0, 0, 0, 0])
    log.put(2, FramePose(12, 2000, 0, Sim3.identity()))
    before, D = log.T_kf_cam, Sim3.exp(np.array([0.2, 0.1, -0.1, 0.05, 0.1, 0.0, 0.1]))
    before = Sim3(before.rotation.copy(), before.translation.copy(), before.scale.copy())
    log.place(np.array([0, 4]), D @ before[[0, 4]])
    for n, share in enumerate((1.0, 0.5, 0.0, 0.5, 1.0)):
        expected = Sim3.exp(share * D.log()) @ before[n]
        np.testing.assert_allclose(log[n].T_kf_cam.as_matrix(), expected.as_matrix(), atol=1e-12)


def test_columns_make_the_same_log():
    log = log_of([0, 0, 1])
    other = FrameLog.of(log.frame_ids, log.stamps_ns, log.keyframe_ids, log.T_kf_cam)
    other.append(FramePose(99, 99_000, 1, pose(9)))
    assert len(other) == 4 and other[1].stamp_ns == 1000
    np.testing.assert_array_equal(other[2].T_kf_cam.as_matrix(), log[2].T_kf_cam.as_matrix())
