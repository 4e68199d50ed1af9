# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import ConfigError
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3
from st3r_ros.sim.sequence import SimulatedSequence

CONFIG = SimulationConfig(seed=2, frames=40, noise=0.0)


@pytest.fixture(scope="module")
def sequence():
    return SimulatedSequence(CONFIG)


def variant(sequence: SimulatedSequence, selected: range | None = None, **changes) -> SimulatedSequence:
    """The same world, so the same renderer, with other settings of the images."""
    settings = {"seed": CONFIG.seed, "frames": CONFIG.frames, "noise": CONFIG.noise, **changes}
    other = SimulatedSequence(SimulationConfig(**settings), selected)
    vars(other)["renderer"] = sequence.renderer
    return other


def test_frames_have_exact_stamps_poses_and_camera(sequence):
    frame = next(iter(sequence))
    assert (frame.id, frame.stamp_ns, frame.image.shape, frame.image.dtype) == (0, 0, (480, 640, 3), np.uint8)
    assert frame.camera == sequence.camera and not sequence.camera.has_distortion
    assert sequence.length == len(sequence.truth) == len(sequence.depth) == 40 and sequence.kind == "sim"
    assert sequence.truth.stamps_ns.tolist() == [round(i * 1e9 / 15) for i in range(40)]
    poses = SE3.from_quaternion_xyzw(sequence.truth.quaternions_xyzw, sequence.truth.positions)
    np.testing.assert_allclose(poses.as_matrix(), sequence.T_world_cam.as_matrix(), atol=1e-9)


def test_images_depth_and_poses_agree(sequence):
    """A pixel of one image, lifted by its depth and moved by the poses, has the same colour in another image."""
    for i, j in ((0, 6), (6, 0), (10, 25)):
        depth, other_depth = sequence.depth.depth(i), sequence.depth.depth(j)
        T_j_i = sequence.T_world_cam[j].inverse() @ sequence.T_world_cam[i]
        points = T_j_i @ sequence.camera.unproject(pixel_grid(640, 480), depth)
        pixels = sequence.camera.project(points).astype(np.float32)
        x, y = np.nan_to_num(pixels[..., 0], nan=-9), np.nan_to_num(pixels[..., 1], nan=-9)
        seen = cv2.remap(other_depth, x, y, cv2.INTER_NEAREST)
        visible = (seen > 0) & (np.abs(points[..., 2] - seen) < 0.02)
        assert visible.mean() > 0.5
        warped = cv2.remap(sequence.frame(j).image, x, y, cv2.INTER_LINEAR)
        difference = np.abs(warped.astype(int) - sequence.frame(i).image)[visible]
        assert np.median(difference) <= 3 and difference.mean() < 7
        shifted = np.abs(np.roll(warped, 2, axis=1).astype(int) - sequence.frame(i).image)[visible]
        assert shifted.mean() > 1.5 * difference.mean()  # two pixels off would be noticed


def test_views_are_full_of_corners(sequence):
    sift = cv2.SIFT_create()
    for index in range(0, 40, 8):
        grey = cv2.cvtColor(sequence.frame(index).image, cv2.COLOR_RGB2GRAY)
        assert len(sift.detect(grey, None)) > 500


def test_the_same_settings_give_the_same_pixels(sequence):
    again = SimulatedSequence(CONFIG)
    np.testing.assert_array_equal(again.frame(3).image, sequence.frame(3).image)
    np.testing.assert_array_equal(again.depth.depth(3), sequence.depth.depth(3))


def test_noise_is_new_in_every_image_and_of_the_asked_strength(sequence):
    noisy = variant(sequence, noise=4.0)
    residuals = [noisy.frame(i).image.astype(float) - sequence.frame(i).image for i in (5, 6)]
    inner = (sequence.frame(5).image > 30) & (sequence.frame(5).image < 225)
    assert abs(residuals[0][inner].std() - 4.0) < 0.2 and abs(residuals[0][inner].mean()) < 0.1
    assert abs(np.corrcoef(residuals[0].ravel(), residuals[1].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(noisy.frame(5).image, variant(sequence, noise=4.0).frame(5).image)


def test_exposure_rises_and_falls_slowly(sequence):
    exposed = variant(sequence, exposure=0.3)
    ratios = np.array([exposed.frame(i).image.mean() / sequence.frame(i).image.mean() for i in range(0, 40, 6)])
    assert np.ptp(ratios) > 0.15 and np.abs(np.diff(ratios)).max() < 0.3 and 0.65 < ratios.min() < ratios.max() < 1.35


def test_selected_frames_are_numbered_anew_and_keep_their_time(sequence):
    some = variant(sequence, selected=range(4, 20, 5), noise=2.0)
    frames = list(some)
    assert [frame.id for frame in frames] == [0, 1, 2, 3] and some.length == 4
    assert [frame.stamp_ns for frame in frames] == sequence.truth.stamps_ns[4:20:5].tolist()
    np.testing.assert_array_equal(frames[1].image, variant(sequence, noise=2.0).frame(9).image)
    np.testing.assert_array_equal(some.depth.depth(1), sequence.depth.depth(9))


def test_settings_out_of_range_are_refused():
    for wrong in ({"world": "attic"}, {"frames": 0}, {"noise": -1.0}, {"fov_deg": 180.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SimulationConfig(**wrong)
