# SPDX-License-Identifier: Apache-2.0
import pytest
from browser import find_chromium


@pytest.fixture
def chromium() -> str:
    """Skips the test where there is no browser."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no chromium; install it with: apt install chromium")
    return program
