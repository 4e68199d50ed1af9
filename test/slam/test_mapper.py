# SPDX-License-Identifier: Apache-2.0
"""The mapper on short simulated sequences, with the weightless pair model."""

import copy
import dataclasses
import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from st3r_ros.config import CloudConfig, MapperConfig, SimulationConfig
from st3r_ros.errors import FrameError
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry import so3
from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.pair import load_pair_model
from st3r_ros.pair.opencv.config import OpenCVPairConfig
from st3r_ros.products.cloud import cloud_of
from st3r_ros.runtime import background_threads
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingState, MappingUpdate

FRAMES = 45


@dataclass(frozen=True, eq=False)
class Run:
    """A mapper that has seen a whole sequence."""

    mapper: Mapper
    updates: list[MappingUpdate]


def new_mapper() -> Mapper:
    return Mapper(load_pair_model("opencv", config=OpenCVPairConfig(max_features=800)))


def restamped(frame: Frame, index: int, image: np.ndarray | None = None) -> Frame:
    """The frame as number `index` of a stream, perhaps with another image."""
    return dataclasses.replace(frame, id=index, stamp_ns=index * 100_000_000, image=frame.image if image is None else image)


@pytest.fixture(scope="module")
def sequence() -> SimulatedSequence:
    return SimulatedSequence(SimulationConfig(seed=1, frames=2 * FRAMES, width=320, height=240), range(0, 2 * FRAMES, 2))


@pytest.fixture(scope="module")
def frames(sequence) -> list[Frame]:
    return list(sequence)


@pytest.fixture(scope="module")
def whole(frames) -> Run:
    """Only to be looked at."""
    mapper = new_mapper()
    return Run(mapper, [mapper.register_frame(frame) for frame in frames])


@pytest.fixture
def tracking(frames) -> tuple[Mapper, int]:
    """A mapper that tracks, to do something with, and the number of frames it has seen."""
    mapper = new_mapper()
    for index, frame in enumerate(frames):
        mapper.register_frame(restamped(frame, index))
        if mapper.state is MappingState.TRACKING and index > 12:
            return mapper, index + 1
    raise AssertionError("the mapper never tracked")


def snapshot(mapper: Mapper) -> tuple:
    poses = [k.T_world_cam.as_matrix().tolist() for k in mapper.map.keyframes.values()]
    conf = [float(k.conf.sum()) for k in mapper.map.keyframes.values()]
    return mapper.state, len(mapper.map.frames), len(mapper.map.edges), poses, conf


# The main journey ----------------------------------------------------------------------------------------------------


def test_a_short_sequence_is_tracked_along_its_true_path(whole, sequence):
    trajectory = whole.mapper.map.trajectory()
    errors = evaluate_trajectory(trajectory, sequence.truth, sequence.truth.stamps_ns)
    extent = np.ptp(sequence.truth.positions, axis=0).max()
    assert errors.tracked_share >= 0.95
    assert errors.ate_sim3 < 0.05 * extent
    assert set(trajectory.stamps_ns) <= set(sequence.truth.stamps_ns) and (np.diff(trajectory.stamps_ns) > 0).all()


def test_rotations_follow_the_truth(whole, sequence):
    errors = evaluate_trajectory(whole.mapper.map.trajectory(), sequence.truth)
    rotations = Sim3.from_quaternion_xyzw(whole.mapper.map.trajectory().quaternions_xyzw, np.zeros((errors.matched, 3))).rotation
    index = np.searchsorted(sequence.truth.stamps_ns, whole.mapper.map.trajectory().stamps_ns)
    true = sequence.T_world_cam[index].rotation
    turned = [R[0].T @ R for R in (true, rotations)]  # since the first frame: the positions leave the whole turn open
    off = so3.log(turned[0].swapaxes(-1, -2) @ turned[1])
    assert np.rad2deg(np.linalg.norm(off, axis=1)).max() < 1.0


def test_the_states_come_in_order(whole):
    states = [update.state for update in whole.updates]
    first_tracked = states.index(MappingState.TRACKING)
    assert first_tracked > 0 and set(states[:first_tracked]) == {MappingState.INITIALIZING}
    assert MappingState.WAITING not in states
    assert new_mapper().state is MappingState.WAITING


