# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st3r_ros.errors import EvaluationError
from st3r_ros.eval.trajectory import align_truth, evaluate_trajectory, why_unmatched
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.types import Trajectory

PERIOD_NS = 100_000_000


def random_walk(seed: int, length: int = 40) -> Trajectory:
    """A path through space with arbitrary orientations, 10 poses per second."""
    rng = np.random.default_rng(seed)
    quaternions = rng.normal(size=(length, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    positions = np.cumsum(rng.normal(size=(length, 3)), axis=0)
    return Trajectory(np.arange(length, dtype=np.int64) * PERIOD_NS, positions, quaternions)


def moved(trajectory: Trajectory, T: Sim3) -> Trajectory:
    poses = T @ Sim3.from_quaternion_xyzw(trajectory.quaternions_xyzw, trajectory.positions)
    return Trajectory(trajectory.stamps_ns, poses.translation, poses.quaternion_xyzw)


def part(trajectory: Trajectory, index) -> Trajectory:
    return Trajectory(trajectory.stamps_ns[index], trajectory.positions[index], trajectory.quaternions_xyzw[index])


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), log_scale=st.floats(-3, 3))
def test_a_similar_path_has_no_error_and_its_scale_is_found(seed, log_scale):
    rng = np.random.default_rng(seed + 1)
    truth = random_walk(seed)
    T_map_truth = Sim3.exp(np.concatenate([rng.normal(size=6), [-log_scale]]))
    errors = evaluate_trajectory(moved(truth, T_map_truth), truth)
    assert errors.ate_sim3 == pytest.approx(0.0, abs=1e-6)
    assert errors.scale == pytest.approx(np.exp(log_scale), rel=1e-6)
    assert errors.matched == len(truth)
    spread = np.sqrt(np.mean(np.sum((truth.positions - truth.positions.mean(0)) ** 2, axis=1)))
    assert errors.truth_spread == pytest.approx(spread)
    assert errors.ate_se3 == pytest.approx(abs(np.exp(-log_scale) - 1.0) * spread, rel=1e-6, abs=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_no_similarity_fits_better_than_the_alignment(seed):
    rng = np.random.default_rng(seed)
    truth = random_walk(seed)
    estimate = Trajectory(truth.stamps_ns, truth.positions + rng.normal(scale=0.3, size=(40, 3)), truth.quaternions_xyzw)
    errors = evaluate_trajectory(estimate, truth)
    assert errors.ate_sim3 <= errors.ate_se3 + 1e-12
    for _ in range(10):
        other = Sim3.exp(rng.normal(scale=0.02, size=7)) @ errors.T_truth_map
        rmse = np.sqrt(np.mean(np.sum((other.act(estimate.positions) - truth.positions) ** 2, axis=1)))
        assert rmse >= errors.ate_sim3 - 1e-12


def test_a_truth_of_positions_gives_the_same_errors_and_path():
    truth = random_walk(3)
    estimate = moved(truth, Sim3.exp(np.array([1.0, 2, 3, 0.1, 0.2, 0.3, 0.4])))
    positions = Trajectory(truth.stamps_ns, truth.positions, np.full((len(truth), 4), np.nan))
    errors = evaluate_trajectory(estimate, positions)
    assert errors.ate_sim3 == pytest.approx(0.0, abs=1e-6)
    assert errors.ate_se3 == pytest.approx(evaluate_trajectory(estimate, truth).ate_se3)
    np.testing.assert_allclose(align_truth(positions, errors.T_truth_map).positions, estimate.positions, atol=1e-6)


@pytest.mark.parametrize(
    ("factor", "offset", "words"),
    [
        (10**3, 0, ["100.000 s to 4000.000 s", "look like ms"]),
        (10**9, 10**9, ["look like ns"]),
        (1, 14 * 10**17, ["1400000000.100 s to 1400000004.000 s", "have the same unit"]),
    ],
)
def test_another_unit_or_time_base_is_named_with_both_ranges(factor, offset, words):
    estimate = random_walk(1)
    images = estimate.stamps_ns + PERIOD_NS
    truth = Trajectory(images * factor + offset, estimate.positions, estimate.quaternions_xyzw)
    sentence = why_unmatched(images, truth)
    assert "0.100 s to 4.000 s" in sentence and all(word in sentence for word in words)
    with pytest.raises(EvaluationError, match=words[-1]):
        evaluate_trajectory(Trajectory(images, estimate.positions, estimate.quaternions_xyzw), truth)
    assert why_unmatched(images, Trajectory(images, truth.positions, truth.quaternions_xyzw)) == ""


@pytest.mark.parametrize(("rate", "said"), [(20, True), (10, False)])
def test_images_at_another_rate_than_the_truth_are_told(rate, said):
    """With assumed stamps every second image meets a pose, and a wrong one."""
    truth = random_walk(3)
    sentence = why_unmatched(np.arange(40) * 1_000_000_000 // rate, truth)
    assert ("20 of 40 images" in sentence) if said else sentence == ""


def test_the_error_is_the_rmse_of_what_alignment_leaves():
    truth = random_walk(5)
    positions = truth.positions.copy()
    positions[::2] += [0.0, 0.0, 0.1]
    positions[1::2] -= [0.0, 0.0, 0.1]
    errors = evaluate_trajectory(Trajectory(truth.stamps_ns, positions, truth.quaternions_xyzw), truth)
    left = errors.T_truth_map.act(positions) - truth.positions
    assert errors.ate_sim3 == pytest.approx(np.sqrt(np.mean(np.sum(left**2, axis=1))))
    assert 0.09 < errors.ate_sim3 <= 0.1


def test_the_aligned_truth_lies_on_the_estimate():
    truth = random_walk(3)
    estimate = moved(truth, Sim3.exp(np.array([1.0, -2.0, 0.5, 0.3, 1.2, -0.4, 0.8])))
    aligned = align_truth(truth, evaluate_trajectory(estimate, truth).T_truth_map)
    np.testing.assert_allclose(aligned.positions, estimate.positions, atol=1e-6)
    turned = np.abs(np.sum(aligned.quaternions_xyzw * estimate.quaternions_xyzw, axis=1))
    np.testing.assert_allclose(turned, 1.0, atol=1e-6)


def test_tracked_share_counts_only_frames_that_have_a_true_pose():
    truth = part(random_walk(0), slice(0, 20))
    estimate = part(random_walk(0), slice(5, 30))
    processed = np.arange(40, dtype=np.int64) * PERIOD_NS
    errors = evaluate_trajectory(estimate, truth, processed)
    assert errors.matched == 15
    assert errors.tracked_share == pytest.approx(15 / 20)
    assert evaluate_trajectory(estimate, truth).tracked_share is None


def test_stamps_up_to_20_ms_apart_belong_together():
    truth = random_walk(0)
    near = Trajectory(truth.stamps_ns + 19_000_000, truth.positions, truth.quaternions_xyzw)
    assert evaluate_trajectory(near, truth).matched == len(truth)
    far = Trajectory(truth.stamps_ns + 21_000_000, truth.positions, truth.quaternions_xyzw)
    with pytest.raises(EvaluationError, match=r"No pose of the estimate .* within 20 ms"):
        evaluate_trajectory(far, truth)


def test_too_few_poses_are_refused_with_their_number():
    truth = random_walk(0)
    with pytest.raises(EvaluationError, match="estimated trajectory has 2 poses"):
        evaluate_trajectory(part(truth, slice(0, 2)), truth)
    with pytest.raises(EvaluationError, match="estimated trajectory has 0 poses"):
        evaluate_trajectory(part(truth, slice(0, 0)), truth)
    with pytest.raises(EvaluationError, match="true trajectory has 2 poses"):
        evaluate_trajectory(truth, part(truth, slice(0, 2)))
    with pytest.raises(EvaluationError, match="Only 2 poses of the estimate"):
        evaluate_trajectory(part(truth, slice(0, 10)), part(truth, slice(8, 40)))


def test_poses_on_one_line_determine_no_alignment():
    line = Trajectory(np.arange(5) * PERIOD_NS, np.outer(np.arange(5.0), [1.0, 0.0, 0.0]), np.tile([0.0, 0, 0, 1], (5, 1)))
    with pytest.raises(EvaluationError, match="collinear"):
        evaluate_trajectory(line, line)
