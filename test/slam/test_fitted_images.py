# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from one_keyframe import map_of, masked_frame

from st3r_ros.errors import MapFileError
from st3r_ros.pair import load_pair_model
from st3r_ros.slam.tracking.fitted_images import FittedImages, resized


@pytest.fixture
def frame(room):
    return masked_frame(room)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_every_mode_of_the_camera_is_encoded_at_the_size_of_the_keyframes(room, frame, factor):
    size = room.camera.width, room.camera.height
    images = FittedImages(load_pair_model("opencv"), map_of(room.camera))
    other = resized(frame, round(factor * size[0]), round(factor * size[1]))
    for _ in range(2):
        features = images.encoded(other)
        assert features.image.shape[1::-1] == size and features.mask.shape[::-1] == size
        np.testing.assert_allclose(features.K, room.camera.K, rtol=0.01, atol=0.6)


@pytest.mark.parametrize("known", [True, False])
def test_the_focal_length_that_a_map_has_found_is_that_of_further_images_without_calibration(room, frame, known):
    bare = dataclasses.replace(frame, camera=None)
    model = load_pair_model("opencv")
    features = FittedImages(model, map_of(room.camera, known=known)).encoded(bare)
    np.testing.assert_array_equal(features.K, model.encode(bare).K if known else room.camera.K)
    assert not features.K_known
    np.testing.assert_array_equal(FittedImages(model, map_of(room.camera, known=False)).encoded(frame).K, model.encode(frame).K)


def test_images_that_were_turned_are_to_be_turned_back(room, frame):
    images = FittedImages(load_pair_model("opencv"), map_of(room.camera))
    upright = dataclasses.replace(frame, image=np.ascontiguousarray(frame.image.swapaxes(0, 1)), camera=None, mask=None)
    with pytest.raises(MapFileError, match="turn them, or begin a new map"):
        images.encoded(upright)


def test_another_shape_is_refused_and_leaves_nothing_behind(room, frame):
    size = room.camera.width, room.camera.height
    images = FittedImages(load_pair_model("opencv"), map_of(room.camera))
    flat = resized(frame, size[0], size[1] // 2)
    for _ in range(2):
        with pytest.raises(
            MapFileError, match=f"keyframes of {size[0]}x{size[1]} pixels, but the images are {size[0]}x{size[1] // 2}"
        ):
            images.encoded(flat)
    assert images.encoded(frame).image.shape[1::-1] == size
    assert FittedImages(load_pair_model("opencv")).encoded(flat).image.shape[1::-1] == (size[0], size[1] // 2)
