# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from procedural_weights import image
from st3r_ros.errors import FrameError
from st3r_ros.network.preprocess import MAX_ASPECT, ImagePlan, normalize, plan_image, resize_live, resize_reference

properties = settings(max_examples=100)
sides = st.integers(1, 6000)
working_sizes = st.sampled_from([224, 256, 512])


def plan_or_nothing(width: int, height: int, working_size: int) -> ImagePlan | None:
    try:
        return plan_image(width, height, working_size)
    except FrameError:
        return None


@properties
@given(sides, sides, working_sizes)
def test_what_is_kept_is_whole_patches_from_the_middle_of_the_scaled_image(width, height, working_size):
    plan = plan_or_nothing(width, height, working_size)
    if plan is None:
        assert MAX_ASPECT * min(width, height) < max(width, height) or 16 * max(width, height) > working_size * min(width, height)
        return
    assert min(plan.out) >= 16 and plan.out[0] % 16 == plan.out[1] % 16 == 0
    for kept, resized, offset in zip(plan.out, plan.resized, plan.offset, strict=True):
        assert offset >= 0 and offset + kept <= resized
        assert abs(2 * offset + kept - resized) <= 1


@properties
@given(sides, sides, working_sizes)
def test_a_turned_image_has_the_turned_plan_unless_it_is_square(width, height, working_size):
    plan, turned = plan_or_nothing(width, height, working_size), plan_or_nothing(height, width, working_size)
    if plan is None or turned is None:
        assert plan is turned
    elif plan.resized[0] != plan.resized[1]:
        assert (plan.resized, plan.offset, plan.out) == (turned.resized[::-1], turned.offset[::-1], turned.out[::-1])


@pytest.mark.parametrize(
    ("width", "height", "working_size", "out"),
    [
        (640, 480, 512, (512, 384)),
        (1280, 720, 512, (512, 288)),
        (480, 640, 512, (384, 512)),
        (640, 480, 224, (224, 224)),
        (1, 1, 512, (512, 384)),
        (16, 16, 512, (512, 384)),
        (1, 1, 224, (224, 224)),
        (3200, 100, 512, (512, 16)),
    ],
)
def test_known_sizes(width, height, working_size, out):
    assert plan_image(width, height, working_size).out == out


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [(20000, 100, "at most 3200"), (100, 20000, "at most 3200"), (1, 33, "at most 32"), (0, 7, "empty"), (7, 0, "empty")],
)
@pytest.mark.parametrize("working_size", [224, 512])
def test_an_image_of_which_nothing_would_be_left_is_refused(width, height, reason, working_size):
    with pytest.raises(FrameError, match=reason) as refused:
        plan_image(width, height, working_size)
    assert f"{width}x{height}" in str(refused.value)


@properties
@given(st.integers(16, 3000), st.integers(16, 3000), working_sizes, st.randoms(use_true_random=False))
def test_the_scaled_camera_sees_a_point_where_its_pixel_moved(width, height, working_size, random):
    plan = plan_or_nothing(width, height, working_size)
    if plan is None:
        return
    K = np.array([[random.uniform(100, 2000), 0, width / 3], [0, random.uniform(100, 2000), height / 2], [0, 0, 1]])
    X = np.array([[random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(0.5, 9)] for _ in range(5)])
    seen, seen_working = X @ K.T, X @ plan.scale_K(K).T
    pixels, pixels_working = seen[:, :2] / seen[:, 2:], seen_working[:, :2] / seen_working[:, 2:]
    np.testing.assert_allclose(plan.to_working(pixels), pixels_working, atol=1e-8)
    np.testing.assert_allclose(plan.to_original(pixels_working), pixels, atol=1e-8)


@pytest.mark.parametrize(("width", "height", "working_size"), [(640, 480, 512), (300, 420, 512), (515, 400, 224)])
def test_pixels_move_as_the_picture_does(width, height, working_size):
    """The working image of a ramp shows, at every pixel away from the ends, the coordinate that the pixel came from."""
    plan = plan_image(width, height, working_size)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([x * 255 / width, y * 255 / height, 0 * x], axis=-1).round().astype(np.uint8)
    u, v = np.meshgrid(np.arange(8, plan.out[0] - 8), np.arange(8, plan.out[1] - 8))
    original = plan.to_original(np.stack([u, v], axis=-1))
    seen = resize_reference(ramp, plan)[8:-8, 8:-8, :2]
    assert np.abs(seen - original * 255 / [width, height]).max() < 1.5
    assert np.abs((seen - original * 255 / [width, height]).mean(axis=(0, 1))).max() < 0.05


def test_the_live_path_on_the_cpu_is_the_reference_for_images_and_batches():
    plan = plan_image(70, 50, 64)
    images = np.stack([image(name, 50, 70) for name in "ab"])
    expected = np.stack([resize_reference(one, plan) for one in images])
    np.testing.assert_array_equal(resize_live(torch.from_numpy(images), plan), expected)
    np.testing.assert_array_equal(resize_live(torch.from_numpy(images[1]), plan), expected[1])
    np.testing.assert_array_equal(resize_live(torch.from_numpy(images[0][:, ::-1].copy()).flip(1), plan), expected[0])


def test_the_live_path_stays_on_the_device_of_the_image():
    images = torch.empty((2, 50, 70, 3), dtype=torch.uint8, device="meta")
    working = resize_live(images, plan_image(70, 50, 64))
    assert working.device == images.device and working.dtype == torch.uint8 and working.shape == (2, 32, 64, 3)


@pytest.mark.parametrize("shape", [(50, 71, 3), (70, 50, 3), (50, 70), (50, 70, 4)])
def test_an_image_of_another_size_than_the_plan_is_refused(shape):
    plan = plan_image(70, 50, 64)
    with pytest.raises(FrameError, match="70x50"):
        resize_reference(np.zeros(shape, np.uint8), plan)
    with pytest.raises(FrameError, match="70x50"):
        resize_live(torch.zeros(shape, dtype=torch.uint8), plan)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalized_images_are_planes_between_minus_one_and_one(dtype):
    levels = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 16, 1).expand(2, 8, 16, 3)
    planes = normalize(levels, dtype)
    assert planes.shape == (2, 3, 8, 16) and planes.dtype == dtype and planes.is_contiguous()
    expected = torch.linspace(-1, 1, 256, dtype=torch.float64).reshape(2, 1, 8, 16).expand(2, 3, 8, 16)
    torch.testing.assert_close(planes.double(), expected, rtol=0, atol=2 * torch.finfo(dtype).eps)
