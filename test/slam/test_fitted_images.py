# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import torch

from st3r_ros.errors import MapFileError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.pair import load_pair_model
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.tracking.fitted_images import FittedImages, resized
from st3r_ros.types import Keyframe

LENS = Camera(1280, 960, np.array([[900.0, 0, 650], [0, 910, 470], [0, 0, 1]]), "plumb_bob", np.array([-0.3, 0.1, 0, 0]))


@pytest.fixture
def frame(room):
    h, w = room.camera.height, room.camera.width
    mask = np.ones((h, w), bool)
    mask[: h // 4] = False
    return dataclasses.replace(room.frame(room.home.inverse() @ room.home), mask=mask)


def map_of(camera: Camera, *, known: bool = True, lens: Camera | None = None) -> KeyframeMap:
    """A map of one keyframe."""
    h, w = camera.height, camera.width
    image, X, conf = np.zeros((h, w, 3), np.uint8), torch.zeros(h, w, 3), torch.zeros(h, w)
    made = KeyframeMap()
    made.add_keyframe(Keyframe(0, 0, 0, Sim3.identity(), X, conf, image, camera.K, K_known=known, lens=lens))
    return made


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
def test_every_mode_of_the_camera_is_encoded_at_the_size_of_the_keyframes(room, frame, factor):
    size = room.camera.width, room.camera.height
    images = FittedImages(load_pair_model("opencv"), map_of(room.camera))
    other = resized(frame, round(factor * size[0]), round(factor * size[1]))
    for _ in range(2):
        features = images.encoded(other)
        assert features.image.shape[1::-1] == size and features.mask.shape[::-1] == size
        np.testing.assert_allclose(features.K, room.camera.K, rtol=0.01, atol=0.6)


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


@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_images_without_calibration_have_that_of_the_map(room, frame, lens, factor):
    images = FittedImages(load_pair_model("opencv"), map_of(room.camera, lens=lens))
    size = round(factor * room.camera.width), round(factor * room.camera.height)
    without = dataclasses.replace(resized(frame, *size), camera=None)
    assert images.with_camera(without).camera == (lens or room.camera).scaled(*size)
    assert images.with_camera(frame) is frame


def test_no_calibration_is_made_up_for_a_map_without_or_images_of_another_shape(room, frame):
    without = dataclasses.replace(frame, camera=None)
    model = load_pair_model("opencv")
    assert FittedImages(model, map_of(room.camera, known=False)).with_camera(without) is without
    assert FittedImages(model).with_camera(without) is without
    wide = Camera.from_fov(room.camera.width, room.camera.height // 2, 60.0)
    assert FittedImages(model, map_of(wide)).with_camera(without) is without
