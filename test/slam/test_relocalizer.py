# SPDX-License-Identifier: Apache-2.0
"""Queries against references and maps, in a hall and its twin that are seen exactly."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hall import Halls, depth_of, look

from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import TrueView
from st3r_ros.config import RelocalizerConfig, SimulationConfig
from st3r_ros.errors import FrameError
from st3r_ros.eval.relocalization import pose_error
from st3r_ros.geometry import so3
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair import load_pair_model
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.mapper import Mapper
from st3r_ros.slam.places import relocalizer as relocalizing
from st3r_ros.slam.places.reference import measured_keyframe
from st3r_ros.slam.places.relocalizer import Relocalizer
from st3r_ros.types import Frame, Keyframe, LocalizationResult, LocalizationStatus

CAMERA = Camera.from_fov(256, 192, 70.0)
POSES = [
    look(-1.5, -3.0, 0.0),
    look(-1.2, -2.6, 6.0),
    look(-1.5, -3.0, 180.0),
    look(-1.5, -3.0, 0.0, room=1),
    look(-1.3, -2.8, 3.0, room=1),
]
HERE, NEAR, AWAY, TWIN, NEAR_TWIN = range(5)


def frame(number: int, camera: Camera | None = CAMERA) -> Frame:
    return Frame(number, number * 1_000_000, np.full((192, 256, 3), 40 * number, np.uint8), camera)


def model(seed: int = 0, twins: Halls | None = None) -> NoisyDepthModel:
    def view(frame: Frame) -> TrueView:
        return TrueView(depth_of(POSES[frame.id], CAMERA), CAMERA.K, POSES[frame.id])

    return NoisyDepthModel(view, seed=seed, twins=twins)


def errors(result: LocalizationResult, T_true: SE3) -> tuple[float, float]:
    """Metres and degrees."""
    T = result.T_ref_cam
    assert T is not None
    turn = np.linalg.norm(so3.log(T.rotation @ T_true.rotation.T))
    return float(np.linalg.norm(T.translation - T_true.translation)), float(np.degrees(turn))


def test_without_a_reference_it_says_so():
    result = Relocalizer(model()).localize(frame(HERE))
    assert result.status is LocalizationStatus.NO_REFERENCE and result.T_ref_cam is None and "reference" in result.reason


@pytest.mark.parametrize("seed", range(4))
def test_a_query_is_found_in_the_frame_of_the_reference(seed):
    relocalizer = Relocalizer(model(seed))
    T_ref_cam = look(1.0, 2.0, 30.0)
    relocalizer.set_reference("dock", frame(HERE), T_ref_cam=T_ref_cam)
    result = relocalizer.localize(frame(NEAR))
    assert result.status is LocalizationStatus.LOCALIZED and result.metric and not result.directional
    assert result.reference == "dock" and 0.8 < result.inlier_ratio < 1.0 and result.rmse_px < 2.0
    T_true = T_ref_cam @ POSES[HERE].inverse() @ POSES[NEAR]
    moved, turned = errors(result, T_true)
    assert moved < 0.12 and turned < 1.0
    assert np.linalg.eigvalsh(result.covariance)[0] > 0
    sigma = np.sqrt(np.diag(result.covariance))
    assert (np.abs(result.T_ref_cam.translation - T_true.translation) < 4 * sigma[:3]).all()


def test_a_result_has_the_images_that_its_pixels_are_in():
    relocalizer = Relocalizer(model())
    relocalizer.set_reference("dock", frame(HERE))
    result = relocalizer.localize(frame(NEAR))
    assert np.array_equal(result.query_image, frame(NEAR).image) and np.array_equal(result.reference_image, frame(HERE).image)


def test_what_the_reference_does_not_show_is_refused():
    for seed in range(5):
        relocalizer = Relocalizer(model(seed))
        relocalizer.set_reference("dock", frame(HERE))
        result = relocalizer.localize(frame(AWAY))
        assert result.status is LocalizationStatus.TOO_FEW_MATCHES and result.T_ref_cam is None


def test_measured_depth_gives_metres_and_no_error_of_the_unit():
    relocalizer = Relocalizer(model())
    relocalizer.set_reference("dock", frame(HERE), depth=depth_of(POSES[HERE], CAMERA))
    result = relocalizer.localize(frame(NEAR))
    moved, turned = errors(result, POSES[HERE].inverse() @ POSES[NEAR])
    assert result.metric and moved < 0.02 and turned < 0.3


def test_two_places_that_look_alike_are_ambiguous():
    twins = Halls()
    relocalizer = Relocalizer(model(twins=twins))
    relocalizer.set_reference("hall", frame(HERE), T_ref_cam=POSES[HERE])
    relocalizer.set_reference("twin", frame(TWIN), T_ref_cam=POSES[TWIN])
    for query in (NEAR, NEAR_TWIN):
        result = relocalizer.localize(frame(query))
        assert result.status is LocalizationStatus.AMBIGUOUS and result.T_ref_cam is None


def test_a_guess_decides_between_two_places_that_look_alike():
    pair_model = model(twins=Halls())
    both = KeyframeMap()
    for keyframe_id, n in enumerate((HERE, TWIN)):
        both.add_keyframe(exact_keyframe(keyframe_id, n, pair_model))
    relocalizer = Relocalizer(pair_model)
    relocalizer.use_map(both)
    for query, keyframe_id in ((NEAR, 0), (NEAR_TWIN, 1)):
        assert relocalizer.localize(frame(query)).status is LocalizationStatus.AMBIGUOUS
        about = POSES[query] @ SE3.exp(np.array([0.3, 0.0, -0.3, 0.0, 0.15, 0.0]))
        result = relocalizer.localize(frame(query), guess=about)
        assert result.localized and result.keyframe_id == keyframe_id and errors(result, POSES[query])[0] < 0.12
        nowhere = SE3(np.eye(3), np.array([0.0, 0.0, 300.0]))
        assert relocalizer.localize(frame(query), guess=nowhere).status is LocalizationStatus.AMBIGUOUS


def exact_keyframe(keyframe_id: int, n: int, pair_model: NoisyDepthModel) -> Keyframe:
    depth = depth_of(POSES[n], CAMERA)
    pixels = np.stack(np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height)), axis=-1)
    X = torch.from_numpy((CAMERA.unproject(pixels) * depth[..., None]).astype(np.float32))
    features = pair_model.encode(frame(n))
    return Keyframe(
        id=keyframe_id,
        frame_id=n,
        stamp_ns=n,
        T_world_cam=POSES[n].sim3(1.0),
        X=X,
        conf=torch.ones(X.shape[:2]),
        image=features.image,
        K=features.K,
        features=features,
    )


def test_references_that_agree_are_better_than_one():
    both, one = Relocalizer(model()), Relocalizer(model())
    for relocalizer, names in ((both, (HERE, NEAR)), (one, (HERE,))):
        for n in names:
            relocalizer.set_reference(str(n), frame(n), T_ref_cam=POSES[n], depth=depth_of(POSES[n], CAMERA))
    query = frame(NEAR)
    together, alone = both.localize(query), one.localize(query)
    assert np.trace(together.covariance) < np.trace(alone.covariance)
    assert both.references == ("0", "1")
    both.remove_reference("0")
    both.remove_reference("never there")
    assert both.references == ("1",)


def test_an_unknown_focal_length_is_estimated():
    pair_model = model()
    relocalizer = Relocalizer(pair_model)
    relocalizer.set_reference("dock", frame(HERE), depth=depth_of(POSES[HERE], CAMERA))
    uncalibrated = dataclasses.replace(frame(NEAR), camera=None)
    pair_model.calibrated = False
    result = relocalizer.localize(uncalibrated)
    assert result.localized and result.focal_estimated and "camera is assumed" in result.reason
    assert result.focal_px == pytest.approx(CAMERA.K[0, 0], rel=0.05)


@pytest.fixture(scope="module")
def room() -> SimulatedSequence:
    return SimulatedSequence(SimulationConfig(seed=3, frames=24, fps=5.0, width=320, height=240))


def with_focal(frame: Frame, factor: float | None) -> Frame:
    """The frame with a calibration that is wrong by a factor, None for no calibration."""
    if factor is None:
        return dataclasses.replace(frame, camera=None)
    K = frame.camera.K * np.array([[factor, 1.0, 1.0], [1.0, factor, 1.0], [1.0, 1.0, 1.0]])
    return dataclasses.replace(frame, camera=dataclasses.replace(frame.camera, K=K))


def in_sigmas(result: LocalizationResult, T_true: SE3) -> float:
    return pose_error(result.T_ref_cam, T_true, metric=result.metric, covariance=result.covariance).sigmas


QUERIES = (11, 13, 15, 16, 17, 18)


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("factor", [None, 1.0, 0.7, 1.3])
def test_errors_are_as_large_as_is_said_and_a_wrong_calibration_is_told(room, factor, depth):
    relocalizer = Relocalizer(load_pair_model("opencv"))
    reference = room.frame(14)
    if depth:
        relocalizer.set_reference("dock", reference, depth=room.depth.depth(14))
    else:
        relocalizer.set_reference("dock", with_focal(reference, factor))
    for n in QUERIES:
        result = relocalizer.localize(with_focal(room.frame(n), factor))
        assert factor is not None or (result.localized and result.focal_estimated)
        if result.localized:
            assert in_sigmas(result, room.T_world_cam[14].inverse() @ room.T_world_cam[n]) < 5.0
        assert ("assumed" in result.reason) == (factor is None)
    if factor in (None, 1.0):
        assert relocalizer.doubt is None and result.doubt == "" and result.localized
    else:
        assert relocalizer.doubt.factor == pytest.approx(1 / factor, rel=0.05)
        assert result.doubt in result.reason and f"instead of {factor * room.camera.K[0, 0]:.0f} px" in result.doubt


@pytest.mark.parametrize("zoom", [1.5, 1.25])
def test_enlarged_images_under_the_reference_s_own_calibration_are_told(room, zoom):
    """Of the two, which have one K, only the query's is wrong."""
    relocalizer = Relocalizer(load_pair_model("opencv"))
    relocalizer.set_reference("dock", room.frame(14), depth=room.depth.depth(14))
    for n in (11, 13, 15, 17):
        frame = room.frame(n)
        h, w = frame.image.shape[:2]
        top, left = round(h * (1 - 1 / zoom) / 2), round(w * (1 - 1 / zoom) / 2)
        part = cv2.resize(frame.image[top : h - top, left : w - left], (w, h), interpolation=cv2.INTER_CUBIC)
        result = relocalizer.localize(dataclasses.replace(frame, image=part))
        assert not result.localized or in_sigmas(result, room.T_world_cam[14].inverse() @ room.T_world_cam[n]) < 5.0
    assert relocalizer.doubt.factor == pytest.approx(zoom, rel=0.05) and relocalizer.doubt.alone


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"min_inliers": 10000}, LocalizationStatus.TOO_FEW_MATCHES),
        ({"min_inlier_ratio": 1.0}, LocalizationStatus.TOO_FEW_MATCHES),
        ({"min_spread": 0.5}, LocalizationStatus.UNCERTAIN),
        ({"max_rmse_px": 0.1}, LocalizationStatus.UNCERTAIN),
        ({"max_position_sigma": 0.001}, LocalizationStatus.UNCERTAIN),
        ({"max_rotation_sigma_deg": 0.01}, LocalizationStatus.UNCERTAIN),
    ],
)
def test_every_gate_refuses_with_a_reason(changes, status):
    relocalizer = Relocalizer(model(), RelocalizerConfig(**changes))
    relocalizer.set_reference("dock", frame(HERE))
    result = relocalizer.localize(frame(NEAR))
    assert result.status is status and result.T_ref_cam is None and result.covariance is None and len(result.reason) > 20


