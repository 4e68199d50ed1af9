# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

import numpy as np
import pytest

from st3r_ros.geometry import so3
from st3r_ros.geometry.epipolar import sampson, skew
from st3r_ros.geometry.transforms import SE3
from st3r_ros.geometry.triangulation import triangulate
from st3r_ros.geometry.two_view import (
    TwoViewGeometry,
    another_pose,
    classify_matches,
    direction_covariance,
    estimate_two_view,
    refine_pose,
)

FOCAL = 500.0  # pixels; a threshold of 1.5 of them is what the model uses
THRESHOLD = 1.5 / FOCAL
MOTIONS = {
    "sideways": [0.4, 0.0, 0.0, 0.0, -0.08, 0.0],
    "vertical": [0.0, -0.4, 0.0, 0.06, 0.0, 0.0],
    "forward": [0.05, 0.0, 0.6, 0.02, 0.0, 0.05],
    "turning": [0.3, 0.1, 0.2, 0.1, 0.3, -0.1],
}


@dataclass
class Scene:
    """The truth T_0_1, and rays with z = 1 of the points that both cameras see."""

    T_0_1: SE3
    rays0: np.ndarray
    rays1: np.ndarray

    @staticmethod
    def of(xi: list[float], *, noise_px: float = 0.0, outliers: float = 0.0, count: int = 300, seed: int = 0) -> "Scene":
        rng = np.random.default_rng(seed)
        T_0_1 = SE3.exp(np.array(xi))
        X1 = rng.uniform((-0.45, -0.35, 1), (0.45, 0.35, 1), (count, 3)) * rng.uniform(2.0, 7.0, (count, 1))
        X0 = T_0_1 @ X1
        rays0, rays1 = X0 / X0[:, 2:], X1 / X1[:, 2:]
        rays0[:, :2] += rng.normal(0, noise_px / FOCAL, (count, 2))
        rays1[:, :2] += rng.normal(0, noise_px / FOCAL, (count, 2))
        wrong = round(outliers * count)  # the first ones
        rays0[:wrong, :2] = rng.uniform((-0.5, -0.4), (0.5, 0.4), (wrong, 2))
        return Scene(T_0_1, rays0, rays1)

    def estimate(self) -> TwoViewGeometry | None:
        return estimate_two_view(self.rays0, self.rays1, THRESHOLD, 20)


