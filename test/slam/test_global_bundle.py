# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment of whole maps: keyframes, the frames between them, their points, and the pointmaps that follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.slam.keyframes.memory import retire
from st3r_ros.slam.keyframes.sightings import MATCHES_PER_FRAME, MAX_FRAMES, Sighting, Sightings
from st3r_ros.slam.keyframes.tracks import matched_pixels
from st3r_ros.slam.optimization.global_bundle import adjust_map
from st3r_ros.types import Edge, FramePose, Keyframe, Matches

CAMERA = Camera.from_fov(320, 240, 70.0)
KEYFRAMES, BETWEEN = 5, 3
STEP = KEYFRAMES * (BETWEEN + 1)


class World:
    """True poses T_world_cam of keyframes, each with frames after it, and points (P, 3) that all of them see."""

    def __init__(self, seed: int, points: int = 120) -> None:
        self.rng = np.random.default_rng(seed)
        self.poses = [Sim3.exp(0.05 * n * np.array([1.0, 0.2, 0.3, 0.05, -0.2, 0.1, 0.0])) for n in range(STEP)]
        X = CAMERA.unproject(self.rng.uniform((70, 60), (250, 180), (points, 2)), self.rng.uniform(3.0, 7.0, points))
        self.points = X[self._apart(CAMERA.project(X))]
        assert all((np.abs(self.pixels(n) - (160, 120)) < (158, 118)).all() for n in range(STEP))

    @staticmethod
    def _apart(pixels: np.ndarray) -> np.ndarray:
        whole = np.rint(pixels).astype(int)
        return np.unique(whole, axis=0, return_index=True)[1]

    def pixels(self, n: int) -> np.ndarray:
        return CAMERA.project(self.poses[n].inverse() @ self.points)

    def matches(self, a: int, b: int, wrong: int = 0) -> Matches:
        pixels = [torch.from_numpy(self.pixels(n)).float() for n in (a, b)]
        pixels[0][:wrong] += 30.0
        return Matches(*pixels, torch.ones(len(self.points)), len(self.points))

    def mapped(self, *, off: float = 0.02, wrong: int = 0, known: bool = True, camera: Camera = CAMERA) -> KeyframeMap:
        """The map of it: keyframes with units of their own, poses and depths a little off."""
        made = KeyframeMap()
        for k in range(KEYFRAMES):
            n = k * (BETWEEN + 1)
            unit = float(np.exp(self.rng.normal(0, 0.2)))
            error = Sim3.exp(np.append(self.rng.normal(0, off, 6), 0.0)) if k else Sim3.identity()
            T = self.poses[n] @ error
            X, conf = torch.zeros(240, 320, 3), torch.zeros(240, 320)
            column, row = np.rint(self.pixels(n)).astype(int).T
            z = (self.poses[n].inverse() @ self.points)[:, 2] * np.exp(self.rng.normal(0, off, len(row))) / unit
            X[row, column] = torch.from_numpy(camera.unproject(self.pixels(n), z)).float()
            conf[row, column] = 1.0
            image = np.zeros((240, 320, 3), np.uint8)
            T = Sim3(T.rotation, T.translation, np.float64(unit))
            made.add_keyframe(Keyframe(k, n, n * 10**8, T, X, conf, image, camera.K.copy(), K_known=known))
            made.add_frame(FramePose(n, n * 10**8, k, Sim3.identity()))
            for frame in range(n + 1, n + 1 + BETWEEN):
                pose = (
                    made.keyframes[k].T_world_cam.inverse()
                    @ self.poses[frame]
                    @ Sim3.exp(np.append(self.rng.normal(0, off, 6), 0))
                )
                pose = Sim3(pose.rotation, pose.translation, np.float64(1.0))
                made.add_frame(
                    FramePose(frame, frame * 10**8, k, pose), Sighting.pack(k, camera.K, self.matches(frame, n, wrong))
                )
            for other in range(max(k - 2, 0), k):
                seen = self.matches(n, other * (BETWEEN + 1), wrong)
                made.add_edge(Edge.pack(k, other, "sequential", seen.pixels0, seen.pixels1, seen.weight))
        return made

    def errors(self, made: KeyframeMap) -> np.ndarray:
        """Distances of all frames from their true positions, with the true unit."""
        positions, truth = made.trajectory().positions, np.stack([T.translation for T in self.poses])
        factor = np.linalg.norm(truth - truth[0]) / np.linalg.norm(positions - positions[0])
        return np.linalg.norm(truth[0] + factor * (positions - positions[0]) - truth, axis=1)


