# SPDX-License-Identifier: Apache-2.0
"""bench/peers.py: every system gets the same images and cameras, its poses are judged alike, and what is missing is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import peers
import pytest
from mapping_bench.run import compared
from peers_bench.colmap import camera_model, colmap
from peers_bench.orb_slam3 import OrbSlam3, settings_of
from peers_bench.recording import Recording, record

from st3r_ros.errors import CalibrationError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.image_file import read_image

TINY = "sim:room?seed=1&frames=60&width=320&height=240"
K = np.array([[300.0, 0.0, 159.5], [0.0, 310.0, 119.5], [0.0, 0.0, 1.0]])
FISHEYE = Camera(320, 240, K, "equidistant", np.array([0.01, 0.02, 0.03, 0.04]))
LENS = Camera(320, 240, K, "plumb_bob", np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
TILTED = Camera(320, 240, K, "rational_polynomial", np.linspace(0.01, 0.14, 14))

ORB_SLAM3 = '''"""Stands in for ORB-SLAM3: moves along a line, and finds the images from the third one on."""
import enum, os
Sensor = enum.Enum("Sensor", "MONOCULAR")
class Slam:
    def __init__(self, vocabulary, settings, sensor):
        assert "Camera1.fx" in open(settings).read()
        self.seen = []
    def track_monocular(self, image, stamp):
        assert image.shape == (240, 320)
        self.seen.append(stamp)
    def shutdown(self):
        if os.environ.get("NO_MAP"):
            os.abort()
    def save_trajectory_euroc(self, file):
        with open(file, "w") as poses:
            poses.writelines(f"{1e9 * t:.6f} {t:.4f} {t * t:.4f} 0 0 0 0 1\\n" for t in self.seen[2:])
'''


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Recording:
    return record(TINY, tmp_path_factory.mktemp("recording"), every=5)


@pytest.fixture
def orb(tmp_path, monkeypatch) -> list[str]:
    """The arguments that give a stand-in for ORB-SLAM3."""
    (tmp_path / "pyorbslam3.py").write_text(ORB_SLAM3)
    (tmp_path / "vocabulary.txt").write_text("10 6 0 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return [sys.executable, str(tmp_path / "vocabulary.txt")]


# Images and cameras --------------------------------------------------------------------------------------------------------


def test_a_recording_has_the_images_as_they_are(recording):
    assert len(recording.files) == 12 and recording.interval == pytest.approx(1 / 3)
    assert read_image(recording.folder / recording.files[-1]).shape == (240, 320, 3)
    lines = [line.split() for line in (recording.folder / "rgb.txt").read_text().splitlines()]
    assert [file for _, file in lines] == list(recording.files) and float(lines[1][0]) == pytest.approx(1 / 3)


def test_colmap_is_told_the_lens():
    pinhole = [300.0, 310.0, 160.0, 120.0]  # the centre of its first pixel is at 0.5
    assert camera_model(FISHEYE) == ("OPENCV_FISHEYE", [*pinhole, 0.01, 0.02, 0.03, 0.04])
    assert camera_model(LENS) == ("FULL_OPENCV", [*pinhole, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0, 0.0, 0.0])
    with pytest.raises(CalibrationError, match="14 coefficients"):
        camera_model(TILTED)


def test_orb_slam3_is_told_the_lens():
    assert "KannalaBrandt8" in settings_of(FISHEYE, 15.0) and "Camera1.k4: 0.04" in settings_of(FISHEYE, 15.0)
    text = settings_of(LENS, 15.0)
    assert '"PinHole"' in text and "Camera1.p1: 0.3" in text and "Camera1.k3: 0.5" in text and "Camera.fps: 15" in text
    with pytest.raises(CalibrationError, match="14 coefficients"):
        settings_of(TILTED, 15.0)


# Systems -------------------------------------------------------------------------------------------------------------------


def test_colmap_places_the_images(tmp_path):
    """On a way twice as long, where its error varies by a tenth from run to run instead of twofold."""
    recording = record(TINY.replace("frames=60", "frames=120"), tmp_path, every=8)
    found = colmap(recording)
    errors, note = compared(found.trajectory, recording.truth, recording.stamps_ns)
    assert len(found.trajectory) == len(recording.files) == 15 and found.ms > 0 and note == found.note == ""
    assert errors is not None and errors.ate_sim3 < 0.02 * errors.truth_spread


def test_orb_slam3_runs_in_its_own_python(recording, orb, monkeypatch):
    found = OrbSlam3(*orb)(recording)
    np.testing.assert_allclose(found.trajectory.stamps_ns, recording.stamps_ns[2:], atol=1000)
    assert found.trajectory.positions[0, 0] == pytest.approx(2 / 3, abs=1e-4) and found.ms > 0
    monkeypatch.setenv("NO_MAP", "1")
    found = OrbSlam3(*orb)(recording)
    assert len(found.trajectory) == 0 and found.note == "no map"


# The command line ------------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_peer_are_medians_over_its_runs(recording, orb, tmp_path, capfd):
    target = tmp_path / "rows.json"
    arguments = [TINY, "--systems", "orb_slam3", "--orb-slam3", *orb, "--every", "5", "--runs", "2", "--json", str(target)]
    assert peers.main(arguments) == 0
    (row,) = json.loads(target.read_text())
    assert row["system"] == "orb_slam3" and row["images"] == 12 and row["placed"] == pytest.approx(10 / 12)
    assert len(row["runs"]) == 2 and row["ate_sim3"] > 0 and row["ate_share_of_spread"] > 0
    assert "orb_slam3" in capfd.readouterr().out.splitlines()[1]


@pytest.mark.parametrize("python", ["", sys.executable, "/no/such/python"])
def test_a_peer_that_is_not_installed_is_left_out(python, tmp_path, capfd):
    where = ["--orb-slam3", python, str(tmp_path)] if python else []
    assert peers.main(["sim:room?seed=1&frames=6&width=96&height=72", "--systems", "st3r,orb_slam3", *where]) == 0
    shown = capfd.readouterr()
    assert shown.err.startswith("ORB-SLAM3 is ") and shown.err.endswith("It is left out.\n")
    assert len(shown.out.splitlines()) == 2 and " st3r " in shown.out


def test_what_cannot_be_used_is_one_sentence(tmp_path, orb, capfd):
    assert peers.main([str(tmp_path / "gone"), "--systems", "colmap"]) == 2
    assert "There is no file, folder or webcam" in capfd.readouterr().err
    assert peers.main([TINY, "--orb-slam3", orb[0], str(Path(orb[1]) / "gone")]) == 2
    assert "There is no vocabulary of ORB-SLAM3" in capfd.readouterr().err
