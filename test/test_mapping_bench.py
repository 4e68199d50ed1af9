# SPDX-License-Identifier: Apache-2.0
"""bench/mapping.py: its figures mean what they say, its command line does what it says."""

from __future__ import annotations

import json

import mapping
import numpy as np
import pytest
import torch
from hall import depth_of, look, recorded
from mapping_bench.cases import Case, Opened, expand
from mapping_bench.depth_errors import DensePair, RecordingModel, fusion_errors
from mapping_bench.run import Outcome, run

from noisy_depth.model import NoisyDepthModel
from noisy_depth.views import DepthFrames, TrueViews
from st3r_ros.errors import InputError
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import FramePose, Keyframe

KEYS = ["sequence", "pair_model", "seed", "tracked", "ate_sim3", "ate_se3", "scale", "ate_refined", "refine_s"]
KEYS += ["depth_absrel", "depth_absrel_single", "fps", "ms_track", "ms_optimize", "peak_rss_mb", "peak_device_mb"]
KEYS += ["loops", "loops_rejected"]
TINY = "sim:room?seed=1&frames=60&width=96&height=72"


@pytest.fixture(scope="module")
def tiny() -> Outcome:
    return run(Case(TINY, "noisy_depth", seed=4, group=TINY, every=6))


def outcome(seed: int, group: str = "a", **figures) -> Outcome:
    """A run with made-up figures."""
    row = dict.fromkeys((key for key, *_ in mapping.FIGURES), 0)
    row |= {"sequence": f"{group}{seed}", "pair_model": "opencv", "seed": seed, "loop_closure": True, **figures}
    return Outcome(Case(group, "opencv", seed, group), row, np.zeros((0, 3)), np.zeros((0, 3)), np.array([0, 0, 1.0]))


# Figures -----------------------------------------------------------------------------------------------------------------


def test_a_run_has_every_figure(tiny):
    row = tiny.row
    assert list(row)[: len(KEYS)] == KEYS
    assert row["sequence"] == TINY and row["pair_model"] == "noisy_depth" and row["seed"] == 4
    assert row["tracked"] == 1.0 and row["frames"] == 10 and row["keyframes"] >= 1 and row["note"] == ""
    assert 0.0 < row["ate_sim3"] < 0.05 and row["ate_sim3"] <= row["ate_se3"] and 0.7 < row["scale"] < 1.4
    assert row["ate_share_of_path"] == pytest.approx(row["ate_sim3"] / row["path_length"])
    assert 0.005 < row["depth_absrel"] < 0.1 and 0.005 < row["depth_absrel_single"] < 0.1
    assert row["fps"] > 0 and row["ms_track"] > 0 and row["peak_rss_mb"] > 50
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["ate_refined"] is None  # that is for models whose depth comes from their matches
    assert tiny.estimate.shape == (10, 3) and np.abs(tiny.estimate - tiny.truth).max() < 0.2


def test_a_run_can_be_repeated(tiny):
    again = run(Case(TINY, "noisy_depth", seed=4, group=TINY, every=6)).row
    assert all(again[key] == pytest.approx(tiny.row[key]) for key in ("ate_sim3", "depth_absrel"))


def test_fused_and_single_depth_are_compared_at_the_same_pixels():
    sequence = recorded()
    views = TrueViews(sequence, 96)
    frames = DepthFrames(sequence, views)
    recording = RecordingModel(NoisyDepthModel(views.of))
    features = [recording.encode(frame) for frame in frames]
    recording.predict(features[1], features[0])
    recording.predict(features[1], features[0], dense=False)
    assert [(p.stamp0_ns, p.stamp1_ns) for p in recording.pairs] == [(200_000_000, 0)]
    assert recording.pairs_of(0, {0, 200_000_000}) == [DensePair(0, 200_000_000, None)] and recording.pairs_of(0, {0}) == []

    true = depth_of(look(-2.0, -3.5, 0.0))
    wrong, silent = np.zeros((72, 96), bool), np.zeros((72, 96), bool)
    wrong[:18], silent[36:] = True, True
    X = torch.zeros(72, 96, 3)
    X[..., 2] = torch.from_numpy(1.7 * true * np.where(wrong, 1.2, 1.0))  # the unit of the map does not matter
    conf = torch.from_numpy(np.where(silent, 0.9, 5.0))
    keyframe = Keyframe(0, 0, 0, Sim3.identity(), X, conf, next(iter(frames)).image, views.camera.K)
    keyframe_map = KeyframeMap()
    keyframe_map.add_keyframe(keyframe)
    keyframe_map.frames.append(FramePose(1, 200_000_000, 0, Sim3.identity()))
    errors = fusion_errors(keyframe_map, Opened(sequence, frames, recording.wrapped), recording)
    ratio = np.where(wrong, 1.2, 1.0)[:36] * (np.median(true[:36]) / np.median((true * np.where(wrong, 1.2, 1.0))[:36]))
    assert errors.fused == pytest.approx(np.abs(ratio - 1.0).mean(), rel=1e-4)
    assert errors.coverage == pytest.approx(0.5) and errors.keyframes == 1

    single = recording.wrapped.predict(features[0], features[1])
    claimed = single.conf0.numpy()[:36] >= 1.0  # faint pixels are no part of a cloud
    ratio = single.X_0_0[:36, :, 2].numpy()[claimed] / true[:36][claimed]
    ratio *= np.median(true[:36][claimed]) / np.median(single.X_0_0[:36, :, 2].numpy()[claimed])
    assert errors.single == pytest.approx(np.abs(ratio - 1.0).mean(), rel=1e-4)


