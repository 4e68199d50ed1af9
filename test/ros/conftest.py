# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
from ros_harness import Ros


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes in the process of the tests need no warm-up; those in processes of their own (`Child`) do it."""
    monkeypatch.setattr("st3r_ros.ros.nodes.managed_node.warm_up", lambda *_: 0.0)


@pytest.fixture
def ros() -> Iterator[Ros]:
    """ROS, not initialised yet; everything that spins in it is stopped after the test."""
    ros = Ros()
    yield ros
    ros.stop()
