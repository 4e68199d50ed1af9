# SPDX-License-Identifier: Apache-2.0
"""What the published models' preprocessing made of images of many sizes, turns and colour modes."""

import json
from pathlib import Path

import pytest

from golden_checks.preprocess_files import check_pixels, check_preprocess
from golden_checks.results import Check

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "preprocess.json").read_text(encoding="utf-8"))
LARGE = 1.1e6  # pixels; making the image takes seconds


def failures(path: Path) -> list:
    results = list(check_preprocess(path) if path.suffix == ".json" else check_pixels(path))
    assert results
    return [result for result in results if not (isinstance(result, Check) and result.ok)]


def written(path: Path, *, large: bool) -> Path:
    """A file of the cases of one kind of images."""
    cases = [case for case in CASES["cases"] if (case["in_wh"][0] * case["in_wh"][1] > LARGE) == large]
    path.write_text(json.dumps(CASES | {"cases": cases}), encoding="utf-8")
    return path


def test_small_images_become_what_they_became(tmp_path):
    assert failures(written(tmp_path / "preprocess.json", large=False)) == []


@pytest.mark.full
def test_large_images_become_what_they_became(tmp_path):
    assert failures(written(tmp_path / "preprocess.json", large=True)) == []


def test_every_fourth_pixel_is_the_recorded_one():
    assert failures(GOLDEN / "preprocess_pixels.npz") == []
