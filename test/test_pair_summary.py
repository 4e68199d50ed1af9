# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from st3r_ros.commands.pair_summary import align, find_pose, summarise, summary_lines
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.reconstruction import ReconstructedImage, Reconstruction
from st3r_ros.types import Matches, ModelTraits

CAMERA = Camera.from_fov(128, 96, 60.0)
T_0_1 = SE3.exp(np.array([0.4, 0.05, 0.1, 0.02, -0.1, 0.03]))
RATIO = 1.25
MODEL = SimpleNamespace(name="mast3r", traits=ModelTraits(metric=True, monocular_depth=True, relative_depth_sigma=0.1))


def seen(seed: int, T_0_cam: SE3, scale: float = 1.0) -> ReconstructedImage:
    """An image of a bumpy wall; its own pointmap is `scale` times as large as the one in camera 0's coordinates."""
    depth = 3.0 + 0.5 * np.random.default_rng(seed).random((96, 128))
    X_own = CAMERA.unproject(pixel_grid(128, 96), depth)
    conf = np.full((96, 128), 2.0, np.float32)
    original = Camera(256, 192, CAMERA.scaled(256, 192).K).K
    return ReconstructedImage(
        image=np.full((96, 128, 3), 99, np.uint8),
        X_0=(T_0_cam @ X_own).astype(np.float32),
        conf=conf,
        X_own=(scale * X_own).astype(np.float32),
        conf_own=conf + 1.0,
        K=CAMERA.K,
        K_original=original,
    )


FIRST, SECOND = seen(0, SE3.identity()), seen(1, T_0_1, 1.0 / RATIO)


def true_matches(count: int = 300) -> Matches:
    """Pixels of image 0 and, between pixels, where image 1 sees their points."""
    pixels0 = np.random.default_rng(0).integers(20, 76, (count, 2)).astype(np.float64)
    points0 = FIRST.X_0[pixels0[:, 1].astype(int), pixels0[:, 0].astype(int)].astype(np.float64)
    pixels1 = CAMERA.project(T_0_1.inverse() @ points0)
    return Matches(torch.from_numpy(pixels0), torch.from_numpy(pixels1), torch.ones(count))


def found(matches: Matches | None) -> Reconstruction:
    return Reconstruction((FIRST,) if matches is None else (FIRST, SECOND), matches, "pointmap")


def summary_of(matches: Matches | None):
    images = 1 if matches is None else 2
    return summarise(
        found(matches),
        MODEL,
        paths=["a.jpg", "b.jpg"][:images],
        sizes=[(256, 192)] * images,
        checkpoint="weights.pth",
        timings_ms={"load": 12.34567},
        files=["summary.json"],
    )


def test_the_pose_is_that_of_the_camera_that_sees_the_matches():
    pose, note = find_pose(FIRST, SECOND, true_matches())
    assert note == "" and pose.inlier_share == 1.0
    np.testing.assert_allclose(pose.T_0_1.as_matrix(), T_0_1.as_matrix(), atol=2e-3)


def test_the_alignment_finds_the_pose_and_the_ratio_of_the_scales():
    pose = align(SECOND)
    np.testing.assert_allclose(pose.T_0_1.as_matrix(), T_0_1.as_matrix(), atol=1e-4)
    assert pose.scale_ratio == pytest.approx(RATIO, rel=1e-4)


def test_points_that_nobody_claims_do_not_count():
    matches, conf, X_0 = true_matches(), FIRST.conf.copy(), FIRST.X_0.copy()
    conf[:40], X_0[:40] = 0.0, 1.0
    pose, _ = find_pose(replace(FIRST, conf=conf, X_0=X_0), SECOND, matches)
    np.testing.assert_array_equal(pose.inliers, matches.pixels0[:, 1].numpy() >= 40)
    wrong = replace(SECOND, X_own=np.where(conf[..., None] > 0, SECOND.X_own, 7.0), conf_own=conf)
    np.testing.assert_allclose(align(wrong).T_0_1.as_matrix(), T_0_1.as_matrix(), atol=1e-4)


def test_without_a_pose_a_sentence_says_why():
    pose, note = find_pose(FIRST, replace(SECOND, K=np.full((3, 3), np.nan)), true_matches())
    assert pose is None and "no focal length" in note
    pose, note = find_pose(FIRST, SECOND, true_matches(4))
    assert pose is None and "of the 4 matches" in note


def test_a_summary_holds_the_numbers_and_is_plain_json():
    summary = summary_of(true_matches())
    assert json.loads(json.dumps(asdict(summary), allow_nan=False))["images"][1]["path"] == "b.jpg"
    first, second = summary.images
    assert first.focal == pytest.approx(CAMERA.K[0, 0]) and first.focal_original == pytest.approx(2.0 * CAMERA.K[0, 0])
    assert first.size == (256, 192) and first.working_size == (128, 96)
    assert second.depth["0.5"] == pytest.approx(np.median(SECOND.X_own[..., 2])) and second.confidence["0.95"] == 3.0
    np.testing.assert_allclose(summary.pose.T_0_1, T_0_1.as_matrix(), atol=2e-3)
    assert summary.pose.translation == pytest.approx(np.linalg.norm(T_0_1.translation), abs=2e-3)
    assert summary.timings_ms == {"load": 12.346} and summary.matches == 300 and summary.unit == "m"


def test_the_text_says_what_matters():
    text = "\n".join(summary_lines(summary_of(true_matches())))
    for words in ("a.jpg, 256x192 processed at 128x96", "Matches: 300.", "by PnP", "100%", "Scale ratio 1.250", "load 12 ms"):
        assert words in text


def test_one_image_alone_has_no_pose():
    summary = summary_of(None)
    assert len(summary.images) == 1
    assert (summary.matches, summary.pose, summary.alignment, summary.pose_note) == (None, None, None, "")
    assert "Matches" not in "\n".join(summary_lines(summary))


def test_an_image_without_depth_or_focal_length_says_so():
    nothing = replace(FIRST, conf=np.zeros_like(FIRST.conf), conf_own=np.zeros_like(FIRST.conf), K=np.full((3, 3), np.nan))
    empty = replace(nothing, K_original=nothing.K)
    summary = summarise(
        replace(found(None), images=(empty,)), MODEL, paths=["a.jpg"], sizes=[(256, 192)], checkpoint="", timings_ms={}, files=[]
    )
    image = summary.images[0]
    assert (image.focal, image.claimed, image.depth, image.confidence) == (None, 0.0, {}, {})
    assert "gives no focal length; no depth." in "\n".join(summary_lines(summary))