def test_the_cloud_lies_where_the_world_is(whole, sequence):
    """Each keyframe's points, put into the true camera at the map's scale, have the true depth."""
    errors = evaluate_trajectory(whole.mapper.map.trajectory(), sequence.truth)
    for keyframe in whole.mapper.map.keyframes.values():
        cloud = whole.mapper.map.keyframe_cloud(keyframe.id, min_conf=1.0)
        index = int(np.searchsorted(sequence.truth.stamps_ns, keyframe.stamp_ns))
        known = np.isfinite(cloud.points[..., 2])
        ratio = errors.scale * cloud.points[..., 2][known] / sequence.depth.depth(index)[known]
        assert np.median(np.abs(ratio - 1)) < 0.1 and np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.04
    first = whole.mapper.map.keyframe_cloud(0, min_conf=0.0)
    assert np.isfinite(first.points).all(-1).mean() > 0.3
    assert len(cloud_of(whole.mapper.map, CloudConfig(voxel_size=0.0, min_conf=0.0))) > 10_000


def test_updates_tell_what_happened(whole, frames):
    made, before = {0}, 0
    for frame, update in zip(frames, whole.updates, strict=True):
        assert (update.frame_id, update.stamp_ns) == (frame.id, frame.stamp_ns)
        assert set(update.changed_keyframes) <= set(whole.mapper.map.keyframes)
        assert (update.T_world_cam is None) == (update.covariance is None)
        assert (update.T_world_cam is not None) == (update.state in (MappingState.TRACKING, MappingState.RELOCALIZED))
        if update.new_keyframe is not None:
            assert update.new_keyframe in update.changed_keyframes and update.new_keyframe > before
            made.add(update.new_keyframe)
            before = update.new_keyframe
    assert made == set(whole.mapper.map.keyframes) and len(made) >= 2
    assert whole.updates[0].message


def test_covariances_are_covariances(whole):
    for update in whole.updates:
        if update.covariance is not None:
            assert update.covariance.shape == (6, 6) and update.covariance.dtype == np.float64
            np.testing.assert_allclose(update.covariance, update.covariance.T, atol=1e-12)
            assert np.linalg.eigvalsh(update.covariance).min() > 0
            assert np.sqrt(np.trace(update.covariance[:3, :3])) < 0.5 and np.sqrt(np.trace(update.covariance[3:, 3:])) < 0.2


def test_every_stage_is_timed(whole):
    for update in whole.updates:
        assert {"undistort", "encode"} <= set(update.timings_ms)
        assert all(milliseconds >= 0 for milliseconds in update.timings_ms.values())
    assert "track" in whole.updates[-1].timings_ms


def test_edges_tie_neighbouring_keyframes_by_pixels_inside_their_images(whole):
    tied = {(edge.i, edge.j) for edge in whole.mapper.map.edges}
    ids = list(whole.mapper.map.keyframes)
    assert {(b, a) for a, b in itertools.pairwise(ids)} <= tied
    for edge in whole.mapper.map.edges:
        assert len(edge.pixels_i) == len(edge.pixels_j) == len(edge.weight) <= whole.mapper.config.edge_matches
        for pixels in (edge.pixels_i.numpy(), edge.pixels_j.numpy()):
            assert ((pixels >= -0.5) & (pixels <= (319.5, 239.5))).all()


def test_all_frames_follow_their_keyframes(whole):
    keyframe_of = {frame.stamp_ns: frame.keyframe_id for frame in whole.mapper.map.frames}
    assert set(keyframe_of.values()) <= set(whole.mapper.map.keyframes)
    before = whole.mapper.map.trajectory()
    chosen = max(whole.mapper.map.keyframes)
    keyframe, shift = whole.mapper.map.keyframes[chosen], np.array([1.0, -2.0, 0.5])
    original = keyframe.T_world_cam
    keyframe.T_world_cam = Sim3(original.rotation, original.translation + shift, original.scale)
    after = whole.mapper.map.trajectory()
    keyframe.T_world_cam = original
    follows = np.array([keyframe_of[stamp] == chosen for stamp in before.stamps_ns.tolist()])
    np.testing.assert_allclose(after.positions - before.positions, follows[:, None] * shift, atol=1e-9)
    assert follows.any() and not follows.all()


