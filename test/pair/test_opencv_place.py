# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch

from st3r_ros.geometry.transforms import SE3
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.pair.opencv.model import OpenCVPairModel
from st3r_ros.pair.opencv.place import PLACE_IMAGE_SIZE, PlaceDescriber
from st3r_ros.pair.opencv.vocabulary import VOCABULARY_FILE, Vocabulary, shipped_vocabulary
from st3r_ros.types import Frame

HOME = SE3.identity()
MIN_SIMILARITY = 0.08  # what the mapper asks of a candidate


def turned(degrees: float, x: float = 0.0) -> SE3:
    return SE3.exp(np.array([x, 0.0, 0.0, 0.0, np.deg2rad(degrees), 0.0]))


@pytest.fixture(scope="module")
def model() -> OpenCVPairModel:
    return OpenCVPairModel(OpenCVPairConfig())


@pytest.fixture(scope="module")
def describe(model):
    """The descriptor of an image (H, W, 3)."""
    return lambda image: model.describe(model.encode(Frame(0, 0, image)))


@pytest.fixture(scope="module")
def home(room, describe) -> torch.Tensor:
    return describe(room.frame(HOME).image)


@pytest.fixture(scope="module")
def elsewhere(room, describe) -> torch.Tensor:
    """Descriptors (4, D) of what lies to the sides and behind."""
    return torch.stack([describe(room.frame(turned(degrees), 1).image) for degrees in (90, 150, -150, -90)])


def test_a_descriptor_is_a_unit_vector_of_the_vocabularys_size(home):
    assert home.shape == (shipped_vocabulary().size,) and home.dtype == torch.float32 and home.device.type == "cpu"
    assert float(home.norm()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("T_home_cam", [turned(5, 0.1), turned(12), turned(-8, 0.3), turned(0, -0.3)])
def test_the_same_place_is_more_similar_than_any_other(T_home_cam, room, describe, home, elsewhere):
    again = describe(room.frame(T_home_cam, 7).image)
    assert float(home @ again) > max(MIN_SIMILARITY, 2.0 * float((elsewhere @ again).max()))


def test_other_places_are_not_similar(home, elsewhere):
    assert float((elsewhere @ home).max()) < MIN_SIMILARITY


@pytest.mark.parametrize(
    "change",
    [
        lambda image: cv2.convertScaleAbs(image, alpha=0.5),
        lambda image: cv2.convertScaleAbs(image, alpha=1.3, beta=15),
        lambda image: np.uint8(255 * (image / 255.0) ** 1.8),
        lambda image: cv2.GaussianBlur(image, (0, 0), 1.2),
        lambda image: image[::2, ::2].repeat(2, 0).repeat(2, 1),
        lambda image: np.ascontiguousarray(np.rot90(image)),
        lambda image: image[20:-20, 30:-30],
    ],
    ids=["dark", "bright", "gamma", "blurred", "coarse", "turned", "closer"],
)
def test_light_blur_and_roll_do_not_hide_a_place(change, room, describe, home, elsewhere):
    again = describe(np.ascontiguousarray(change(room.frame(turned(4, 0.1), 7).image)))
    assert float(home @ again) > max(MIN_SIMILARITY, 1.5 * float((elsewhere @ again).max()))


def test_the_same_image_has_the_same_descriptor_whatever_came_before(room, describe, home):
    other = OpenCVPairModel(OpenCVPairConfig(max_features=300))
    assert torch.equal(describe(room.frame(HOME).image), home)
    assert torch.equal(other.describe(other.encode(room.frame(HOME))), home)


def test_describing_leaves_the_features_of_an_image_alone(room, model):
    features = model.encode(room.frame(HOME))
    model.describe(features)
    assert features.points is None and features.keypoints is None


def test_an_image_that_shows_nothing_is_like_nothing(describe, home):
    for image in (np.full((240, 320, 3), 128, np.uint8), np.zeros((1, 1, 3), np.uint8), np.zeros((5, 900, 3), np.uint8)):
        blank = describe(image)
        assert blank.shape == home.shape and not blank.any()


def test_a_larger_image_of_the_same_view_has_nearly_the_same_descriptor(room, home):
    gray = cv2.cvtColor(room.frame(HOME).image, cv2.COLOR_RGB2GRAY)
    assert max(gray.shape) == PLACE_IMAGE_SIZE
    larger = cv2.resize(gray, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert float(PlaceDescriber().describe(larger) @ home) > 0.7


def test_repeated_texture_counts_once():
    vocabulary = Vocabulary(torch.eye(128)[:4], torch.eye(128)[:, :8])
    wall, door = torch.eye(128)[0] * 0.9, torch.eye(128)[1] * 0.8
    once, often = (vocabulary.aggregate(torch.stack([wall] * n + [door])) for n in (1, 50))
    assert torch.allclose(once, often, atol=1e-6) and once.count_nonzero() == 2


def test_the_shipped_vocabulary_is_small_and_sound():
    vocabulary = shipped_vocabulary()
    assert VOCABULARY_FILE.stat().st_size < 100_000
    assert vocabulary.words.shape == (256, 128) and vocabulary.axes.shape == (128, 16)
    assert bool(vocabulary.words.isfinite().all() and vocabulary.axes.isfinite().all())
    distances = torch.cdist(vocabulary.words, vocabulary.words).fill_diagonal_(torch.inf)
    assert float(distances.min()) > 0.05
