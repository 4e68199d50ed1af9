# SPDX-License-Identifier: Apache-2.0
import pytest
from rendered import OWN_RENDERER

from st3r_ros.sim.sequence import SimulatedSequence


@pytest.fixture(autouse=True)
def own_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sequence shows is compared with another one's: each paints its world itself."""
    monkeypatch.setattr(SimulatedSequence, "renderer", OWN_RENDERER)