# When the view is gone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cover", ["noise", "stranger", "black"])
def test_a_covered_camera_is_lost_and_found_again(cover, tracking, frames, room):
    mapper, seen = tracking
    poses = len(mapper.map.frames)
    rng = np.random.default_rng(0)
    for index in range(seen, seen + 3):
        covers = {
            "noise": rng.integers(0, 256, frames[0].image.shape).astype(np.uint8),
            "stranger": room.sequence.frame(40).image,
            "black": np.zeros_like(frames[0].image),
        }
        update = mapper.register_frame(restamped(frames[0], index, covers[cover]))
        assert update.state is MappingState.LOST
        assert update.T_world_cam is None and update.covariance is None
        assert "Lost" in update.message
    assert len(mapper.map.frames) <= poses
    found = mapper.register_frame(restamped(frames[seen - 1], seen + 3))
    assert found.state is MappingState.RELOCALIZED and found.message
    before = mapper.map.trajectory()
    np.testing.assert_allclose(before.positions[-1], before.positions[-2], atol=0.1)
    assert mapper.register_frame(restamped(frames[seen], seen + 4)).state is MappingState.TRACKING


def test_a_camera_that_only_turns_makes_no_map(room):
    mapper = new_mapper()
    for index in range(8):
        turn = Sim3.exp(np.array([0, 0, 0, 0, 0.02 * index, 0, 0])).se3()
        assert mapper.register_frame(room.frame(turn, index)).state is MappingState.INITIALIZING
    assert len(mapper.map.trajectory()) == 0


def test_a_stream_that_starts_black_makes_no_map_of_it(frames):
    mapper = new_mapper()
    for index in range(3):
        update = mapper.register_frame(restamped(frames[0], index, np.zeros_like(frames[0].image)))
        assert update.state is MappingState.INITIALIZING and update.T_world_cam is None
    assert mapper.register_frame(restamped(frames[0], 3)).state is MappingState.INITIALIZING
    assert not mapper.map.frames


def test_a_camera_that_stands_still_makes_no_map(frames):
    mapper = new_mapper()
    states = {mapper.register_frame(restamped(frames[0], index)).state for index in range(5)}
    assert states == {MappingState.INITIALIZING}


@pytest.mark.parametrize("region", [np.s_[40:, 80:240], np.s_[:, :120]], ids=["in the middle", "at the side"])
def test_a_masked_arm_before_the_camera_does_not_hold_up_tracking(region, frames, sequence):
    """A textured thing that moves with the camera covers two fifths of the view."""
    arm = np.random.default_rng(1).integers(0, 256, (24, 16, 3), np.uint8)
    mapper = new_mapper()
    for frame in frames:
        image, mask = frame.image.copy(), np.ones(frame.image.shape[:2], bool)
        image[region] = cv2.resize(arm, image[region].shape[1::-1], interpolation=cv2.INTER_CUBIC)
        mask[region] = False
        mapper.register_frame(dataclasses.replace(frame, image=image, mask=mask))
    assert len(mapper.map.frames) >= 0.95 * len(frames)
    assert all(not (keyframe.conf.numpy()[region] > 0).any() for keyframe in mapper.map.keyframes.values())


@pytest.mark.parametrize(
    "taken",
    [range(0, 30, 2), [*range(3), *range(11, 22)], [*range(8), *range(16, 26)], [0, 1, 7, 8, 9, 12, 13, 19, 20, 21, 26, 27]],
    ids=["four a second", "a gap of a second before there is depth", "a gap of a second after it", "bursts"],
)
def test_a_start_survives_a_low_or_irregular_rate(taken, frames, sequence):
    mapper = new_mapper()
    updates = [mapper.register_frame(frames[n]) for n in taken]
    assert MappingState.LOST not in {update.state for update in updates}
    errors = evaluate_trajectory(mapper.map.trajectory(), sequence.truth, sequence.truth.stamps_ns[list(taken)])
    assert errors.tracked_share >= 0.98  # also the frames before there was depth
    assert errors.ate_sim3 < 0.05 * np.ptp(sequence.truth.positions[list(taken)], axis=0).max()