def errors_deg(found: SE3, truth: SE3) -> tuple[float, float]:
    """Of the rotation, and of the direction of the translation."""
    rotation = np.linalg.norm((found.inverse() @ truth).log()[3:])
    a, b = (T.translation / np.linalg.norm(T.translation) for T in (found, truth))
    return float(np.rad2deg(rotation)), float(np.rad2deg(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


@pytest.mark.parametrize("motion", MOTIONS)
def test_exact_rays_give_the_exact_pose(motion):
    scene = Scene.of(MOTIONS[motion])
    found = scene.estimate()
    assert max(errors_deg(found.T_0_1, scene.T_0_1)) < 1e-6
    assert np.linalg.norm(found.T_0_1.translation) == pytest.approx(1.0)
    assert found.inliers.all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("motion", MOTIONS)
def test_noise_does_little_harm(motion, seed):
    scene = Scene.of(MOTIONS[motion], noise_px=0.25, seed=seed)
    found = scene.estimate()
    rotation, direction = errors_deg(found.T_0_1, scene.T_0_1)
    assert rotation < 0.2 and direction < 1.2
    assert found.inliers.mean() > 0.98


@pytest.mark.parametrize("motion", MOTIONS)
def test_outliers_are_told_apart_and_do_little_harm(motion):
    scenes = [Scene.of(MOTIONS[motion], noise_px=0.25, outliers=0.3, seed=seed) for seed in range(7)]
    found = [scene.estimate() for scene in scenes]
    errors = [errors_deg(geometry.T_0_1, scene.T_0_1) for geometry, scene in zip(found, scenes, strict=True)]
    rotation, direction = np.max(errors, axis=0)
    assert rotation < 0.25 and direction < 1.5
    for geometry in found:  # the first 90 are wrong, though some lie by chance near their epipolar line
        assert geometry.inliers[90:].mean() > 0.98 and geometry.inliers[:90].mean() < 0.1


def test_parallax_is_the_angle_between_the_rays_that_a_quarter_exceed():
    scene = Scene.of(MOTIONS["sideways"], noise_px=0.3)
    turned = scene.rays1 @ scene.T_0_1.rotation.T
    angle = np.arctan2(np.linalg.norm(np.cross(scene.rays0, turned), axis=1), (scene.rays0 * turned).sum(1))
    assert scene.estimate().parallax_deg == pytest.approx(np.rad2deg(np.percentile(angle, 75)), rel=0.1)


@pytest.mark.parametrize("noise_px", [0.0, 0.5])
@pytest.mark.parametrize("angle", [0.0, 0.05, 0.2])
def test_a_rotation_alone_has_no_parallax(angle, noise_px):
    scene = Scene.of([0, 0, 0, 0.2 * angle, angle, -0.3 * angle], noise_px=noise_px)
    found = scene.estimate()
    assert found is None or found.parallax_deg == 0.0


def true_parallax_deg(scene: Scene) -> float:
    return float(np.rad2deg(np.percentile(triangulate(scene.rays0, scene.rays1, scene.T_0_1).parallax, 75)))


@pytest.mark.parametrize("baseline", [0.06, 0.1])
def test_a_small_motion_that_shows_above_the_noise_is_no_rotation(baseline):
    """Turning explains half of the matches to within the threshold or little more, but far from within the noise."""
    scene = Scene.of([baseline, 0.0, 0.0, 0.0, 0.02, 0.0], noise_px=0.02)
    assert scene.estimate().parallax_deg == pytest.approx(true_parallax_deg(scene), rel=0.1)


@pytest.mark.parametrize("baseline", [0.002, 0.01, 0.05])
def test_a_known_pose_keeps_its_parallax_however_small(baseline):
    scene = Scene.of([baseline, 0.0, 0.0, 0.0, 0.1, 0.0])
    found = classify_matches(scene.T_0_1, scene.rays0, scene.rays1, THRESHOLD, 20)
    assert found.inliers.all() and found.parallax_deg == pytest.approx(true_parallax_deg(scene))
    assert found.parallax_deg > 0


def test_matches_at_random_have_no_geometry_that_many_obey():
    scene = Scene.of(MOTIONS["sideways"], outliers=1.0)
    found = scene.estimate()
    assert found is None or found.inliers.mean() < 0.2


@pytest.mark.parametrize("count", [0, 3, 10])
def test_too_few_matches_have_no_geometry(count):
    scene = Scene.of(MOTIONS["sideways"], count=count)
    assert scene.estimate() is None
    assert classify_matches(scene.T_0_1, scene.rays0, scene.rays1, THRESHOLD, 20) is None


def test_a_known_pose_tells_right_from_wrong_and_keeps_its_length():
    scene = Scene.of(MOTIONS["turning"], noise_px=0.2, outliers=0.3)
    found = classify_matches(scene.T_0_1, scene.rays0, scene.rays1, THRESHOLD, 20)
    np.testing.assert_array_equal(found.T_0_1.as_matrix(), scene.T_0_1.as_matrix())
    assert found.inliers[90:].all() and found.inliers[:90].mean() < 0.25


def test_points_behind_the_cameras_are_no_inliers():
    scene = Scene.of(MOTIONS["sideways"])
    backwards = SE3(scene.T_0_1.rotation, -scene.T_0_1.translation)
    assert classify_matches(backwards, scene.rays0, scene.rays1, THRESHOLD, 20) is None


def sampson_distances(T_0_1: SE3, rays0: np.ndarray, rays1: np.ndarray) -> np.ndarray:
    return sampson(skew(T_0_1.translation) @ T_0_1.rotation, rays0, rays1).distance


@pytest.mark.parametrize("motion", MOTIONS)
def test_sampson_distance_is_at_most_the_shift_across_the_epipolar_line(motion):
    """It shares the error between both images, whatever the length of the baseline; exact matches have none."""
    scene = Scene.of(MOTIONS[motion])
    t, R = scene.T_0_1.translation, scene.T_0_1.rotation
    assert np.abs(sampson_distances(scene.T_0_1, scene.rays0, scene.rays1)).max() < 1e-9
    line = np.cross(t, scene.rays1 @ R.T)[:, :2]
    shift = 1e-5 * line / np.linalg.norm(line, axis=1, keepdims=True)
    moved = scene.rays0 + np.pad(shift, ((0, 0), (0, 1)))
    distance = np.abs(sampson_distances(scene.T_0_1, moved, scene.rays1))
    assert (distance < 1e-5 * (1 + 1e-3)).all() and (distance > 0.3e-5).all()
    longer = np.abs(sampson_distances(SE3(R, 7.0 * t), moved, scene.rays1))
    np.testing.assert_allclose(longer, distance, rtol=1e-6)


@pytest.mark.parametrize("motion", MOTIONS)
def test_refinement_returns_to_the_truth(motion):
    scene = Scene.of(MOTIONS[motion])
    rng = np.random.default_rng(1)
    for _ in range(5):
        off = SE3.exp(np.concatenate([0.05 * rng.normal(size=3), 0.01 * rng.normal(size=3)])) @ scene.T_0_1
        refined = refine_pose(off, scene.rays0, scene.rays1, np.ones(300, bool), 10 * THRESHOLD)
        assert max(errors_deg(refined, scene.T_0_1)) < 0.02
        assert max(errors_deg(refined, scene.T_0_1)) < 0.1 * max(errors_deg(off, scene.T_0_1))


@pytest.mark.parametrize("motion", MOTIONS)
def test_refinement_lowers_the_sampson_error_of_noisy_matches(motion):
    scene = Scene.of(MOTIONS[motion], noise_px=0.5)
    everything = np.ones(300, bool)
    best = refine_pose(scene.T_0_1, scene.rays0, scene.rays1, everything, 100 * THRESHOLD)

    def cost(T: SE3) -> float:
        return float((sampson_distances(T, scene.rays0, scene.rays1) ** 2).sum())

    assert cost(best) <= cost(scene.T_0_1)
    rng = np.random.default_rng(2)
    for _ in range(10):
        near = SE3.exp(1e-3 * rng.normal(size=6)) @ best
        assert cost(best) < cost(near)


def test_a_refinement_never_raises_the_cost():
    """From anywhere, as when the search for another pose starts from the axes."""
    rng, width = np.random.default_rng(4), 10 * THRESHOLD
    scene = Scene.of(next(iter(MOTIONS.values())), noise_px=0.5)

    def cost(T: SE3) -> float:
        distance = np.abs(
            sampson_distances(SE3(T.rotation, T.translation / np.linalg.norm(T.translation)), scene.rays0, scene.rays1)
        )
        near = np.minimum(distance, 0.5 * width)
        return float((near * (distance - 0.5 * near)).sum())

    for _ in range(20):
        start = SE3(so3.exp(rng.normal(0.0, 0.3, 3)), rng.normal(size=3))
        assert cost(refine_pose(start, scene.rays0, scene.rays1, np.ones(300, bool), width)) <= cost(start) * (1.0 + 1e-9)


# One plane ------------------------------------------------------------------------------------------------------------


def test_refinement_is_not_drawn_off_where_matches_hardly_tell_turn_from_move():
    """Distant points and a short way: the mean error over many draws of the noise is that of chance."""
    rng = np.random.default_rng(3)
    T_0_1 = SE3.exp(np.array([0.25, 0.1, -0.15, 0.05, -0.1, 0.02]))
    X1 = rng.uniform((-0.6, -0.45, 1), (0.6, 0.45, 1), (400, 3)) * rng.uniform(3.0, 4.5, (400, 1))
    X0 = T_0_1 @ X1
    errors = []
    for _ in range(60):
        rays0, rays1 = X0 / X0[:, 2:], X1 / X1[:, 2:]
        for rays in (rays0, rays1):
            rays[:, :2] += rng.normal(0, 0.7 / 260.0, (400, 2))
        found = refine_pose(T_0_1, rays0, rays1, np.ones(400, bool), 3.0 / 260.0)
        errors.append((found.inverse() @ T_0_1).log()[3:])
    mean, spread = np.mean(errors, axis=0), np.std(errors, axis=0)
    assert (np.abs(mean) < 0.7 * spread).all()  # chance leaves a part of 1 / sqrt(60) = 0.13


def seen_twice(seed: int, flat: bool) -> tuple[np.ndarray, np.ndarray, SE3]:
    """Rays (N, 3) of 150 points in two cameras with a little noise, and T_0_1; flat: all of them on one plane."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -1.5, 3.0], [2, 1.5, 6.0], (150, 3))
    if flat:
        points[:, 2] = 4.0 + 0.5 * points[:, 0] - 0.3 * points[:, 1]
    T_0_1 = SE3.exp(np.array([0.1, 0.05, 0.8, 0.02, -0.05, 0.03]))  # into the picture: the other plane is seen as well
    rays = [X / X[:, 2:] for X in (points, T_0_1.inverse().act(points))]
    for r in rays:
        r[:, :2] += rng.normal(0.0, 0.0005, (150, 2))
    return rays[0], rays[1], T_0_1


@pytest.mark.parametrize("seed", range(4))
def test_a_plane_leaves_a_second_pose_and_a_room_does_not(seed):
    for flat in (True, False):
        rays0, rays1, _ = seen_twice(seed, flat)
        found = estimate_two_view(rays0, rays1, 0.003, 20)
        assert (another_pose(found, rays0, rays1, 0.003, 20) is not None) == flat


def test_the_covariance_of_the_direction_is_that_of_its_errors():
    nees = []
    for seed in range(60):
        rays0, rays1, T_true = seen_twice(seed, flat=False)
        found = estimate_two_view(rays0, rays1, 0.003, 20)
        t = T_true.translation / np.linalg.norm(T_true.translation)
        error = np.concatenate([found.T_0_1.translation - t, so3.log(found.T_0_1.rotation @ T_true.rotation.T)])
        nees.append(error @ np.linalg.pinv(direction_covariance(found, rays0, rays1), rcond=1e-6) @ error)
    assert 2.5 < np.mean(nees) < 10.0  # 5 degrees of freedom
