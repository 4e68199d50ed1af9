# SPDX-License-Identifier: Apache-2.0
import dataclasses
import logging

import numpy as np
import pytest
import torch

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pnp import solve_pnp
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair import load_pair_model
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.pair.opencv.features import PointFinder, follow_points
from st3r_ros.pair.opencv.model import OpenCVPairModel
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.types import Frame, PairPrediction

HOME = SE3.identity()
MOTIONS = {
    "sideways": SE3.exp(np.array([0.25, 0.0, 0.0, 0.0, 0.03, 0.0])),
    "vertical": SE3.exp(np.array([0.0, 0.2, 0.0, 0.02, 0.0, 0.0])),
    "oblique": SE3.exp(np.array([0.2, 0.1, 0.05, 0.02, 0.05, 0.05])),
    "forward": SE3.exp(np.array([0.0, 0.0, 0.3, 0.0, 0.0, 0.01])),
}
ROTATION = SE3.exp(np.array([0.0, 0.0, 0.0, 0.02, 0.1, 0.02]))


@pytest.fixture(scope="module")
def model() -> OpenCVPairModel:
    return OpenCVPairModel(OpenCVPairConfig())


@pytest.fixture(scope="module")
def predict(model, room):
    """Predictions of the view at home (image 0) with the view from T_0_1 (image 1); each pair once."""
    known: dict[int, PairPrediction] = {}

    def of(T_0_1: SE3) -> PairPrediction:
        if id(T_0_1) not in known:
            known[id(T_0_1)] = model.predict(model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1)))
        return known[id(T_0_1)]

    return of


def match_errors(prediction: PairPrediction, T_0_1: SE3, room) -> np.ndarray:
    """Pixels (N,) between each match in image 0 and where the true geometry puts its point of image 1."""
    pixels0, pixels1 = prediction.matches.pixels0.numpy(), prediction.matches.pixels1.numpy().astype(np.float64)
    column, row = np.rint(pixels1).astype(int).T
    points = T_0_1 @ room.camera.unproject(pixels1, room.depth(T_0_1)[row, column])
    return np.nan_to_num(np.linalg.norm(room.camera.project(points) - pixels0, axis=1), nan=1e3)


