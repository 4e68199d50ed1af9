# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
from ros_harness import Ros


@pytest.fixture
def ros() -> Iterator[Ros]:
    """ROS, not initialised yet; everything that spins in it is stopped after the test."""
    ros = Ros()
    yield ros
    ros.stop()
