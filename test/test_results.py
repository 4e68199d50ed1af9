# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from st3r_ros.config import CloudConfig
from st3r_ros.errors import InputError, OutputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.io.ply import read_ply
from st3r_ros.io.trajectory import load_tum
from st3r_ros.products.cloud import cloud_of
from st3r_ros.recorder import RunRecorder
from st3r_ros.results import (
    MAX_DEPTH_KEYFRAMES,
    MAX_DEPTH_WIDTH,
    RESULT_FILES,
    RunInfo,
    check_output_folder,
    peak_rss_mb,
    read_results,
    write_results,
)
from st3r_ros.run_camera import RunCamera
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import FramePose, Keyframe, MappingState, MappingUpdate, MapScale, Trajectory

INFO = RunInfo(input="garden", pair_model="opencv")
CLOUD = CloudConfig()
PERIOD_NS = 100_000_000


def make_map(keyframes: int, width: int = 64, height: int = 48, scale: float = 1.0) -> KeyframeMap:
    """Keyframes on a curve, each seeing a slanted wall in its own unit, and one tracked frame per keyframe."""
    K = np.array([[width * 0.8, 0, width / 2], [0, width * 0.8, height / 2], [0, 0, 1.0]])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rays = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x, dtype=torch.float64)], dim=-1)
    X = (rays * (2.0 + 0.01 * x)[..., None]).float() / scale
    conf = torch.ones(height, width)
    conf[:, : width // 4] = 0.0
    result = KeyframeMap()
    for k in range(keyframes):
        pose = Sim3(np.eye(3), np.array([np.cos(k / 5), np.sin(k / 5), 0.1 * k]), np.float64(scale))
        image = np.full((height, width, 3), 100, np.uint8)
        result.add_keyframe(Keyframe(k, 2 * k, k * PERIOD_NS, pose, X, conf, image, K))
        result.frames.append(FramePose(2 * k, k * PERIOD_NS, k, Sim3.identity()))
    return result


def make_recorder(frames: int, tracked: int) -> RunRecorder:
    recorder = RunRecorder()
    for k in range(frames):
        state = MappingState.TRACKING if k < tracked else MappingState.LOST
        recorder.record(MappingUpdate(k, k * PERIOD_NS, state, timings_ms={"track": 5.0}))
    recorder.skip(7, "7.png", "It is damaged.")
    return recorder


def test_everything_is_written_and_reads_back(tmp_path):
    keyframe_map = make_map(10)
    truth = keyframe_map.trajectory()
    truth = Trajectory(truth.stamps_ns, 3.0 * truth.positions, truth.quaternions_xyzw)
    out = tmp_path / "new" / "out"
    summary = write_results(out, keyframe_map, make_recorder(12, 10), INFO, cloud_config=CLOUD, truth=truth)
    assert sorted(path.name for path in out.iterdir()) == sorted(RESULT_FILES)
    assert (summary.frames, summary.tracked, summary.keyframes, summary.skipped) == (12, 10, 10, 1)
    assert summary.truth is not None
    assert summary.truth.scale == pytest.approx(3.0)
    assert summary.truth.tracked_share == pytest.approx(1.0)

    stored = json.loads((out / "summary.json").read_text())
    assert stored["truth"]["ate_sim3"] == pytest.approx(0.0, abs=1e-6)
    assert stored["lost_spans"] == [{"first_frame": 10, "last_frame": 11, "first_stamp": 1.0, "last_stamp": 1.1, "frames": 2}]
    assert stored["camera"] == {
        "assumed": False,
        "focal_px": pytest.approx(51.2),
        "width": 64,
        "height": 48,
        "distortion_model": "none",
        "other_focals_px": [],
    }
    assert (stored["map"], stored["notes"]) == ("", [])
    assert stored["skips"] == [{"frame": 7, "source": "7.png", "reason": "It is damaged."}]
    assert set(stored["latency_ms"]) == {"track", "total"}
    assert stored["points"] == len(read_ply(out / "cloud.ply")) > 0

    written = load_tum(out / "trajectory.txt").trajectory
    np.testing.assert_array_equal(written.stamps_ns, keyframe_map.trajectory().stamps_ns)
    np.testing.assert_allclose(written.positions, keyframe_map.trajectory().positions, atol=1e-8)
    assert len(load_tum(out / "keyframes.txt").trajectory) == 10
    run = read_results(out)
    np.testing.assert_array_equal(run.processed_ns, np.arange(12) * PERIOD_NS)


@pytest.mark.parametrize(
    ("scale", "stored", "unit"),
    [
        (MapScale(), {"metric": False, "scale_source": "none", "scale_sigma": None}, "map units"),
        (MapScale("odometry", 0.02), {"metric": True, "scale_source": "odometry", "scale_sigma": 0.02}, "m"),
    ],
)
def test_the_summary_and_the_picture_tell_the_unit(tmp_path, monkeypatch, scale, stored, unit):
    drawn = []
    monkeypatch.setattr("st3r_ros.eval.picture.draw_map", lambda *items, **options: drawn.append(options["unit"]) or b"png")
    keyframe_map = make_map(3)
    keyframe_map.scale = scale
    write_results(tmp_path, keyframe_map, make_recorder(3, 3), INFO, cloud_config=CLOUD)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {key: summary[key] for key in stored} == stored
    assert drawn == [unit]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_keyframe_depths_survive_in_any_unit(tmp_path, scale):
    keyframe_map = make_map(3, width=700, height=48, scale=scale)
    write_results(tmp_path, keyframe_map, make_recorder(3, 3), INFO, cloud_config=CLOUD)
    depths = read_results(tmp_path).depths
    assert depths.depth.shape[2] <= MAX_DEPTH_WIDTH
    step = -(-700 // MAX_DEPTH_WIDTH)
    for k in range(3):
        expected = keyframe_map.keyframe_cloud(k, CLOUD.min_conf).points[::step, ::step, 2]
        np.testing.assert_allclose(depths.depth[k], expected, rtol=1e-3)
        # A pixel of the reduced depth and its full-size original lie on the same ray.
        reduced, full = np.linalg.inv(depths.K[k]), np.linalg.inv(keyframe_map.keyframes[k].K)
        np.testing.assert_allclose(reduced @ [10, 5, 1], full @ [10 * step, 5 * step, 1])


def test_depths_of_a_long_run_are_bounded(tmp_path):
    write_results(tmp_path, make_map(MAX_DEPTH_KEYFRAMES + 60, 16, 16), make_recorder(5, 5), INFO, cloud_config=CLOUD)
    stamps = read_results(tmp_path).depths.stamps_ns
    assert len(stamps) == MAX_DEPTH_KEYFRAMES
    assert stamps[0] == 0 and stamps[-1] == (MAX_DEPTH_KEYFRAMES + 59) * PERIOD_NS


def test_a_run_without_any_pose_is_written_too(tmp_path):
    truth = make_map(10).trajectory()
    summary = write_results(tmp_path, KeyframeMap(), make_recorder(4, 0), INFO, cloud_config=CLOUD, truth=truth)
    assert (summary.tracked, summary.truth) == (0, None)
    assert "0 poses" in summary.truth_note
    assert all((tmp_path / name).is_file() for name in RESULT_FILES)
    assert len(read_results(tmp_path).trajectory) == 0


def test_a_folder_that_cannot_be_written_is_found_out_before(tmp_path):
    (tmp_path / "file").write_text("x")
    for bad in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match="cannot be written"):
            check_output_folder(bad)
    check_output_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_other_folders_and_damaged_results_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"trajectory\.txt is missing"):
        read_results(tmp_path)
    write_results(tmp_path, make_map(3), make_recorder(3, 3), INFO, cloud_config=CLOUD)
    whole = (tmp_path / "keyframes.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a zip file"):
        (tmp_path / "keyframes.npz").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            read_results(tmp_path)