def depth_errors(X: torch.Tensor, conf: torch.Tensor, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Relative errors of the claimed depths after their best common scale, their confidences, and that scale."""
    z, known = X[..., 2].numpy(), (conf > 0).numpy()
    scale = float(np.median(truth[known] / z[known]))
    return np.abs(scale * z[known] / truth[known] - 1), conf.numpy()[known], scale


@pytest.mark.parametrize("motion", MOTIONS)
def test_matches_obey_the_truth(motion, predict, room):
    prediction = predict(MOTIONS[motion])
    error = match_errors(prediction, MOTIONS[motion], room)
    assert len(error) > 300 and prediction.matches.possible >= len(error)
    assert np.median(error) < 0.7 and np.mean(error < 3.0) > 0.95
    weight = prediction.matches.weight
    assert weight.shape == (len(error),) and bool(((weight > 0) & (weight <= 1)).all())


@pytest.mark.parametrize("motion", MOTIONS)
def test_depth_agrees_with_the_truth_up_to_scale(motion, predict, room):
    T_0_1, prediction = MOTIONS[motion], predict(MOTIONS[motion])
    error, _, scale = depth_errors(prediction.X_0_0, prediction.conf0, room.depth(HOME))
    assert len(error) > 0.6 * 320 * 240
    assert np.median(error) < 0.045
    # Without a given pose the baseline has length 1, so a unit of the pair is a baseline of the truth.
    assert scale == pytest.approx(np.linalg.norm(T_0_1.translation), rel=0.05)


@pytest.mark.parametrize("motion", MOTIONS)
def test_errors_fall_as_confidence_rises(motion, predict, room):
    prediction = predict(MOTIONS[motion])
    error, conf, _ = depth_errors(prediction.X_0_0, prediction.conf0, room.depth(HOME))
    sure = conf >= np.sort(conf)[len(conf) // 2]
    if sure.all():  # one confidence for almost everything, as interpolated depths have
        sure = conf > np.median(conf)
    assert error[sure].mean() < error[~sure].mean()


@pytest.mark.parametrize("motion", MOTIONS)
def test_confidence_tells_the_size_of_the_error(motion, model, predict, room):
    prediction = predict(MOTIONS[motion])
    error, conf, _ = depth_errors(prediction.X_0_0, prediction.conf0, room.depth(HOME))
    claimed = model.traits.relative_depth_sigma / np.sqrt(conf)
    assert np.mean(error < 3 * claimed) > 0.93


def test_pointmaps_lie_on_the_rays_of_their_images(predict, room):
    T_0_1, prediction = MOTIONS["sideways"], predict(MOTIONS["sideways"])
    known0, known1 = (prediction.conf0 > 0).numpy(), (prediction.conf1 > 0).numpy()
    pixels0 = room.camera.project(prediction.X_0_0.numpy()[known0])
    np.testing.assert_allclose(pixels0, np.argwhere(known0)[:, ::-1], atol=1e-2)
    # The second one is in the first camera's coordinates, so the true motion (up to scale) takes it onto its own pixels.
    length = np.linalg.norm(T_0_1.translation)
    in_camera1 = T_0_1.inverse() @ (length * prediction.X_0_1.numpy()[known1].astype(np.float64))
    off = np.linalg.norm(room.camera.project(in_camera1) - np.argwhere(known1)[:, ::-1], axis=1)
    assert np.median(off) < 2.0


def test_a_given_pose_sets_the_scale(model, room):
    T_0_1 = SE3.exp(np.array([0.6, 0.1, 0.0, 0.0, -0.15, 0.0]))
    features = model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1))
    prediction = model.predict(*features, T_0_1=T_0_1)
    error, _, scale = depth_errors(prediction.X_0_0, prediction.conf0, room.depth(HOME))
    assert np.median(error) < 0.05 and scale == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_given_pose_keeps_its_parallax_and_depth(motion, model, room):
    T_0_1 = MOTIONS[motion]
    prediction = model.predict(model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1)), T_0_1=T_0_1)
    assert prediction.parallax_deg > 1.5 and float((prediction.conf0 > 0).float().mean()) > 0.6


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_motion_between_two_images_is_found(motion, model, room):
    T_0_1 = MOTIONS[motion]
    features1 = model.encode(room.frame(T_0_1, 1))
    prediction = model.predict(model.encode(room.frame(HOME, 0)), features1)
    # Each point of image 1 lies on the ray of its pixel exactly, so points and pixels tell the pose that the model has found.
    known = prediction.conf1.numpy() > 0
    points, pixels = prediction.X_0_1.numpy()[known].astype(float), np.argwhere(known)[:, ::-1].astype(float)
    found = solve_pnp(points, pixels, features1.K, 1.0, 100).T_cam_points.inverse()
    truth = T_0_1.translation / np.linalg.norm(T_0_1.translation)
    assert np.rad2deg(np.arccos(min(1.0, found.translation @ truth))) < 1.0
    assert np.rad2deg(np.linalg.norm((found.inverse() @ T_0_1).log()[3:])) < 0.2


@pytest.mark.parametrize("x", [0.1, 0.2])
def test_a_clear_sideways_motion_is_no_rotation(x, model, room):
    moved = room.frame(SE3.exp(np.array([x, 0, 0, 0, 0, 0])), 1)
    assert model.predict(model.encode(room.frame(HOME, 0)), model.encode(moved), dense=False).parallax_deg > 0


def test_parallax_grows_with_the_baseline(model, room):
    features = model.encode(room.frame(HOME, 0))
    seen = [
        model.predict(features, model.encode(room.frame(SE3.exp(np.array([x, 0, 0, 0, 0, 0])), 1)), dense=False)
        for x in (0.3, 0.4, 0.5)
    ]
    assert 0 < seen[0].parallax_deg < seen[1].parallax_deg < seen[2].parallax_deg
    assert seen[0].X_0_0 is None and seen[0].conf0 is None and len(seen[0].matches) > 300


def test_a_seed_leads_to_the_same_geometry(model, predict, room):
    T_0_1 = MOTIONS["sideways"]
    features = model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1))
    prediction = model.predict(*features, seed=predict(T_0_1).matches, dense=False)
    assert len(prediction.matches) > 300 and np.median(match_errors(prediction, T_0_1, room)) < 1.0


def test_matches_that_the_caller_verifies_are_not_searched_for_a_geometry(model, predict, room):
    T_0_1 = MOTIONS["sideways"]
    features = model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1))
    plain = model.predict(*features, seed=predict(T_0_1).matches, dense=False, verified=False)
    assert np.isnan(plain.parallax_deg) and len(plain.matches) > 300
    assert np.mean(match_errors(plain, T_0_1, room) < 1.0) > 0.9
    # Without a seed, and where pointmaps are asked for, there is no geometry to verify them by.
    for found in (
        model.predict(*features, dense=False, verified=False),
        model.predict(*features, seed=predict(T_0_1).matches, verified=False),
    ):
        assert found.parallax_deg > 0


def test_adopted_points_are_the_ones_matched_afterwards(model, room):
    features = model.encode(room.frame(HOME, 0))
    wanted = torch.from_numpy(np.random.default_rng(0).uniform((40, 40), (280, 200), (80, 2)).astype(np.float32))
    model.adopt(features, wanted)
    prediction = model.predict(model.encode(room.frame(MOTIONS["sideways"].inverse(), 1)), features, dense=False)
    nearest = torch.cdist(wanted, prediction.matches.pixels1).amin(1)
    assert float((nearest < 0.01).float().mean()) > 0.5
    assert len(prediction.matches) > 200  # new corners between them


def test_corners_are_matched_where_optical_flow_does_not_find_the_way_by_itself(model, room):
    """Descriptors match other pixels, of which a keyframe knows no depth."""
    T_0_1 = SE3.exp(np.array([0.4, 0.0, 0.1, 0.0, 0.25, 0.0]))
    home, far = model.encode(room.frame(HOME, 0)), model.encode(room.frame(T_0_1, 1))
    PointFinder(600, 800).detect_corners(far)
    corners = far.points.copy()
    assert len(follow_points(home, far, None).pixels0) < 20
    prediction = model.predict(home, far, dense=False)
    nearest = torch.cdist(torch.from_numpy(corners), prediction.matches.pixels1).amin(1)
    assert int((nearest < 0.01).sum()) > 200
    assert np.mean(match_errors(prediction, T_0_1, room) < 3.0) > 0.85


def test_a_rotation_alone_has_matches_and_no_depth(predict, room):
    prediction = predict(ROTATION)
    assert prediction.parallax_deg == 0.0
    assert len(prediction.matches) > 300 and np.median(match_errors(prediction, ROTATION, room)) < 1.0
    assert not prediction.conf0.any() and not prediction.conf1.any()


def test_the_same_image_twice_has_no_depth(model, room):
    frame = room.frame(HOME, 0)
    prediction = model.predict(model.encode(frame), model.encode(frame))
    assert prediction.parallax_deg == 0.0
    assert not prediction.conf0.any() and not prediction.conf1.any()


def test_views_without_overlap_have_few_matches(model, predict, room):
    behind = SE3.exp(np.array([0, 0, 0, 0, np.pi, 0]))
    prediction = model.predict(model.encode(room.frame(HOME, 0)), model.encode(room.frame(behind, 1)))
    assert len(prediction.matches) < 0.1 * len(predict(MOTIONS["sideways"]).matches)


def test_noise_matches_nothing(model, room):
    frame = room.frame(HOME, 0)
    noise = np.random.default_rng(0).integers(0, 256, frame.image.shape).astype(np.uint8)
    prediction = model.predict(model.encode(frame), model.encode(dataclasses.replace(frame, image=noise)))
    assert len(prediction.matches) < 30


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("blank_first", [True, False])
def test_a_blank_image_has_no_matches(grey, blank_first, model, room):
    frame = room.frame(HOME, 0)
    blank = dataclasses.replace(frame, image=np.full_like(frame.image, grey))
    pair = (blank, frame) if blank_first else (frame, blank)
    prediction = model.predict(*(model.encode(f) for f in pair))
    assert len(prediction.matches) == 0 and prediction.parallax_deg == 0.0
    assert prediction.X_0_0.shape == prediction.X_0_1.shape == (240, 320, 3)
    assert not prediction.conf0.any() and not prediction.conf1.any()


def test_large_images_are_worked_on_at_the_size_asked_for(room):
    model = OpenCVPairModel(OpenCVPairConfig(image_size=160))
    features = model.encode(room.frame(HOME, 0))
    assert features.image.shape == (120, 160, 3) and features.K_known
    np.testing.assert_allclose(features.K, room.camera.scaled(160, 120).K)
    assert OpenCVPairModel(OpenCVPairConfig(image_size=4096)).encode(room.frame(HOME, 0)).image.shape == (240, 320, 3)


def test_without_calibration_a_field_of_view_is_assumed_which_the_traits_tell(room, caplog):
    model, frame = OpenCVPairModel(OpenCVPairConfig()), room.frame(HOME, 0)
    assert model.traits.uncalibrated == "a horizontal field of view of 60 degrees is assumed"
    assert OpenCVPairModel(OpenCVPairConfig(assumed_fov_deg=75.0)).traits.assumed_fov_deg == 75.0
    uncalibrated = Frame(frame.id, frame.stamp_ns, frame.image)
    with caplog.at_level(logging.WARNING):
        features = [model.encode(uncalibrated) for _ in range(3)].pop()
    assert not caplog.records  # whoever knows which images these are says it
    assert not features.K_known
    assert 2 * np.rad2deg(np.arctan(160 / features.K[0, 0])) == pytest.approx(60.0)
    assert features.K[0, 0] == features.K[1, 1] and features.K[:2, 2].tolist() == [159.5, 119.5]


def test_images_of_different_sizes_are_a_pair_too():
    sequence = SimulatedSequence(SimulationConfig(seed=3, frames=30))
    frames = list(sequence)
    first, second = frames[0], frames[12]
    K = np.array(second.camera.K)
    K[:2, 2] -= (100, 40)
    cropped = dataclasses.replace(second, image=np.ascontiguousarray(second.image[40:440, 100:500]), camera=Camera(400, 400, K))
    pair_model = load_pair_model("opencv")
    for one, other in ((first, cropped), (cropped, first)):
        prediction = pair_model.predict(pair_model.encode(one), pair_model.encode(other))
        assert len(prediction.matches) > 100
        assert prediction.X_0_0.shape == one.image.shape and prediction.X_0_1.shape == other.image.shape
    relocalizer = Relocalizer(pair_model)
    relocalizer.set_reference("whole", first)
    result = relocalizer.localize(cropped)
    T_true = sequence.T_world_cam[0].inverse() @ sequence.T_world_cam[12]
    assert result.localized and np.degrees(np.linalg.norm((result.T_ref_cam.inverse() @ T_true).log()[3:])) < 0.5