@pytest.mark.parametrize("wrong", [0, 20])
def test_keyframes_frames_and_depths_come_to_where_they_are(wrong):
    world = World(wrong)
    made = world.mapped(wrong=wrong)
    before = world.errors(made)
    told: list[str] = []
    retire(made.keyframes[0])
    report = adjust_map(made, told.append)
    assert [k.X.dtype for k in made.keyframes.values()] == [torch.float16] + 4 * [torch.float32]
    assert report is not None and (report.keyframes, report.frames) == (KEYFRAMES, KEYFRAMES * BETWEEN)
    assert report.points > 100 and report.rmse_px < 0.1 < report.rmse_before_px
    assert len(told) == 3 and "20 images" in told[0]
    assert np.median(world.errors(made)) < 0.1 * np.median(before)
    for k, keyframe in made.keyframes.items():
        n = k * (BETWEEN + 1)
        column, row = np.rint(world.pixels(n)[wrong:]).astype(int).T
        z = keyframe.X[row, column, 2].double().numpy() * float(keyframe.T_world_cam.scale)
        ratio = np.log(z / (world.poses[n].inverse() @ world.points)[wrong:, 2])
        # But for the unit of the map, and where two points share a pixel.
        assert np.quantile(np.abs(ratio - np.median(ratio)), 0.9) < 5e-3


def test_the_size_of_the_map_stays():
    world = World(3)
    made = world.mapped()
    made.rescale(7.0)
    spread = made.trajectory().positions.std(0)
    assert adjust_map(made) is not None
    np.testing.assert_allclose(np.linalg.norm(made.trajectory().positions.std(0)), np.linalg.norm(spread), rtol=0.02)


def test_an_assumed_focal_length_is_found_and_a_known_one_stays():
    world = World(4)
    guessed = Camera(
        320, 240, np.diag([1.08, 1.08, 1.0]) @ CAMERA.K + np.array([[0, 0, -0.08 * 159.5], [0, 0, -0.08 * 119.5], [0, 0, 0]])
    )
    report = adjust_map(world.mapped(camera=guessed, known=False))
    assert report is not None and report.focal_factor == pytest.approx(1 / 1.08, abs=0.01)
    known = world.mapped()
    K = known.keyframes[2].K.copy()
    report = adjust_map(known)
    assert report is not None and report.focal_factor == 1.0
    np.testing.assert_array_equal(known.keyframes[2].K, K)


def test_what_is_not_connected_with_the_rest_stays_as_it_is():
    world = World(5)
    made = world.mapped()
    for other in (2, 3):
        made.remove_edge(4, other)
    before = made.keyframes[4].T_world_cam, made.T_world_cam(-1)
    report = adjust_map(made)
    assert report is not None and report.keyframes == 4
    np.testing.assert_array_equal(made.keyframes[4].T_world_cam.as_matrix(), before[0].as_matrix())
    np.testing.assert_allclose(made.T_world_cam(-1).as_matrix(), before[1].as_matrix(), atol=1e-9)


def test_without_matches_there_is_nothing_to_adjust():
    made = World(6).mapped()
    for edge in list(made.edges):
        made.remove_edge(edge.i, edge.j)
    for place in range(STEP):
        made.sightings.drop(place)
    assert adjust_map(made) is None


def test_tracks_go_through_keyframes_and_frames():
    world = World(7)
    made = world.mapped()
    matched = matched_pixels(made.keyframes, made.edges, [seen for _, seen in made.sightings])
    tracks, views = np.unique(matched.track, return_counts=True)
    assert len(tracks) == len(world.points) and (views == STEP).all()
    alone = matched_pixels(made.keyframes, made.edges)
    assert alone.camera.max() == KEYFRAMES - 1 and len(alone.camera) == KEYFRAMES * len(world.points)
    assert len(matched_pixels([], []).track) == 0


def test_what_frames_see_is_bounded_and_follows_the_keyframes():
    pixels = torch.rand(2000, 2) * 300
    many = Matches(pixels, pixels, torch.ones(2000), 2000)
    assert len(Sighting.pack(0, CAMERA.K, many).packed_frame) == MATCHES_PER_FRAME
    none = Sighting.pack(1, CAMERA.K, many.chosen(torch.zeros(2000, dtype=torch.bool)))
    sightings = Sightings()
    for place in range(MAX_FRAMES + 1):
        sightings.add(place, none if place % 3 else Sighting(7, CAMERA.K, none.packed_frame, none.packed_keyframe))
    assert sightings.of_keyframe(1) == [(place, seen) for place, seen in sightings if seen.keyframe_id == 1]
    assert MAX_FRAMES / 2 <= len(sightings) <= MAX_FRAMES and max(place for place, _ in sightings) == MAX_FRAMES
    sightings.forget(7)
    assert sightings.of_keyframe(7) == []
    assert {seen.keyframe_id for _, seen in sightings} == {1}


def test_a_frame_that_becomes_a_keyframe_and_a_dropped_keyframe_have_no_sightings():
    made = World(8).mapped()
    count = len(made.sightings)
    place = max(place for place, _ in made.sightings)
    made.promote_last_frame(FramePose(99, 99 * 10**8, 0, Sim3.identity()))
    assert place not in dict(made.sightings)
    made.remove_keyframe(2, 1, made.keyframes[1].T_world_cam.inverse() @ made.keyframes[2].T_world_cam)
    assert len(made.sightings) == count - 1 - BETWEEN
    assert adjust_map(made) is not None
