# SPDX-License-Identifier: Apache-2.0
"""Exported maps as other programs see them: a map of the simulated room with exact depths, moved, turned and scaled."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from map_samples import random_map

from st3r_ros.config import CloudConfig
from st3r_ros.errors import OutputError
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import SE3, Sim3
from st3r_ros.io.ply import read_ply
from st3r_ros.io.trajectory import read_tum
from st3r_ros.maps.export import export_colmap, export_nerfstudio, export_ply, export_tum
from st3r_ros.maps.tracks import MAX_REPROJECTION_PX, build_tracks, pinhole_intrinsics
from st3r_ros.products.cloud import cloud_of
from st3r_ros.sequences import open_sequence
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Edge, FramePose, Keyframe

T_WORLD_HOME = Sim3.exp(np.array([1.0, -2.0, 0.5, 0.7, -0.4, 1.1, 0.4]))
STEPS = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.15, 0.0, 0.0, 0.0, -0.05, 0.0], [0.3, 0.05, 0.1, 0.02, -0.1, 0.03]])
WRONG = 0.1  # share of the matches


def wrong_matches(count: int) -> np.ndarray:
    return np.random.default_rng(count).random(count) < WRONG


@pytest.fixture(scope="module")
def exact_map(room) -> KeyframeMap:
    """Three keyframes whose pointmaps are in units of their own, matches that meet the same surface, and some that do not."""
    K, w, h = room.camera.K, room.camera.width, room.camera.height
    T_home_cam = [SE3.exp(step) for step in STEPS]
    result = KeyframeMap()
    for number, T in enumerate(T_home_cam):
        unit, depth = 1.5**number, room.depth(T)
        rays = np.concatenate([(pixel_grid(w, h) - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((h, w, 1))], axis=-1)
        X = torch.from_numpy((rays * depth[..., None] / unit).astype(np.float16))
        conf = torch.where(torch.from_numpy(np.isfinite(depth) & (depth > 0)), 2.0, 0.0).half()
        pose = T_WORLD_HOME @ T
        T_world_cam = Sim3(pose.rotation, pose.translation, pose.scale * unit)
        result.add_keyframe(Keyframe(3 * number, number, number * 10**8, T_world_cam, X, conf, room.frame(T, number).image, K))
        result.frames.append(FramePose(number, number * 10**8, 3 * number, Sim3.identity()))
    for i, j in ((1, 0), (2, 1), (2, 0)):
        pixels_i, pixels_j = true_matches(room, T_home_cam[i], T_home_cam[j])
        wrong = wrong_matches(len(pixels_i))
        pixels_j[wrong] = np.random.default_rng(0).uniform(0, (w - 1, h - 1), (int(wrong.sum()), 2))
        weight = torch.ones(len(pixels_i))
        result.add_edge(Edge.pack(3 * i, 3 * j, "sequential", torch.from_numpy(pixels_i), torch.from_numpy(pixels_j), weight))
    return result


def true_matches(room, T_home_i: SE3, T_home_j: SE3) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a grid in i and where their surface is in j, where it can be seen there."""
    K, w, h = room.camera.K, room.camera.width, room.camera.height
    depth_i, depth_j = room.depth(T_home_i), room.depth(T_home_j)
    pixels = pixel_grid(w, h)[8:-8:8, 8:-8:8].reshape(-1, 2)
    column, row = pixels.astype(int).T
    z = depth_i[row, column].astype(np.float64)
    X = np.concatenate([(pixels - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones((len(pixels), 1))], axis=1) * z[:, None]
    X_j = (T_home_j.inverse() @ T_home_i) @ X
    uv = X_j @ K.T
    uv = uv[:, :2] / uv[:, 2:]
    inside = (uv > 1).all(1) & (uv < (w - 2, h - 2)).all(1)
    column, row = np.rint(np.where(inside[:, None], uv, 0)).astype(int).T
    seen = inside & (np.abs(depth_j[row, column] / X_j[:, 2] - 1) < 0.01)
    return pixels[seen].astype(np.float32), uv[seen].astype(np.float32)


def K_of(keyframe_map: KeyframeMap) -> np.ndarray:
    return np.array([k.K for k in keyframe_map.keyframes.values()])


# Tracks --------------------------------------------------------------------------------------------------------------


def test_tracks_lie_on_the_surface_and_wrong_matches_are_left_out(exact_map, room):
    tracks = build_tracks(exact_map, K_of(exact_map))
    matches = sum(len(edge) for edge in exact_map.edges)
    assert 0.3 * matches < len(tracks) < matches
    assert np.median(tracks.errors) < 0.3 and tracks.errors.max() < MAX_REPROJECTION_PX
    X_home = T_WORLD_HOME.inverse() @ tracks.points
    X_cam = SE3.exp(STEPS[0]).inverse() @ X_home
    uv = X_cam @ room.camera.K.T
    uv = uv[:, :2] / uv[:, 2:]
    column, row = np.clip(np.rint(uv).astype(int), 0, (room.camera.width - 1, room.camera.height - 1)).T
    error = np.abs(X_cam[:, 2] / room.depth(SE3.exp(STEPS[0]))[row, column] - 1)
    assert np.median(error) < 0.005 and np.quantile(error, 0.9) < 0.05


def test_a_track_is_seen_once_by_each_of_at_least_two_keyframes(exact_map):
    tracks = build_tracks(exact_map, K_of(exact_map))
    assert (np.diff(tracks.point) >= 0).all()
    assert np.bincount(tracks.point, minlength=len(tracks)).min() >= 2
    pairs = np.stack([tracks.point, tracks.keyframe], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (np.bincount(tracks.point) == 3).any(), "matches of different edges that meet at a pixel belong together"


def test_random_matches_make_hardly_any_tracks():
    nonsense = random_map(matches=500)
    for keyframe in nonsense.keyframes.values():
        keyframe.calibrated = True
    assert len(build_tracks(nonsense, K_of(nonsense))) < 0.1 * sum(len(edge) for edge in nonsense.edges)


def test_a_map_without_edges_has_no_tracks():
    lonely = random_map((0,))
    tracks = build_tracks(lonely, K_of(lonely))
    assert len(tracks) == len(tracks.point) == 0 and tracks.points.shape == (0, 3) and tracks.pixels.shape == (0, 2)


def test_the_focal_length_of_keyframes_without_calibration_is_that_of_their_pointmaps(exact_map):
    guessed = KeyframeMap()
    for k in exact_map.keyframes.values():
        wrong = k.K * [[1.4], [1.4], [1.0]]
        guessed.add_keyframe(
            Keyframe(k.id, k.frame_id, k.stamp_ns, k.T_world_cam, k.X, k.conf, k.image, wrong, K_known=False, calibrated=False)
        )
    K = pinhole_intrinsics(guessed)
    np.testing.assert_allclose(K[:, [0, 1], [0, 1]], K_of(exact_map)[:, [0, 1], [0, 1]], rtol=0.01)
    assert (K[0] == K).all()
    np.testing.assert_array_equal(pinhole_intrinsics(exact_map), K_of(exact_map))


# COLMAP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("points", ["both", "matches", "cloud"])
def test_pycolmap_reads_the_model(exact_map, room, tmp_path, text, points):
    pycolmap = pytest.importorskip("pycolmap")
    cloud_config = CloudConfig(voxel_size=0.1)
    export_colmap(tmp_path / "out", exact_map, cloud_config, points=points, text=text)
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert model.num_images() == 3 and model.num_cameras() == 1
    K = room.camera.K
    camera = next(iter(model.cameras.values()))
    assert camera.model == pycolmap.CameraModelId.PINHOLE and (camera.width, camera.height) == (320, 240)
    np.testing.assert_allclose(camera.params, [K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5])
    for keyframe, image in zip(exact_map.keyframes.values(), (model.images[i] for i in (1, 2, 3)), strict=True):
        assert image.name == f"{keyframe.id:06d}.jpg"
        np.testing.assert_allclose(
            image.cam_from_world().inverse().matrix(), keyframe.T_world_cam.se3().as_matrix()[:3], atol=1e-12
        )
        stored = cv2.cvtColor(cv2.imread(str(tmp_path / "out" / "images" / image.name)), cv2.COLOR_BGR2RGB)
        assert np.abs(stored.astype(int) - keyframe.image).mean() < 3.0

    tracks, cloud = build_tracks(exact_map, K_of(exact_map)), cloud_of(exact_map, cloud_config)
    expected = {"both": len(tracks) + len(cloud), "matches": len(tracks), "cloud": len(cloud)}[points]
    assert model.num_points3D() == expected
    first = model.points3D[1]
    source = cloud if points == "cloud" else tracks
    np.testing.assert_allclose(first.xyz, source.points[0])
    np.testing.assert_array_equal(first.color, source.colors[0])
    # pycolmap itself projects the points to where their keyframes saw them.
    assert model.compute_num_observations() == (0 if points == "cloud" else len(tracks.point))
    errors = [
        np.linalg.norm(model.images[e.image_id].project_point(point.xyz) - model.images[e.image_id].points2D[e.point2D_idx].xy)
        for point in list(model.points3D.values())[::7]
        for e in point.track.elements
    ]
    assert points == "cloud" or (np.median(errors) < 0.3 and max(errors) < MAX_REPROJECTION_PX + 1)
    for image in model.images.values():
        assert all(p.has_point3D() for p in image.points2D)


def test_text_and_binary_are_the_same_model(exact_map, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    models = []
    for text in (False, True):
        export_colmap(tmp_path / str(text), exact_map, CloudConfig(voxel_size=0.1), text=text)
        models.append(pycolmap.Reconstruction(tmp_path / str(text) / "sparse" / "0"))
    binary, text_model = models
    assert set(binary.points3D) == set(text_model.points3D)
    for number, point in binary.points3D.items():
        other = text_model.points3D[number]
        assert point.xyz.tolist() == other.xyz.tolist() and point.color.tolist() == other.color.tolist()
        assert [(e.image_id, e.point2D_idx) for e in point.track.elements] == [
            (e.image_id, e.point2D_idx) for e in other.track.elements
        ]


def test_keyframes_of_different_intrinsics_have_cameras_of_their_own(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    mixed = random_map((0, 3, 6), width=64, height=48)
    mixed.keyframes[3].K = mixed.keyframes[3].K * [[2.0], [2.0], [1.0]]
    export_colmap(tmp_path / "out", mixed, CloudConfig())
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert model.num_cameras() == 2
    for image, keyframe in zip((model.images[i] for i in (1, 2, 3)), mixed.keyframes.values(), strict=True):
        np.testing.assert_allclose(model.cameras[image.camera_id].params[:2], keyframe.K[[0, 1], [0, 1]])


# nerfstudio ----------------------------------------------------------------------------------------------------------


def test_transforms_json_sees_the_cloud_where_the_images_show_it(exact_map, tmp_path):
    export_nerfstudio(tmp_path / "out", exact_map, CloudConfig(voxel_size=0.0))
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert (content["w"], content["h"], content["camera_model"]) == (320, 240, "OPENCV")
    cloud = read_ply(tmp_path / "out" / content["ply_file_path"])
    start = 0
    for frame, keyframe in zip(content["frames"], exact_map.keyframes.values(), strict=True):
        known = (keyframe.conf > 0).numpy()
        points = cloud.points[start : start + known.sum()]
        start += known.sum()
        # As OpenGL has it: the camera looks along -z, y is up.
        x, y, z = (np.linalg.inv(frame["transform_matrix"]) @ np.c_[points, np.ones(len(points))].T)[:3]
        assert (z < 0).all()
        u, v = content["cx"] + content["fl_x"] * x / -z, content["cy"] - content["fl_y"] * y / -z
        expected = pixel_grid(320, 240)[known] + 0.5
        np.testing.assert_allclose(np.c_[u, v], expected, atol=0.2)
        assert cv2.imread(str(tmp_path / "out" / frame["file_path"])).shape == (240, 320, 3)


def test_frames_have_intrinsics_of_their_own_where_they_differ(tmp_path):
    mixed = random_map((0, 3))
    mixed.keyframes[3].K = mixed.keyframes[3].K * [[2.0], [2.0], [1.0]]
    export_nerfstudio(tmp_path / "out", mixed, CloudConfig())
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert "fl_x" not in content
    assert content["frames"][1]["fl_x"] == pytest.approx(2 * content["frames"][0]["fl_x"])


def test_z_is_up_in_the_poses_and_the_cloud_and_the_export_is_read_back_as_it_was(exact_map, tmp_path, monkeypatch):
    for T_map_world in (None, SE3.exp(np.array([0.3, -1.0, 2.0, 0.2, 1.3, -0.4]))):
        out = tmp_path / ("robot" if T_map_world else "camera")
        monkeypatch.setattr(exact_map, "T_map_world", T_map_world)
        export_nerfstudio(out, exact_map, CloudConfig(voxel_size=0.0))
        content = json.loads((out / "transforms.json").read_text())
        matrices = np.array([frame["transform_matrix"] for frame in content["frames"]])
        cameras = [keyframe.T_world_cam.se3() for keyframe in exact_map.keyframes.values()]
        if T_map_world is None:  # the cameras' up, y of OpenGL, is z on average
            up = matrices[:, :3, 1].mean(0)
            np.testing.assert_allclose(up / np.linalg.norm(up), [0.0, 0.0, 1.0], atol=1e-9)
        else:
            np.testing.assert_allclose(matrices[:, :3, 3], [(T_map_world @ T).translation for T in cameras], atol=1e-9)
        T_up_world = SE3.from_matrix(np.vstack([content["applied_transform"], [0.0, 0.0, 0.0, 1.0]]))
        expected = T_up_world @ cloud_of(exact_map, CloudConfig(voxel_size=0.0)).points
        np.testing.assert_allclose(read_ply(out / content["ply_file_path"]).points, expected, atol=1e-5)
        truth = open_sequence(str(out)).truth
        assert truth is not None
        np.testing.assert_allclose(truth.positions, [T.translation for T in cameras], atol=1e-9)
        np.testing.assert_allclose(
            SE3.from_quaternion_xyzw(truth.quaternions_xyzw, truth.positions).rotation, [T.rotation for T in cameras], atol=1e-9
        )


# Cloud and trajectories ----------------------------------------------------------------------------------------------


def test_the_cloud_and_the_trajectories_are_those_of_the_map(exact_map, tmp_path):
    config = CloudConfig(voxel_size=0.05)
    export_ply(tmp_path / "cloud.ply", exact_map, config)
    np.testing.assert_array_equal(read_ply(tmp_path / "cloud.ply").points, cloud_of(exact_map, config).points)
    export_tum(tmp_path / "tum", exact_map)
    for name, expected in (
        ("trajectory.txt", exact_map.trajectory()),
        ("keyframes.txt", exact_map.keyframe_trajectory()),
    ):
        written = read_tum(tmp_path / "tum" / name)
        np.testing.assert_array_equal(written.stamps_ns, expected.stamps_ns)
        np.testing.assert_allclose(written.positions, expected.positions, atol=1e-8)


@pytest.mark.parametrize("cloud", [CloudConfig(voxel_size=1e-6), CloudConfig(min_conf=100.0)])
@pytest.mark.parametrize("export", [export_ply, partial(export_colmap, points="cloud"), export_nerfstudio])
def test_an_export_without_a_point_is_refused(exact_map, tmp_path, export, cloud):
    with pytest.raises(OutputError, match=r"out' is not written: cloud\.voxel_size, .* leave no point of the map"):
        export(tmp_path / "out", exact_map, cloud)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_never_replaced(exact_map, tmp_path):
    for export in (export_tum, lambda out, m: export_colmap(out, m, CloudConfig())):
        out = tmp_path / "out"
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        with pytest.raises(OutputError, match="not empty; give the name of a new folder"):
            export(out, exact_map)
        assert [path.name for path in Path(out).iterdir()] == ["notes.txt"] and len(list(tmp_path.iterdir())) == 1
        (out / "notes.txt").unlink()
        export(out, exact_map)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
        for path in sorted(out.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        out.rmdir()