def test_frames_before_the_first_keyframe_are_placed_when_the_map_starts(room):
    """The camera turns away from its first view, which showed no depth, then moves sideways."""
    mapper, turns, steps = new_mapper(), 9, 12
    angles = np.deg2rad(np.linspace(-55.0, 0.0, turns))
    path = [Sim3.exp(np.array([0, 0, 0, 0, angle, 0, 0])).se3() for angle in angles]
    path += [Sim3.exp(np.array([0.04 * (i + 1), 0, 0, 0, 0, 0, 0])).se3() for i in range(steps)]
    for index, T_home_cam in enumerate(path):
        if mapper.register_frame(room.frame(T_home_cam, index)).state is MappingState.TRACKING:
            break
    frames = mapper.map.frames
    first = mapper.map.keyframes[0].frame_id
    traced = [int(i) for i in frames.frame_ids if i < first]
    assert len(traced) >= 2 and (np.diff(frames.stamps_ns) > 0).all()
    for index in traced:
        at = frames.frame_ids.tolist().index(index)
        T_first_cam = mapper.map.T_world_cam(at)  # the first keyframe is the world
        error = T_first_cam.inverse() @ (path[first].inverse() @ path[index])
        assert np.rad2deg(np.linalg.norm(error.log()[3:])) < 2.0
        assert np.linalg.norm(T_first_cam.translation) < 0.1  # median depth 2


@pytest.mark.parametrize("background", [False, True])
def test_a_camera_that_turns_before_it_moves_has_its_turn_in_the_map(background):
    turning = SimulatedSequence(SimulationConfig(seed=3, frames=90, fps=12.0, start="turning", width=320, height=240))
    frames = list(turning)
    if background:
        with background_threads() as executor:
            mapper = Mapper(load_pair_model("opencv", config=OpenCVPairConfig(max_features=800)), executor=executor)
            for frame in frames:
                mapper.register_frame(frame)
            mapper.catch_up(wait=True)
        assert len(mapper.map.frames) > 0.5 * len(frames)  # there is no time for the whole turn
    else:
        mapper = new_mapper()
        for frame in frames:
            mapper.register_frame(frame)
        assert len(mapper.map.frames) >= 0.98 * len(frames)
    stamps = mapper.map.frames.stamps_ns
    assert (np.diff(stamps) > 0).all()
    error = evaluate_trajectory(mapper.map.trajectory(), turning.truth)
    assert error.ate_sim3 < 0.1 * error.truth_spread


def test_a_map_lost_right_after_its_start_begins_again_where_the_camera_is(frames, room):
    mapper = new_mapper()
    index = 0
    while mapper.state is not MappingState.TRACKING:
        mapper.register_frame(restamped(frames[index], index))
        index += 1
    elsewhere = [restamped(room.sequence.frame(n), index + n) for n in range(0, 25)]
    updates = []
    for frame in elsewhere:
        updates.append(mapper.register_frame(frame))
        if updates[-1].state is MappingState.TRACKING:
            break
    assert updates[0].state is MappingState.LOST and updates[-1].state is MappingState.TRACKING
    assert "begins again" in updates[-1].message
    placed = mapper.map.frames.frame_ids
    assert placed.min() >= index and len(placed) >= len(updates) - 1  # those of the first place are dropped, the others are there
    assert mapper.register_frame(elsewhere[len(updates)]).state is MappingState.TRACKING


def test_a_map_that_was_tracked_for_long_waits_for_its_view_to_come_back(tracking, frames, room):
    mapper, seen = tracking
    later = 60  # frames of a tenth of a second: the camera stood still
    assert mapper.register_frame(restamped(frames[seen - 1], seen + later)).state is MappingState.TRACKING
    before = len(mapper.map.frames)
    for n in range(12):  # enough for another start, were it allowed to
        assert mapper.register_frame(restamped(room.sequence.frame(n), seen + later + 1 + n)).state is MappingState.LOST
    assert len(mapper.map.frames) == before


# Frames that cannot be used ------------------------------------------------------------------------------------------


