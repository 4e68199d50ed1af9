# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.opencv.stereo import DenseDepth, interpolated_depth, rectify, semi_global_depth

SHAPE = (240, 320)
MOTIONS = {
    "right": SE3.exp(np.array([0.25, 0.0, 0.0, 0.0, 0.03, 0.0])),
    "left": SE3.exp(np.array([-0.25, 0.02, 0.0, 0.0, -0.05, 0.0])),
    "down": SE3.exp(np.array([0.0, 0.2, 0.0, 0.02, 0.0, 0.0])),
    "up": SE3.exp(np.array([0.02, -0.2, 0.0, -0.05, 0.0, 0.02])),
    "oblique": SE3.exp(np.array([0.17, 0.17, 0.05, 0.02, 0.05, 0.05])),
}
FORWARD = SE3.exp(np.array([0.01, 0.0, 0.3, 0.0, 0.0, 0.01]))
HOME = SE3.identity()


def grey(room, T: SE3, index: int) -> np.ndarray:
    return cv2.cvtColor(room.frame(T, index).image, cv2.COLOR_RGB2GRAY)


@pytest.fixture(scope="module", params=MOTIONS)
def stereo(request, room) -> tuple[DenseDepth, DenseDepth, np.ndarray, np.ndarray]:
    """Depths of both images of a pair, found and true."""
    T_0_1, K = MOTIONS[request.param], room.camera.K
    plane = rectify(K, K, T_0_1, SHAPE, 0.6)
    truth0, truth1 = room.depth(HOME), room.depth(T_0_1)
    found = semi_global_depth(grey(room, HOME, 0), grey(room, T_0_1, 1), plane, T_0_1, truth0.min(), truth0.max())
    return (*found, truth0, truth1)


@pytest.mark.parametrize("motion", MOTIONS)
def test_rectified_rows_are_epipolar_lines_and_disparity_is_inverse_depth(motion, room):
    T_0_1, K = MOTIONS[motion], room.camera.K
    plane = rectify(K, K, T_0_1, SHAPE, 0.6)
    X0 = room.camera.unproject(np.random.default_rng(0).uniform((0, 0), (319, 239), (200, 2)), 3.0)
    X0 *= np.random.default_rng(1).uniform(0.5, 2.0, (200, 1))
    pixels0, pixels1 = room.camera.project(X0), room.camera.project(T_0_1.inverse() @ X0)
    on_plane0 = cv2.perspectiveTransform(pixels0[None], plane.H0)[0]
    on_plane1 = cv2.perspectiveTransform(pixels1[None], plane.H1)[0]
    np.testing.assert_allclose(on_plane0[:, 1], on_plane1[:, 1], atol=1e-6)
    z = (X0 @ plane.R.T)[:, 2]
    np.testing.assert_allclose(on_plane0[:, 0] - on_plane1[:, 0], plane.K[0, 0] * plane.baseline / z, rtol=1e-6)
    assert plane.baseline == pytest.approx(np.linalg.norm(T_0_1.translation))


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_rectified_plane_holds_both_images(motion, room):
    plane = rectify(room.camera.K, room.camera.K, MOTIONS[motion], SHAPE, 0.6)
    for H in (plane.H0, plane.H1):
        corners = cv2.perspectiveTransform(pixel_grid(320, 240)[::239, ::319].reshape(1, -1, 2), H)[0]
        assert (corners > -1).all() and (corners < (plane.width, plane.height)).all()


def test_motions_that_cannot_be_rectified_have_no_plane(room):
    K = room.camera.K
    assert rectify(K, K, FORWARD, SHAPE, 0.6) is None
    assert rectify(K, K, FORWARD.inverse(), SHAPE, 0.6) is None
    opposite = SE3.exp(np.array([0, 0, 0, 0, np.pi, 0]))
    assert rectify(K, K, SE3(opposite.rotation, np.array([1.0, 0, 0])), SHAPE, 0.6) is None


def test_depth_agrees_with_the_truth(stereo):
    for found, truth in zip(stereo[:2], stereo[2:], strict=True):
        known = found.depth > 0
        error = np.abs(found.depth[known] / truth[known] - 1)
        assert known.mean() > 0.5
        assert np.median(error) < 0.05 and np.mean(error < 0.15) > 0.9


def test_pixels_with_smaller_sigma_are_better(stereo):
    for found, truth in zip(stereo[:2], stereo[2:], strict=True):
        known = found.depth > 0
        error, sigma = np.abs(found.depth[known] / truth[known] - 1), found.sigma[known]
        sure = sigma <= np.median(sigma)
        assert error[sure].mean() < error[~sure].mean()
        assert np.median(error / sigma) < 2.0  # and sigma is about the size of the error


def test_where_the_second_image_does_not_look_there_is_no_depth(room):
    T_0_1, K = MOTIONS["right"], room.camera.K
    plane = rectify(K, K, T_0_1, SHAPE, 0.6)
    truth = room.depth(HOME)
    found, _ = semi_global_depth(grey(room, HOME, 0), grey(room, T_0_1, 1), plane, T_0_1, truth.min(), truth.max())
    seen_at = room.camera.project(T_0_1.inverse() @ room.camera.unproject(pixel_grid(320, 240), truth))[..., 0]
    outside = seen_at < -3
    assert outside.sum() > 500
    assert (found.depth[outside] > 0).mean() < 0.1


def test_a_range_of_depths_that_is_too_wide_gives_none(room):
    T_0_1, K = MOTIONS["right"], room.camera.K
    plane = rectify(K, K, T_0_1, SHAPE, 0.6)
    image = grey(room, HOME, 0)
    assert semi_global_depth(image, image, plane, T_0_1, 0.01, 10.0) is None


def test_images_without_texture_have_no_or_vague_depth(room):
    T_0_1, K = MOTIONS["right"], room.camera.K
    plane = rectify(K, K, T_0_1, SHAPE, 0.6)
    flat = np.full(SHAPE, 128, np.uint8)
    for found in semi_global_depth(flat, flat, plane, T_0_1, 1.5, 6.0):
        assert (found.depth[found.sigma < 0.1] == 0).all()


def test_interpolation_is_exact_on_a_plane_and_silent_outside_the_matches():
    rng = np.random.default_rng(0)
    pixels = np.concatenate([rng.uniform((60, 50), (260, 190), (150, 2)), [[60, 50], [260, 50], [60, 190], [260, 190]]])

    def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 1.0 / (0.2 + 0.0005 * x + 0.001 * y)

    found = interpolated_depth(pixels, plane(*pixels.T), SHAPE)
    y, x = np.mgrid[0:240, 0:320]
    inside = (x > 65) & (x < 255) & (y > 55) & (y < 185)
    assert (found.depth[inside] > 0).all()
    np.testing.assert_allclose(found.depth[inside], plane(x, y)[inside], rtol=0.03)
    assert (found.depth[(x < 55) | (x > 265) | (y < 45) | (y > 195)] == 0).all()
    assert np.isfinite(found.sigma).all() and (found.sigma > 0).all()


def test_interpolation_follows_the_true_depth_of_a_view(room):
    truth = room.depth(HOME)
    pixels = np.random.default_rng(0).integers((0, 0), (320, 240), (600, 2))
    found = interpolated_depth(pixels.astype(np.float64), truth[pixels[:, 1], pixels[:, 0]], SHAPE)
    known = found.depth > 0
    assert known.mean() > 0.9
    error = np.abs(found.depth[known] / truth[known] - 1)
    assert np.median(error) < 0.05
    assert np.mean(error < 3 * found.sigma[known]) > 0.85
