# SPDX-License-Identifier: Apache-2.0
"""bench/retrieval.py: its figures mean what they say."""

import numpy as np
import pytest
import retrieval
import torch
from retrieval import Described, evaluate
from torch.nn.functional import normalize

from st3r_ros.types import Trajectory

TINY = "sim:room?seed=1&frames=12&width=96&height=72"


def two_rounds(noise: float, places: int = 20) -> Described:
    """A camera that sees `places` places twice, ten seconds apart and a second each, and each nowhere else."""
    torch.manual_seed(0)
    exact = normalize(torch.randn(places, 512), dim=1).repeat(2, 1)
    place = np.arange(2 * places) % places
    overlap = (place[:, None] == place).astype(float)
    return Described(
        np.arange(2.0 * places), normalize(exact + noise * normalize(torch.randn(2 * places, 512), dim=1), dim=1), overlap, 0.0
    )


def test_perfect_descriptors_have_perfect_figures():
    figures = evaluate(two_rounds(0.1), min_similarity=0.5)
    assert figures["recall1"] == figures["recall3"] == figures["precision"] == 1.0 and figures["wasted"] == 0.0
    assert figures["same5"] > 0.9 and figures["other99"] < 0.2


def test_useless_descriptors_have_the_figures_of_chance():
    figures = evaluate(two_rounds(100.0, places=60))
    assert figures["recall1"] < 0.1 and figures["recall3"] < 0.2 and figures["precision"] < 0.1
    assert figures["wasted"] == 3.0


def test_worse_descriptors_have_worse_figures():
    good, bad = evaluate(two_rounds(1.5)), evaluate(two_rounds(6.0))
    assert good["recall1"] > bad["recall1"] and good["precision"] > bad["precision"]


def test_what_is_seen_once_is_not_asked():
    described = two_rounds(0.1, places=4)  # the second time comes after four seconds
    assert evaluate(described, gap=3.0)["recall1"] == 1.0
    nothing = evaluate(described, gap=5.0)
    assert np.isnan([nothing[key] for key in ("recall1", "recall3", "precision", "same5", "same50")]).all()


def test_average_precision_of_a_known_ranking():
    same, other = np.array([0.9, 0.6]), np.array([0.7, 0.1])
    assert retrieval.average_precision(same, other) == pytest.approx((1 + 2 / 3) / 2)


def test_directions_decide_without_depth():
    halves = np.radians([0, 20, 70]) / 2  # turns about the vertical: 20, 70 and 50 degrees apart
    truth = Trajectory(np.arange(3), np.zeros((3, 3)), np.stack([0 * halves, np.sin(halves), 0 * halves, np.cos(halves)], axis=1))
    overlap = retrieval.overlap_of_directions(truth, np.arange(3))
    assert overlap[0, 1] == 1.0 and overlap[0, 2] == 0.0 and 0.0 < overlap[1, 2] < 0.3


def test_a_line_for_every_sequence(capsys):
    assert retrieval.main([TINY, "--every", "4", "--gap", "0.1"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert line.startswith("…" + TINY[-39:]) and line.split()[1] == "3" and len(header) == len(line)


def test_a_sequence_that_cannot_be_used_is_said(capsys, tmp_path):
    assert retrieval.main([str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