def unusable(frame: Frame, index: int) -> dict[str, Frame]:
    image = frame.image
    usable = restamped(frame, index)
    return {
        "another size": dataclasses.replace(usable, image=image[:-40].copy(), camera=None),
        "not RGB": dataclasses.replace(usable, image=image[..., :2].copy()),
        "grey": dataclasses.replace(usable, image=image[..., 0].copy()),
        "floats": dataclasses.replace(usable, image=image.astype(np.float32)),
        "empty": dataclasses.replace(usable, image=image[:0]),
        "calibration of another size": dataclasses.replace(usable, camera=Camera.from_fov(640, 480, 60.0)),
        "the same stamp again": dataclasses.replace(usable, stamp_ns=(index - 1) * 100_000_000),
        "an earlier stamp": dataclasses.replace(usable, stamp_ns=(index - 2) * 100_000_000),
    }


def test_unusable_frames_are_refused_and_change_nothing(tracking, frames):
    mapper, seen = tracking
    before = snapshot(mapper)
    for frame in unusable(frames[seen], seen).values():
        with pytest.raises(FrameError, match=f"Frame {seen} "):
            mapper.register_frame(frame)
        assert snapshot(mapper) == before
    assert mapper.register_frame(restamped(frames[seen], seen)).state is MappingState.TRACKING


@pytest.mark.parametrize("fault", ["not RGB", "grey", "floats", "empty", "calibration of another size"])
def test_an_unusable_first_frame_leaves_the_mapper_waiting(fault, frames):
    mapper = new_mapper()
    with pytest.raises(FrameError):
        mapper.register_frame(unusable(frames[0], 1)[fault])
    assert mapper.state is MappingState.WAITING and not mapper.map.keyframes
    smaller = cv2.resize(frames[0].image, (160, 120))  # its size has not become the stream's
    frame = dataclasses.replace(restamped(frames[0], 0, smaller), camera=None)
    assert mapper.register_frame(frame).state is MappingState.INITIALIZING


def test_a_stream_that_begins_with_odd_images_takes_the_size_of_the_others(frames):
    mapper = new_mapper()
    odd = restamped(frames[0], 0, cv2.resize(frames[0].image, (240, 320)))
    mapper.register_frame(dataclasses.replace(odd, camera=None))
    refused = 0
    for index, frame in enumerate(frames[1:20], start=1):
        try:
            update = mapper.register_frame(restamped(frame, index))
        except FrameError as error:
            refused += 1
            assert "320x240 but the stream began with 240x320" in str(error)
        else:
            if index == refused + 1:
                assert update.message == "The images are no longer 240x320: the map begins again with the new size."
    assert refused == 2 and mapper.state is MappingState.TRACKING


def test_a_map_is_not_given_up_for_images_of_another_size(tracking, frames):
    mapper, seen = tracking
    before = snapshot(mapper)
    for index in range(seen, seen + 30):
        other = restamped(frames[0], index, cv2.resize(frames[0].image, (240, 320)))
        with pytest.raises(FrameError, match="240x320"):
            mapper.register_frame(dataclasses.replace(other, camera=None))
    assert snapshot(mapper) == before


# Beginning again -----------------------------------------------------------------------------------------------------


def test_reset_forgets_everything(tracking, frames):
    mapper, _ = tracking
    mapper.reset()
    assert mapper.state is MappingState.WAITING
    assert not mapper.map.keyframes and not mapper.map.frames and not mapper.map.edges
    smaller = dataclasses.replace(restamped(frames[0], 0, cv2.resize(frames[0].image, (160, 120))), camera=None)
    assert mapper.register_frame(smaller).state is MappingState.INITIALIZING


def test_reset_tracking_keeps_the_map_and_finds_the_place_again(tracking, frames):
    mapper, seen = tracking
    before = snapshot(mapper)
    mapper.reset_tracking()
    assert mapper.state is MappingState.LOST and snapshot(mapper)[1:] == before[1:]
    update = mapper.register_frame(restamped(frames[seen - 1], 0))  # an earlier stamp than the last one
    assert update.state is MappingState.RELOCALIZED and update.T_world_cam is not None


