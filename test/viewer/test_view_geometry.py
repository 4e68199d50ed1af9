# SPDX-License-Identifier: Apache-2.0
"""What the viewer computes before anything is shown: which points, from where, which way is up, which field of view."""

import numpy as np
import pytest

from st3r_ros.geometry.axes import OPTICAL
from st3r_ros.geometry.transforms import SE3
from st3r_ros.viewer.facts import facts_html
from st3r_ros.viewer.pictures import PICTURE_WIDTH, focal_of_points, picture
from st3r_ros.viewer.thinning import layers
from st3r_ros.viewer.viewpoint import Extent, extent, overview


def wall(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((0, 0, 3), (4, 2, 3), (count, 3)).astype(np.float32)


def thinned(points: np.ndarray, limit: int) -> np.ndarray:
    """Whether each of the points is in one of the layers."""
    found = np.concatenate(layers(points, 500, limit))
    assert len(np.unique(found)) == len(found)
    return np.isin(np.arange(len(points)), found)


@pytest.mark.parametrize("limit", [1, 1000, 49_999])
def test_a_thinned_cloud_has_what_was_asked_for_and_is_even(limit: int) -> None:
    points = wall(50_000)
    keep = thinned(points, limit)
    assert keep.shape == (50_000,)
    assert keep.sum() <= limit
    assert keep.sum() >= 0.85 * limit - 1
    if limit == 1000:
        per_cell = np.histogram2d(*points[keep, :2].T, bins=4, range=((0, 4), (0, 2)))[0]
        assert per_cell.min() > 0.4 * per_cell.mean()


def test_a_small_cloud_is_shown_whole() -> None:
    assert thinned(wall(100), 100).all()
    assert thinned(np.zeros((0, 3), np.float32), 10).shape == (0,)


def test_a_grid_is_thinned_evenly_too() -> None:
    """The points of a voxel grid differ in few bits."""
    axis = np.arange(100, dtype=np.float32) * np.float32(0.02)
    points = np.stack(np.meshgrid(axis, axis, np.float32([0.0, 0.02])), axis=-1).reshape(-1, 3)
    keep = thinned(points, 2000)
    per_cell = np.histogram2d(*points[keep, :2].T, bins=5)[0]
    assert 1700 < keep.sum() <= 2000
    assert per_cell.min() > 0.5 * per_cell.mean()


def test_a_cloud_that_grows_keeps_most_of_what_it_showed() -> None:
    points = wall(60_000)
    before, after = thinned(points[:50_000], 10_000), thinned(points, 10_000)
    kept = np.count_nonzero(after[:50_000] & before) / before.sum()
    assert kept > 0.75


def test_each_layer_doubles_what_is_seen_everywhere() -> None:
    points = wall(50_000)
    parts = layers(points, 1000, 20_000)
    totals = np.cumsum([len(part) for part in parts])
    assert np.allclose(totals, [1000, 2000, 4000, 8000, 16_000, 20_000], rtol=0.15)
    for part in parts[1:]:
        per_cell = np.histogram2d(*points[part, :2].T, bins=4, range=((0, 4), (0, 2)))[0]
        assert per_cell.min() > 0.5 * per_cell.mean()


def test_the_extent_is_that_of_the_bulk() -> None:
    points = np.concatenate([wall(10_000), np.full((100, 3), 1000.0, np.float32)])
    found = extent(points)
    assert found is not None
    assert np.allclose(found.center, [2, 1, 3], atol=0.1)
    assert found.size == pytest.approx(np.hypot(4, 2), rel=0.1)
    assert extent(points[:0]) is None
    assert extent(np.ones((5, 3), np.float32)) is None


def cameras_looking(forward: np.ndarray, up: np.ndarray, positions: np.ndarray) -> SE3:
    """Optical axes: z forward, y down."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z], axis=1)
    return SE3(np.broadcast_to(R, (len(positions), 3, 3)), positions)


def test_the_overview_is_above_and_behind_the_cameras_and_holds_the_cloud() -> None:
    seen = Extent(np.array([5.0, 0.0, 1.0]), 4.0)
    cameras = cameras_looking(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([[0.0, -1.0, 1.0], [0.0, 1.0, 1.0]]))
    view = overview(seen, cameras)
    assert view.position[0] < 0.0  # the cameras are in front of the eye
    assert view.position[2] > 2.0
    direction = (view.look_at - view.position) / np.linalg.norm(view.look_at - view.position)
    for point in (seen.center, *cameras.translation):
        towards = (point - view.position) / np.linalg.norm(point - view.position)
        assert np.degrees(np.arccos(direction @ towards)) < 45.0  # 37 is half the height of the window, which is wider
    assert np.isfinite(overview(seen, None).position).all()


def test_the_field_of_view_is_read_from_the_points_of_a_keyframe() -> None:
    v, u = np.mgrid[:240, :320]
    depth = np.random.default_rng(0).uniform(1, 4, (240, 320))
    points = np.stack([(u - 159.5) / 300.0 * depth, (v - 119.5) / 310.0 * depth, depth], axis=-1).astype(np.float32)
    points[::3] = np.nan
    assert focal_of_points(points) == pytest.approx(310.0, rel=1e-3)
    in_body_axes = points @ OPTICAL.rotation.T.astype(np.float32)
    assert focal_of_points(in_body_axes) == pytest.approx(310.0, rel=1e-3)
    shown = picture(np.zeros((240, 320, 3), np.uint8), focal_of_points(points))
    assert shown.image.shape[1] <= PICTURE_WIDTH
    assert shown.aspect == pytest.approx(320 / 240, rel=0.02)
    assert shown.fov == pytest.approx(2 * np.arctan(120 / 310), rel=1e-3)
    assert focal_of_points(np.full((240, 320, 3), np.nan, np.float32)) is None
    assert picture(np.zeros((240, 320, 3), np.uint8), None).fov > 0


def test_text_from_anywhere_stays_text() -> None:
    page = facts_html({"State": "<script>alert(1)</script>"}, "a < b & <img src=x onerror=alert(1)>")
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
