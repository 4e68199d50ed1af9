# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
import torch

from st3r_ros.pair import load_pair_model
from st3r_ros.runtime import background_threads, start_pair_model


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before[0])
    torch.backends.cudnn.benchmark = before[1]


def test_the_library_leaves_the_threads_alone_and_a_process_of_ours_sets_them():
    load_pair_model("opencv")
    assert torch.get_num_threads() == 3
    assert start_pair_model("opencv").name == "opencv"
    assert torch.get_num_threads() == 1


def test_the_optimizer_has_one_core():
    with background_threads() as executor:
        assert executor.submit(torch.get_num_threads).result() == 1
