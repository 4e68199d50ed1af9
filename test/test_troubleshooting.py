# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md quotes messages: each must be one that the code prints."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUOTED = re.compile(r"^(?: {4}| {6})(\S.*)$", re.MULTILINE)
LEAST = 12
"""Characters that a part of a message must have to say anything."""


def texts() -> Iterator[str]:
    """Every text constant of the package and of the benchmark of links, the constant parts of f-strings too."""
    for file in [*(ROOT / "st3r_ros").rglob("*.py"), ROOT / "bench" / "lossy_network.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


TEXTS = list(texts())
MESSAGES = QUOTED.findall((ROOT / "docs" / "troubleshooting.md").read_text())


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 40


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_code(message: str) -> None:
    parts = [part.strip() for part in re.split(r"<[^>]*>|[:;] ", message)]
    parts = [part for part in parts if len(part) >= LEAST] or [max(parts, key=len)]
    missing = [part for part in parts if not any(part in text for text in TEXTS)]
    assert not missing
