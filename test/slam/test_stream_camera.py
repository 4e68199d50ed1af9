# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from one_keyframe import map_of, masked_frame

from st3r_ros.geometry.camera import Camera
from st3r_ros.slam.tracking.fitted_images import resized
from st3r_ros.slam.tracking.stream import CameraWatch, MapStage, StreamCamera

LENS = Camera(1280, 960, np.array([[900.0, 0, 650], [0, 910, 470], [0, 0, 1]]), "plumb_bob", np.array([-0.3, 0.1, 0, 0]))


def camera(focal: float = 250.0, cx: float = 159.5, D: tuple[float, ...] = ()) -> Camera:
    return Camera(320, 240, np.array([[focal, 0, cx], [0, focal, 119.5], [0, 0, 1]]), "plumb_bob", np.array(D))


@pytest.fixture
def frame(room):
    return masked_frame(room)


def told(*cameras: Camera | None) -> list[str]:
    watch = CameraWatch()
    return [watch.look(each) for each in cameras]


def test_the_same_calibration_and_autofocus_say_nothing():
    assert told(None, camera(), camera(), None, camera(253.0), camera(249.0, 161.0)) == [""] * 6


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (camera(375.0), "its focal length is 375 px instead of 250"),
        (camera(cx=190.0), r"its principal point is (190, 120) instead of (160, 120)"),
        (camera(D=(-0.2, 0.05, 0.0, 0.0)), "its distortion is another one"),
    ],
)
def test_another_calibration_is_told_once(other, words):
    assert told(camera(), other, other, other) == ["", f"The calibration has changed: {words}", "", ""]


def test_a_zoom_is_told_at_every_few_per_cent_of_the_way():
    said = told(*(camera(250.0 * 1.005**k) for k in range(21)))
    assert 3 <= sum(bool(s) for s in said) <= 5 and not any("back and forth" in s for s in said)


def test_two_that_alternate_are_told_once():
    watch = CameraWatch()
    said = [watch.look(camera(each)) for each in (250.0, 375.0) * 5]
    assert [bool(s) for s in said] == [False, True, True] + [False] * 7
    assert "goes back and forth" in said[2] and watch.alternates


@pytest.mark.parametrize("lens", [None, LENS])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_images_without_calibration_have_that_of_the_map(room, frame, lens, factor):
    camera = StreamCamera(map_of(room.camera, lens=lens))
    size = round(factor * room.camera.width), round(factor * room.camera.height)
    without = dataclasses.replace(resized(frame, *size), camera=None)
    first, second = camera.rule(without, MapStage(settled=True)), camera.rule(without, MapStage(settled=True))
    assert first.frame.camera == (lens or room.camera).scaled(*size) and camera.lent
    assert "that of the map is used" in first.note and not second.note
    assert StreamCamera(map_of(room.camera)).rule(frame, MapStage()).frame is frame


def test_no_calibration_is_made_up_for_a_map_without_or_images_of_another_shape(room, frame):
    without = dataclasses.replace(frame, camera=None)
    wide = Camera.from_fov(room.camera.width, room.camera.height // 2, 60.0)
    for continued in (map_of(room.camera, known=False), None, map_of(wide)):
        assert StreamCamera(continued).rule(without, MapStage()).frame is without


def test_a_calibration_that_comes_late_is_used_for_a_start_and_not_for_a_map(frame):
    without = dataclasses.replace(frame, camera=None)
    for stage, camera, again in ((MapStage(starting=True), frame.camera, True), (MapStage(begun=True), None, False)):
        stream = StreamCamera()
        assert stream.rule(without, MapStage()).frame is without
        late = stream.rule(frame, stage)
        assert late.frame.camera == camera and late.begin_again is again and late.note
        assert not stream.rule(frame, stage).note


@pytest.mark.parametrize(
    ("stage", "again", "words"),
    [
        (MapStage(), True, "the map begins again"),
        (MapStage(settled=True), False, "begin a new one"),
        (MapStage(settled=True, frozen=True), False, "one of the two is wrong"),
    ],
)
def test_a_changed_calibration_begins_only_a_young_map_again(frame, stage, again, words):
    stream, zoomed = (
        StreamCamera(),
        dataclasses.replace(frame, camera=dataclasses.replace(frame.camera, K=frame.camera.K * [[2], [2], [1]])),
    )
    stream.rule(frame, stage)
    changed = stream.rule(zoomed, stage)
    assert changed.begin_again is again and words in changed.note and changed.frame is zoomed
