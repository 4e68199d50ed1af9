# SPDX-License-Identifier: Apache-2.0
"""Which frames of a sequence have a true view, and what it is."""

from __future__ import annotations

import numpy as np
import pytest
from hall import CAMERA, depth_of, look, recorded

from noisy_depth.correspondence import correspond
from noisy_depth.views import DepthFrames, TrueViews
from st3r_ros.errors import FrameError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.sequences import open_sequence
from st3r_ros.types import Frame


def test_frames_without_depth_are_left_out():
    sequence = recorded()
    views = TrueViews(sequence, 512)
    frames = list(DepthFrames(sequence, views, calibrated=False))
    assert [f.id for f in frames] == [0, 1] and [f.stamp_ns for f in frames] == [0, 200_000_000]
    assert frames[1].image[0, 0, 0] == 2 and frames[0].camera is None
    np.testing.assert_allclose(views.of(frames[1]).T_world_cam.translation, [-1.8, 0.0, -3.5])
    with pytest.raises(FrameError, match="no depth image"):
        views.of(Frame(1, 100_000_000, frames[0].image))


def test_depth_of_another_camera_is_resampled_to_the_working_image():
    sequence = recorded(Camera.from_fov(400, 300, 70.0))
    views = TrueViews(sequence, 48)
    frame = next(iter(DepthFrames(sequence, views)))
    small = CAMERA.scaled(48, 36)
    expected = depth_of(look(-2.0, -3.5, 0.0), small)
    got = views.of(frame)
    np.testing.assert_allclose(got.K, small.K)
    assert np.mean(np.abs(got.depth / expected - 1.0) < 0.01) > 0.97


@pytest.mark.parametrize("missing", ["depth", "truth", "camera"])
def test_a_sequence_without_truth_is_refused(missing):
    with pytest.raises(InputError, match=f"'hall' has no {missing}"):
        TrueViews(recorded(**{missing: None}), 512)


def test_a_kidnapped_camera_sees_nothing_but_is_not_left_out():
    sequence = open_sequence("sim:room?seed=1&frames=90&width=96&height=72&kidnap=white")
    views = TrueViews(sequence, 96)
    frames = list(DepthFrames(sequence, views))
    assert [frame.id for frame in frames] == list(range(90)) == list(range(len(sequence.stamps_ns)))
    seen = np.array([views.of(frame).depth.max() > 0 for frame in frames])
    assert (seen == (sequence.shown >= 0)).all() and 0 < np.count_nonzero(~seen) < 60
    assert frames[0].image.std() > 5.0  # a shading of the depth


def test_simulated_twin_rooms_are_the_twins_of_the_pair_model():
    sequence = open_sequence("sim:twins?seed=1&frames=60&width=96&height=72")
    views = TrueViews(sequence, 96)
    first, *others = (views.of(frame) for frame in DepthFrames(sequence, views))
    found = max((correspond(first, other, sequence.twins) for other in others[40:]), key=lambda found: found.overlap)
    assert found.fooled and found.overlap > 0.8
    assert max(correspond(first, other).overlap for other in others[40:]) < 0.05