def test_a_depth_is_of_the_image_as_the_lens_shows_it(monkeypatch):
    lens = Camera(256, 192, CAMERA.K, "plumb_bob", np.array([-0.25, 0.05, 0.0, 0.0, 0.0]))
    normal = np.array([0.6, 0.0, 0.8])  # a slanted wall, 2 m away: depth is 2 / (ray . normal)
    depths = [2.0 / (c.unproject(pixel_grid(256, 192)) @ normal) for c in (lens, lens.without_distortion())]
    made = []
    monkeypatch.setattr(relocalizing, "measured_keyframe", lambda *of: made.append(measured_keyframe(*of)) or made[-1])
    relocalizer = Relocalizer(model())
    relocalizer.set_reference("dock", frame(HERE, lens), depth=depths[0].astype(np.float32))
    seen = made[-1].X[..., 2].numpy()
    np.testing.assert_allclose(seen[10:-10, 10:-10], depths[1][10:-10, 10:-10], rtol=0.03)


def test_a_depth_that_does_not_fit_is_an_error():
    relocalizer = Relocalizer(model())
    with pytest.raises(FrameError, match="10x20"):
        relocalizer.set_reference("dock", frame(HERE), depth=np.ones((20, 10)))
    with pytest.raises(FrameError, match="calibration"):
        relocalizer.set_reference("dock", frame(HERE, camera=None), depth=np.ones((192, 256)))
    with pytest.raises(FrameError, match="uint8"):
        relocalizer.set_reference("dock", Frame(0, 0, np.zeros((192, 256), np.uint8)))
    assert relocalizer.references == ()


