# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import Resampling

from procedural_weights import image
from st3r_ros.network.preprocess import plan_image, resize_reference
from st3r_ros.network.resample import resample

properties = settings(max_examples=100)
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def difference(live: torch.Tensor, reference: np.ndarray) -> np.ndarray:
    assert live.dtype == torch.uint8 and live.is_contiguous()
    return np.abs(live.numpy().astype(int) - reference)


@properties
@given(sizes, sizes, st.sampled_from([Resampling.LANCZOS, Resampling.BICUBIC]), st.integers(0, 2**32 - 1))
def test_noise_of_any_size_is_resampled_as_by_pillow(size, resized, window, seed):
    """Noise is the hardest picture: every weight matters and values overshoot."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    by_pillow = Image.fromarray(pixels).resize((resized[0], size[1]), window).resize(resized, window)
    off = difference(resample(torch.from_numpy(pixels), resized, window, (0, 0), resized), np.array(by_pillow))
    assert off.max() <= 2  # a tie that falls otherwise in the first pass may be amplified by the second
    assert (off > 0).sum() <= max(3, 0.002 * off.size)


@pytest.mark.parametrize(
    ("width", "height", "working_size"), [(640, 480, 512), (700, 433, 512), (300, 200, 512), (640, 480, 224), (512, 384, 512)]
)
def test_the_kept_box_is_that_of_the_reference(width, height, working_size):
    plan = plan_image(width, height, working_size)
    images = np.stack([image(name, height, width) for name in "ab"])
    live = resample(torch.from_numpy(images), plan.resized, plan.window, plan.offset, plan.out)
    off = difference(live, np.stack([resize_reference(one, plan) for one in images]))
    assert off.max() <= 1 and (off > 0).mean() < 1e-4


def test_an_image_and_a_batch_of_it_give_the_same():
    pixels = torch.from_numpy(image("a", 40, 60))
    one = resample(pixels, (32, 21), Resampling.LANCZOS, (3, 2), (20, 16))
    batch = resample(pixels.expand(2, 3, 40, 60, 3), (32, 21), Resampling.LANCZOS, (3, 2), (20, 16))
    assert one.shape == (16, 20, 3) and torch.equal(batch, one.expand(2, 3, 16, 20, 3))
