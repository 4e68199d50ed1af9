# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st3r_ros.errors import EvaluationError, FrameError
from st3r_ros.eval.depth import KeyframeDepths, compare_depth, evaluate_depth, resample_depth
from st3r_ros.geometry.camera import Camera

K_COLOR = np.array([[525.0, 0, 320], [0, 525, 240], [0, 0, 1]])
DEPTH_CAMERA = Camera(640, 480, np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]))


def wall_depth(K: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth of the slanted wall z = 2 + 0.5 x - 0.3 y, as seen by an ideal camera: exact at every pixel."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return 2.0 / (1.0 - 0.5 * (x - K[0, 2]) / K[0, 0] + 0.3 * (y - K[1, 2]) / K[1, 1])


class StoredDepth:
    """Depth images in memory; `None` is one that cannot be read."""

    def __init__(self, stamps_ns, images):
        self.stamps_ns, self._images = np.array(stamps_ns), images

    def depth(self, index):
        if self._images[index] is None:
            raise FrameError("The image is damaged.")
        return self._images[index]


@pytest.mark.parametrize("step", [1, 2, 5])
def test_resampling_moves_every_depth_to_its_own_pixel(step):
    measured = wall_depth(DEPTH_CAMERA.K, 480, 640)
    K = K_COLOR / np.array([[step], [step], [1.0]])
    height, width = 480 // step, 640 // step
    resampled = resample_depth(measured, DEPTH_CAMERA, K, height, width)
    seen = resampled > 0
    error = resampled[seen] / wall_depth(K, height, width)[seen] - 1.0
    assert np.abs(error).max() < 2e-3 and abs(error.mean()) < 5e-5
    unmoved = np.abs(measured[::step, ::step] - wall_depth(K, height, width)) / wall_depth(K, height, width)
    assert unmoved.max() > 0.02
    # The colour camera sees more than the depth camera: exactly its border has no depth.
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    u, v = (x - K[0, 2]) / K[0, 0] * 585 + 320, (y - K[1, 2]) / K[1, 1] * 585 + 240
    well_inside = (u > 0) & (u < 639) & (v > 0) & (v < 479)
    assert seen[well_inside].all() and not seen[(u < -1) | (u > 640) | (v < -1) | (v > 480)].any()


def test_resampling_removes_the_distortion_of_the_depth_camera():
    camera = Camera(640, 480, DEPTH_CAMERA.K, "plumb_bob", np.array([0.1, -0.05, 0.001, 0.001, 0.0]))
    rays = camera.unproject(np.stack(np.meshgrid(np.arange(640.0), np.arange(480.0)), axis=-1))
    measured = 2.0 / (1.0 - 0.5 * rays[..., 0] + 0.3 * rays[..., 1])
    resampled = resample_depth(measured, camera, K_COLOR, 480, 640)
    seen = resampled > 0
    assert seen.mean() > 0.7
    np.testing.assert_allclose(resampled[seen], wall_depth(K_COLOR, 480, 640)[seen], rtol=2e-3)


def test_depth_images_may_be_smaller_than_their_calibration():
    measured = wall_depth(DEPTH_CAMERA.scaled(320, 240).K, 240, 320)
    resampled = resample_depth(measured, DEPTH_CAMERA, K_COLOR, 480, 640)
    seen = resampled > 0
    assert seen.mean() > 0.75
    error = resampled[seen] / wall_depth(K_COLOR, 480, 640)[seen] - 1.0
    assert np.abs(error).max() < 4e-3 and abs(error.mean()) < 1e-4


def test_resampling_keeps_holes_and_invents_no_depth():
    rng = np.random.default_rng(0)
    measured = rng.choice([0.0, 1.0, 3.0], size=(480, 640))
    assert set(np.unique(resample_depth(measured, DEPTH_CAMERA, K_COLOR, 480, 640))) == {0.0, 1.0, 3.0}


@given(scale=st.floats(0.01, 100))
def test_a_wrong_scale_is_told_from_wrong_shape(scale):
    truth = wall_depth(K_COLOR, 48, 64)
    errors = compare_depth(truth / scale, truth, scale)
    assert errors.unscaled.abs_rel == pytest.approx(abs(1 / scale - 1), rel=1e-9, abs=1e-9)
    for accuracy in (errors.map_scaled, errors.median_scaled):
        assert accuracy.abs_rel == pytest.approx(0.0, abs=1e-9)
        assert accuracy.delta_125 == 1.0


def test_errors_count_only_pixels_with_both_depths():
    truth, predicted = np.full((40, 50), 2.0), np.full((40, 50), 2.2)
    truth[:10], predicted[30:] = 0.0, np.nan
    predicted[10:15] = 4.0
    errors = compare_depth(predicted, truth)
    assert errors.coverage == pytest.approx(20 / 30)
    assert errors.unscaled.abs_rel == pytest.approx((15 * 0.1 + 5 * 1.0) / 20)
    assert errors.unscaled.delta_125 == pytest.approx(15 / 20)
    assert errors.map_scaled is None
    assert compare_depth(np.full((40, 50), np.nan), truth) is None


def test_keyframes_are_compared_with_the_depth_of_their_time():
    K, truth = np.tile(K_COLOR, (3, 1, 1)), wall_depth(K_COLOR, 480, 640)
    predicted = KeyframeDepths(np.array([0, 10**9, 2 * 10**9]), np.stack([truth, 1.1 * truth, 9 * truth]).astype(np.float32), K)
    images = StoredDepth([5_000_000, 10**9, 3 * 10**9], [wall_depth(DEPTH_CAMERA.K, 480, 640)] * 3)
    errors = evaluate_depth(predicted, images, DEPTH_CAMERA)
    assert errors.keyframes == 2
    assert errors.unscaled.abs_rel == pytest.approx(0.05, abs=2e-3)
    assert errors.median_scaled.abs_rel == pytest.approx(0.0, abs=2e-3)


def test_unreadable_depth_is_counted_and_the_rest_compared():
    measured = wall_depth(DEPTH_CAMERA.K, 480, 640)
    predicted = KeyframeDepths(np.array([0, 10**9]), np.stack([wall_depth(K_COLOR, 480, 640)] * 2), np.tile(K_COLOR, (2, 1, 1)))
    errors = evaluate_depth(predicted, StoredDepth([0, 10**9], [None, measured]), DEPTH_CAMERA)
    assert (errors.keyframes, errors.unreadable) == (1, 1)
    with pytest.raises(EvaluationError, match="2 images are unreadable"):
        evaluate_depth(predicted, StoredDepth([0, 10**9], [None, None]), DEPTH_CAMERA)
    with pytest.raises(EvaluationError, match="None of the 2 keyframes lies within 20 ms"):
        evaluate_depth(predicted, StoredDepth([5 * 10**9], [measured]), DEPTH_CAMERA)