def test_without_depth_images_there_is_no_depth_error():
    assert np.isnan(fusion_errors(KeyframeMap(), Opened(recorded(depth=None), [], None), None).fused)


def test_medians_are_those_of_the_seeds_that_have_a_figure():
    runs = [outcome(1, ate_sim3=0.1, fps=5.0), outcome(2, ate_sim3=None, fps=7.0), outcome(3, ate_sim3=0.5, fps=6.0)]
    (row,) = mapping.medians([*runs, outcome(1, group="b")])
    assert row["ate_sim3"] == pytest.approx(0.3) and row["fps"] == 6.0 and row["sequence"] == "a1"
    lines = mapping.line(runs[1].row), mapping.TABLE.header(), mapping.line(row, "median")
    assert " - " in lines[0] and len(lines[0]) == len(lines[1]) == len(lines[2])


# Command line ------------------------------------------------------------------------------------------------------------


def test_every_sequence_runs_with_every_model_seed_and_loops():
    settings = {"calibrated": False, "every": 2}
    cases = expand(["a", "sim:room?seed={seed}"], ["opencv", "noisy_depth"], [1, 2], [True, False], settings)
    assert len(cases) == 16 and not cases[0].calibrated and cases[0].every == 2
    assert {c.source for c in cases if c.group != "a"} == {"sim:room?seed=1", "sim:room?seed=2"}
    assert not cases[2].mapper_config.loop_closure and cases[0].mapper_config.loop_closure


def test_what_fails_is_one_sentence_and_the_rest_still_runs(monkeypatch, capfd, tmp_path, tiny):
    def fake(case: Case, progress: bool) -> Outcome:
        if case.source == "gone":
            raise InputError("There is no file, folder or webcam 'gone'.")
        return tiny

    monkeypatch.setattr(mapping, "run_apart", fake)
    target = tmp_path / "rows.json", tmp_path / "picture.png"
    assert mapping.main(["gone", TINY, "--json", str(target[0]), "--png", str(target[1])]) == 2
    shown = capfd.readouterr()
    assert shown.err == "gone, noisy_depth, seed 1: There is no file, folder or webcam 'gone'.\n"
    assert shown.out.splitlines()[0].startswith("sequence") and len(shown.out.splitlines()) == 2
    assert json.loads(target[0].read_text()) == [tiny.row]
    assert target[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pair-model", "lidar"], "there is no pair model 'lidar'"),
        (["--seeds", "1,x"], "no list of whole numbers"),
        (["--seeds=-1"], "a seed is at least 0"),
        (["--max-frames", "0"], "no whole number from 1 on"),
        (["--json", "no/such/folder.json"], "does not exist"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments, sentence, capfd):
    with pytest.raises(SystemExit) as ended:
        mapping.main(["kitchen", *arguments])
    assert ended.value.code == 2 and sentence in capfd.readouterr().err


@pytest.mark.full
def test_a_run_of_its_own_process_reports_its_own_memory(capfd):
    assert mapping.main([TINY, "--seeds", "1,2"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 4 and " median " in lines[3]
    assert mapping.run_apart(Case(TINY, "noisy_depth", 1, TINY), False).row["peak_rss_mb"] < 2000
