# SPDX-License-Identifier: Apache-2.0
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from ros_harness import Ros

from st3r_ros.ros.nodes import managed_node


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


@pytest.fixture
def loaded_models(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """The pair models that nodes load, without keeping them."""
    models: list[weakref.ref] = []
    start = managed_node.start_pair_model

    def load(*arguments: Any) -> Any:
        model = start(*arguments)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(managed_node, "start_pair_model", load)
    return models