def test_peak_memory_grows_with_what_is_held():
    before = peak_rss_mb()
    block = np.ones(int(before * 1e6 + 80e6), np.uint8)
    assert peak_rss_mb() >= before + 70
    del block
    assert peak_rss_mb() >= before + 70


def test_a_cloud_at_hand_is_the_one_that_is_written(tmp_path):
    keyframe_map = make_map(3)
    cloud = cloud_of(keyframe_map, CloudConfig(voxel_size=0.3))
    summary = write_results(tmp_path, keyframe_map, make_recorder(3, 3), INFO, cloud_config=CLOUD, cloud=cloud)
    assert summary.points == len(cloud)
    np.testing.assert_array_equal(read_ply(tmp_path / "cloud.ply").points, cloud.points)


def test_the_camera_is_that_of_the_keyframes_of_this_run(tmp_path):
    keyframe_map = make_map(6)
    for k in range(4, 6):
        keyframe_map.keyframes[k].K, keyframe_map.keyframes[k].K_known = 2.0 * keyframe_map.keyframes[k].K, False
    info = replace(INFO, map="office", first_keyframe=4, camera=Camera.from_fov(64, 48, 90.0))
    summary = write_results(tmp_path, keyframe_map, make_recorder(3, 3), info, cloud_config=CLOUD)
    assert summary.map == "office"
    assert summary.camera == RunCamera(True, pytest.approx(102.4), 64, 48, "none")
    whole = write_results(tmp_path, keyframe_map, make_recorder(3, 3), INFO, cloud_config=CLOUD)
    assert whole.camera is not None and whole.camera.other_focals_px == pytest.approx((51.2,))
    only_found = write_results(tmp_path, keyframe_map, make_recorder(3, 3), replace(info, first_keyframe=6), cloud_config=CLOUD)
    assert only_found.camera == RunCamera(False, pytest.approx(32.0), 64, 48, "none")
