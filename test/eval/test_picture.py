# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from st3r_ros.eval.picture import draw_map
from st3r_ros.eval.raster import PlotWindow, level_axes, rasterise, robust_bounds
from st3r_ros.geometry import so3
from st3r_ros.types import PointCloud, Trajectory

UNIT = PlotWindow(0.0, 1.0, 0.0, 1.0)


def decode(png: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def path(positions: np.ndarray, quaternion=(0.0, 0.0, 0.0, 1.0)) -> Trajectory:
    return Trajectory(np.arange(len(positions)) * 10**8, np.asarray(positions, float), np.tile(quaternion, (len(positions), 1)))


def cloud(points: np.ndarray, color=(0, 160, 60)) -> PointCloud:
    points = np.asarray(points, np.float32)
    return PointCloud(points, np.tile(np.uint8(color), (len(points), 1)), np.ones(len(points), np.float32))


def share_of(image: np.ndarray, color, tolerance: int = 12) -> float:
    return float(np.mean(np.all(np.abs(image.astype(int) - color) <= tolerance, axis=-1)))


def test_points_land_in_their_pixel_and_first_row_is_top():
    image = rasterise(np.array([[0.05, 0.95], [0.55, 0.05]]), np.uint8([[255, 0, 0], [0, 0, 255]]), UNIT, 100, 100)
    y, x = np.nonzero(image[..., 3])
    top = y < 50
    assert abs(x[top].mean() - 5) < 1 and abs(y[top].mean() - 5) < 1
    assert abs(x[~top].mean() - 55) < 1 and abs(y[~top].mean() - 95) < 1
    assert (image[y[top], x[top], :3] == (255, 0, 0)).all() and (image[y[~top], x[~top], :3] == (0, 0, 255)).all()


def test_a_pixel_shows_the_mean_colour_of_its_points():
    points = np.tile([[0.5, 0.5]], (4, 1))
    image = rasterise(points, np.uint8([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 200]]), UNIT, 10, 10)
    assert image[4, 5, :3].tolist() == [100, 100, 100]


def test_a_dense_surface_is_closed_and_what_is_outside_is_left_out():
    rng = np.random.default_rng(0)
    points = rng.uniform([0.0, 0.0], [0.5, 1.0], size=(20_000, 2))
    outside = rng.uniform(-50, -1, size=(5000, 2))
    image = rasterise(np.concatenate([points, outside]), np.full((25_000, 3), 90, np.uint8), UNIT, 200, 200)
    assert (image[10:190, 10:90, 3] > 0).mean() > 0.99
    assert (image[:, 110:, 3] == 0).all()
    assert not rasterise(outside, np.full((5000, 3), 90, np.uint8), UNIT, 50, 50).any()


def test_outliers_do_not_shrink_the_view():
    rng = np.random.default_rng(1)
    bulk = rng.uniform(-1, 1, size=(10_000, 3))
    outliers = rng.uniform(50, 1000, size=(400, 3))
    bounds = robust_bounds(np.concatenate([bulk, outliers]), np.zeros((0, 3)))
    assert (bounds.high < 2.0).all() and (bounds.low >= -1.0).all()
    assert (bounds.high >= 0.95).all() and (bounds.low <= -0.95).all()


def test_every_pose_is_in_view():
    bounds = robust_bounds(np.random.default_rng(0).normal(size=(500, 3)), np.array([[9.0, 0, 0], [0, -7, 0]]))
    assert bounds.high[0] >= 9 and bounds.low[1] <= -7


@pytest.mark.parametrize("seed", range(5))
def test_level_axes_are_a_frame_with_up_kept_and_the_longest_direction_first(seed):
    rng = np.random.default_rng(seed)
    rotation = so3.exp(rng.normal(size=3))
    hall = rng.uniform(-1, 1, size=(5000, 3)) * [1.5, 6.0, 1.0] @ rotation.T
    up, forward = rotation[:, 2], rng.normal(size=3)
    axes = level_axes(7.0 * up, forward, hall)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    np.testing.assert_allclose(axes[2], up, atol=1e-9)
    assert abs(axes[0] @ rotation[:, 1]) > 0.99
    assert axes[1] @ forward >= 0


def test_the_picture_shows_cloud_estimate_and_truth():
    rng = np.random.default_rng(0)
    floor = np.stack([rng.uniform(-3, 3, 30_000), np.full(30_000, 1.0), rng.uniform(0, 4, 30_000)], axis=-1)
    estimate = path(np.stack([np.linspace(-1, 1, 50), np.zeros(50), np.full(50, 0.5)], axis=-1))
    truth = path(np.stack([np.linspace(-1, 1, 50), np.zeros(50), np.full(50, 1.5)], axis=-1))
    with_truth = decode(draw_map(cloud(floor), estimate, path(estimate.positions[::10]), truth, title="room"))
    without = decode(draw_map(cloud(floor), estimate, path(estimate.positions[::10]), title="room"))
    assert min(with_truth.shape[:2]) > 300
    for image in (with_truth, without):
        assert share_of(image, (0, 160, 60), 40) > 0.2
        assert share_of(image, (225, 29, 72)) > 0.0005
    blue = [share_of(image, (29, 78, 216)) for image in (with_truth, without)]
    assert blue[0] > 0.0003 and blue[1] == 0.0


def test_up_in_the_picture_is_up_in_the_world():
    """Cameras that look along the world's x with z up: a red ceiling must be above a green floor in the side view."""
    rng = np.random.default_rng(0)
    level = rng.uniform([0.0, -2.0], [6.0, 2.0], size=(20_000, 2))
    floor, ceiling = (np.column_stack([level, np.full(20_000, z)]).astype(np.float32) for z in (-1.0, 1.5))
    colors = np.repeat(np.uint8([[0, 160, 60], [200, 0, 0]]), 20_000, axis=0)
    both = PointCloud(np.concatenate([floor, ceiling]), colors, np.ones(40_000, np.float32))
    camera_axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # columns: right, down, forward in the world
    cameras = path(rng.normal(scale=0.3, size=(20, 3)), so3.to_quaternion_xyzw(camera_axes))
    image = decode(draw_map(both, cameras, cameras)).astype(int)
    side = image[image.shape[0] // 2 :]
    is_floor, is_ceiling = ((side[..., 1] - side[..., 0] > 60), (side[..., 0] - side[..., 1] > 120) & (side[..., 2] < 40))
    assert np.median(np.nonzero(is_ceiling)[0]) < np.median(np.nonzero(is_floor)[0])


@pytest.mark.parametrize("poses", [0, 1])
@pytest.mark.parametrize("points", [0, 1])
def test_a_map_with_next_to_nothing_can_be_drawn(points, poses):
    image = decode(draw_map(cloud(np.zeros((points, 3))), path(np.zeros((poses, 3))), path(np.zeros((poses, 3)))))
    assert image.ndim == 3