def test_in_a_saved_map_and_with_a_direction_only():
    sequence = SimulatedSequence(SimulationConfig(seed=2, frames=120, width=320, height=240))
    mapper = Mapper(load_pair_model("opencv"))
    for n in range(0, 84, 3):
        mapper.register_frame(sequence.frame(n))
    relocalizer = Relocalizer(load_pair_model("opencv"))
    relocalizer.use_map(mapper.map)
    trajectory = mapper.map.trajectory()
    for n in (22, 52, 76):
        result = relocalizer.localize(sequence.frame(n))
        assert result.localized and not result.metric and result.reference.startswith("keyframe")
        around = trajectory.positions[np.abs(trajectory.stamps_ns - sequence.frame(n).stamp_ns).argsort()[:2]]
        assert np.linalg.norm(result.T_ref_cam.translation - around.mean(0)) < 0.05
        guessed = relocalizer.localize(sequence.frame(n), guess=result.T_ref_cam)
        assert guessed.localized
    relocalizer.use_map(None)
    relocalizer.set_reference("dock", sequence.frame(30))
    result = relocalizer.localize(sequence.frame(40))
    T_true = sequence.T_world_cam[30].inverse() @ sequence.T_world_cam[40]
    assert result.localized and result.directional and np.linalg.norm(result.T_ref_cam.translation) == pytest.approx(1.0)
    cosine = result.T_ref_cam.translation @ T_true.translation / np.linalg.norm(T_true.translation)
    assert np.degrees(np.arccos(cosine)) < 5.0
    assert np.degrees(np.linalg.norm(so3.log(result.T_ref_cam.rotation @ T_true.rotation.T))) < 1.0