def test_reset_tracking_before_there_is_a_map_starts_anew(frames):
    mapper = new_mapper()
    mapper.reset_tracking()
    assert mapper.state is MappingState.WAITING
    mapper.register_frame(restamped(frames[0], 5))
    mapper.reset_tracking()
    assert mapper.state is MappingState.WAITING and not mapper.map.keyframes
    assert mapper.register_frame(restamped(frames[1], 0)).state is MappingState.INITIALIZING


# Lens distortion -----------------------------------------------------------------------------------------------------


def test_distorted_frames_are_undistorted_before_they_are_mapped(frames):
    """A frame bent by a lens and the same frame of an ideal lens become the same keyframe."""
    ideal = frames[0]
    bent = dataclasses.replace(ideal.camera, distortion=np.array([-0.12, 0.03, 0.001, -0.001]))
    at = ideal.camera.project(bent.unproject(pixel_grid(320, 240))).astype(np.float32)
    image = cv2.remap(ideal.image, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    mapper = new_mapper()
    mapper.register_frame(Frame(0, 0, image, bent))
    features = mapper.map.keyframes[0].features
    np.testing.assert_allclose(features.K, ideal.camera.K)
    inner = (slice(30, -30), slice(30, -30))
    straight, crooked = (np.abs(features.image[inner].astype(int) - i[inner]).mean() for i in (ideal.image, image))
    off = np.abs(features.image[inner].astype(int) - ideal.image[inner]).mean()
    assert off == straight < 6.0
    assert np.abs(image[inner].astype(int) - ideal.image[inner]).mean() > 2 * straight and crooked > 2 * straight


def test_frames_without_calibration_are_mapped_too(frames, sequence):
    mapper = new_mapper()
    states = [mapper.register_frame(dataclasses.replace(frame, camera=None)).state for frame in frames[:25]]
    assert states[-1] is MappingState.TRACKING
    errors = evaluate_trajectory(mapper.map.trajectory(), sequence.truth)
    assert errors.ate_sim3 < 0.05 * np.ptp(sequence.truth.positions, axis=0).max()


def test_a_calibration_that_arrives_during_the_start_begins_it_again(frames):
    mapper = new_mapper()
    for index, frame in enumerate(frames[:3]):
        mapper.register_frame(restamped(dataclasses.replace(frame, camera=None), index))
    assert mapper.state is MappingState.INITIALIZING and not mapper.has_begun
    updates = []
    while mapper.state is MappingState.INITIALIZING:
        index = 3 + len(updates)
        updates.append(mapper.register_frame(restamped(frames[index], index)))
    assert ["The calibration has arrived: the start begins again with it." in update.message for update in updates] == [
        True,
        *[False] * (len(updates) - 1),
    ]
    assert mapper.state is MappingState.TRACKING and mapper.has_begun
    first = mapper.map.keyframes[0]
    assert first.frame_id == 3 and first.K_known
    assert all(keyframe.K_known for keyframe in mapper.map.keyframes.values())


def test_a_calibration_that_arrives_for_a_map_without_is_not_used(frames):
    mapper = new_mapper()
    messages = []
    for index, frame in enumerate(frames[:40]):
        given = frame if mapper.has_begun else dataclasses.replace(frame, camera=None)
        messages.append(mapper.register_frame(restamped(given, index)).message)
    assert mapper.has_begun and len(mapper.map.keyframes) > 1
    assert not any(keyframe.K_known for keyframe in mapper.map.keyframes.values())
    assert sum("arrived after mapping had started without it, so it is not used" in message for message in messages) == 1
    mapper.reset()
    mapper.register_frame(frames[0])
    assert mapper.map.keyframes[0].K_known


def test_a_full_map_drops_what_is_redundant_and_tracks_on():
    sequence = SimulatedSequence(SimulationConfig(seed=1, frames=180, width=320, height=240), range(0, 120, 2))
    mapper = Mapper(load_pair_model("opencv"), MapperConfig(max_keyframes=5, keyframe_match_fraction=0.8))
    sizes, states = [], []
    for frame in sequence:
        states.append(mapper.register_frame(frame).state)
        sizes.append(len(mapper.map.keyframes))
    assert max(sizes) == 5 and mapper.map.keyframes_dropped >= 2
    assert states.count(MappingState.LOST) == 0
    trajectory = mapper.map.trajectory()
    assert len(trajectory) == len(mapper.map.frames) >= 0.8 * len(states)
    errors = evaluate_trajectory(trajectory, sequence.truth)
    assert errors.ate_sim3 < 0.05 * errors.truth_spread


def test_a_flat_part_of_the_view_does_not_mislead_the_first_frame_after_a_keyframe():
    """At half the rate the camera of this room turns so far between two frames that the door, all that is known in the view after
    a keyframe, fits two poses; the one that goes on as before is right."""
    sequence = SimulatedSequence(SimulationConfig(seed=11, frames=300))
    mapper = Mapper(load_pair_model("opencv"))
    for n in range(0, 80, 2):
        mapper.register_frame(sequence.frame(n))
    errors = evaluate_trajectory(mapper.map.trajectory(), sequence.truth)
    assert errors.ate_sim3 < 0.02 * errors.truth_spread


# Calibrations that change ------------------------------------------------------------------------------------------------


def enlarged(camera: Camera, factor: float) -> Camera:
    """The camera with another focal length."""
    return dataclasses.replace(camera, K=camera.K * [[factor, 1, 1], [1, factor, 1], [1, 1, 1]])


def test_a_first_calibration_that_is_wrong_is_forgotten(frames, sequence):
    mapper = new_mapper()
    wrong = [dataclasses.replace(frame, camera=enlarged(frame.camera, 1.5)) for frame in frames[:5]]
    updates = [mapper.register_frame(frame) for frame in (*wrong, *frames[5:])]
    assert updates[5].note.endswith("the map begins again with it.")
    assert all(k.K[0, 0] == pytest.approx(sequence.camera.K[0, 0]) for k in mapper.map.keyframes.values())
    assert evaluate_trajectory(mapper.map.trajectory(), sequence.truth).ate_sim3 < 0.02


def test_a_calibration_that_changes_in_the_middle_is_said(frames):
    mapper = Mapper(load_pair_model("opencv"), dataclasses.replace(MapperConfig(), keyframe_match_fraction=0.9))
    for frame in frames[:30]:
        mapper.register_frame(frame)
    before = len(mapper.map.keyframes)
    assert before > 3
    update = mapper.register_frame(dataclasses.replace(frames[30], camera=enlarged(frames[30].camera, 1.3)))
    assert "keyframes of both are in the map" in update.note and len(mapper.map.keyframes) >= before


def test_a_calibration_that_changes_while_the_map_is_frozen_is_said_of_the_poses(whole, frames):
    mapper = new_mapper()
    mapper.load(copy.deepcopy(whole.mapper.map), frozen=True)
    mapper.register_frame(frames[5])
    update = mapper.register_frame(dataclasses.replace(frames[7], camera=enlarged(frames[7].camera, 1.3)))
    assert "and so are the poses by it" in update.note and "keyframes of both" not in update.note


@pytest.mark.parametrize(("frozen", "factor", "doubted"), [(False, 1.0, False), (False, 1.3, True), (True, 1.3, True)])
def test_a_calibration_that_does_not_fit_a_loaded_map_is_said(whole, frames, frozen, factor, doubted):
    mapper = new_mapper()
    mapper.load(copy.deepcopy(whole.mapper.map), frozen=frozen)
    updates = [mapper.register_frame(dataclasses.replace(f, camera=enlarged(f.camera, factor))) for f in frames[5:29:2]]
    said = [update.note for update in updates if "The calibration seems wrong" in update.note]
    assert len(said) == doubted


def test_time_that_goes_back_begins_the_tracking_again(whole, frames):
    mapper = new_mapper()
    for frame in frames[:30]:
        assert mapper.notice_time_jump(frame) == ""
        mapper.register_frame(frame)
    again = frames[5]
    assert (
        mapper.notice_time_jump(again)
        == f"Time went back by {(frames[29].stamp_ns - again.stamp_ns) / 1e9:.1f} s: tracking starts again."
    )
    assert mapper.register_frame(again).state is MappingState.RELOCALIZED
