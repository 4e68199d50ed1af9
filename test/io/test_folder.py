# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_images import encoded, number_of, picture, properties, write_pictures

from st3r_ros.errors import CalibrationError, InputError
from st3r_ros.geometry.camera import Camera
from st3r_ros.io.calibration import read_calibration, write_camera
from st3r_ros.io.layouts.open import open_folder
from st3r_ros.io.layouts.recording import DEFAULT_FPS
from st3r_ros.io.sequence import Selection
from st3r_ros.sequences import open_sequence

CAMERA = Camera.from_fov(48, 32, 60.0)


def numbers(sequence) -> list[int]:
    return [number_of(frame.image) for frame in sequence]


def stamps(sequence) -> list[int]:
    return [frame.stamp_ns for frame in sequence]


def test_names_are_in_natural_order_and_stamped_by_fps(tmp_path):
    write_pictures(tmp_path, ["frame1.png", "Frame2.JPG", "frame10.bmp", "frame10b.jpeg"])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".frame0.png").write_bytes(b"a hidden file")
    sequence = open_folder(tmp_path)
    assert numbers(sequence) == [0, 1, 2, 3] and sequence.length == 4 and sequence.kind == "folder"
    assert stamps(sequence) == [round(i * 1e9 / DEFAULT_FPS) for i in range(4)]
    assert stamps(open_folder(tmp_path, fps=4.0)) == [0, 250_000_000, 500_000_000, 750_000_000]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["9.5.png", "10.25.png", "10.3.png"], [9_500_000_000, 10_250_000_000, 10_300_000_000]),
        (["1403636579763555584.png", "1403636579813555456.png"], [1403636579763555584, 1403636579813555456]),
        (["1305031102.175304.jpg", "1305031102.211214.jpg"], [1305031102175304000, 1305031102211214000]),
        (["1700000000123.png", "1700000000456.png"], [1700000000123000000, 1700000000456000000]),
        (["1418381798086398.png", "1418381798149000.png"], [1418381798086398000, 1418381798149000000]),
        (["7.png", "8.png"], [0, round(1e9 / DEFAULT_FPS)]),
        (["1.5.png", "2.5.png", "other.png"], [0, round(1e9 / DEFAULT_FPS), round(2e9 / DEFAULT_FPS)]),
        (["1.0.png", "99999999999.0.png"], [0, round(1e9 / DEFAULT_FPS)]),
    ],
)
def test_names_that_are_all_times_are_the_stamps(tmp_path, names, expected):
    write_pictures(tmp_path, names)
    assert stamps(open_folder(tmp_path)) == expected
    assert numbers(open_folder(tmp_path)) == list(range(len(names)))


def test_frames_carry_id_image_and_the_camera_of_the_folder(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png"])
    write_camera(tmp_path / "camera.yaml", CAMERA)
    first, second = open_folder(tmp_path)
    assert (first.id, second.id) == (0, 1) and first.camera == second.camera == CAMERA
    np.testing.assert_array_equal(first.image, picture(0))
    other = Camera.from_fov(48, 32, 90.0)
    assert next(iter(open_folder(tmp_path, other))).camera == other


def test_unreadable_images_are_skipped_counted_and_keep_their_number(tmp_path):
    write_pictures(tmp_path, [f"{i}.png" for i in range(5)])
    (tmp_path / "1.png").write_text("not an image")
    (tmp_path / "3.png").write_bytes(encoded(picture(3))[:-60])
    sequence = open_folder(tmp_path)
    for _ in range(2):  # a second round starts the count again
        assert [frame.id for frame in sequence] == [0, 2, 4]
        assert [(item.index, item.source) for item in sequence.skipped] == [(1, "1.png"), (3, "3.png")]
    assert "no image" in sequence.skipped[0].reason and "cut short" in sequence.skipped[1].reason


@pytest.mark.parametrize("sizeless", [True, False])
def test_the_commonest_size_has_the_camera_whatever_the_first_image_is(tmp_path, sizeless):
    write_pictures(tmp_path, [f"{i}.jpg" for i in range(4)])
    (tmp_path / "0.jpg").write_bytes(encoded(picture(0, 32, 48), ".jpg"))
    turned, exif = Image.fromarray(np.rot90(picture(2)).copy()), Image.Exif()
    exif[0x0112] = 6  # upright it is like the others
    turned.save(tmp_path / "2.jpg", exif=exif)
    Image.fromarray(picture(3)).convert("L").save(tmp_path / "3.jpg")
    write_camera(tmp_path / "camera.yaml", CAMERA)
    if sizeless:
        lines = (tmp_path / "camera.yaml").read_text().splitlines()
        (tmp_path / "camera.yaml").write_text("\n".join(line for line in lines if "image_" not in line))
    sequence = open_folder(tmp_path)
    assert sequence.size == (48, 32)
    assert [frame.camera is not None for frame in sequence] == [False, True, True, True]


@pytest.mark.parametrize("size", [(48, 32), (40, 30)])
def test_of_as_many_images_of_two_sizes_those_of_the_calibration_are_taken(tmp_path, size):
    write_pictures(tmp_path, [f"{i}.png" for i in range(4)])
    for number in (2, 3):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(number, 40, 30)))
    assert open_folder(tmp_path).size == (48, 32)
    sequence = open_folder(tmp_path, Camera.from_fov(*size, 60.0))
    assert sequence.size == size
    assert [frame.camera is not None for frame in sequence] == [size == (48, 32)] * 2 + [size == (40, 30)] * 2
    write_camera(tmp_path / "camera.yaml", Camera.from_fov(*size, 60.0))
    assert open_folder(tmp_path).size == open_sequence(f"{tmp_path}?rectified=no").size == size


def test_images_of_another_size_come_without_a_camera(tmp_path):
    write_pictures(tmp_path, ["0.png", "1.png", "2.png"])
    (tmp_path / "1.png").write_bytes(encoded(picture(1, 40, 30)))
    frames = list(open_folder(tmp_path, CAMERA))
    assert [frame.image.shape[:2] for frame in frames] == [(32, 48), (30, 40), (32, 48)]
    assert [frame.camera is not None for frame in frames] == [True, False, True]


@pytest.mark.parametrize(
    ("folder", "options", "focal"),
    [("image_rect", "", 30.0), ("image_rect", "?rectified=no", 40.0), ("images", "", 40.0), ("images", "?rectified=yes", 30.0)],
)
def test_the_p_of_a_calibration_is_that_of_rectified_images(tmp_path, folder, options, focal):
    images = tmp_path / folder
    images.mkdir()
    write_pictures(images, ["0.png"])
    K = np.array([[40.0, 0.0, 23.5], [0.0, 40.0, 15.5], [0.0, 0.0, 1.0]])
    write_camera(images / "camera.yaml", Camera(48, 32, K, "plumb_bob", np.array([0.1, 0.0, 0.0, 0.0])))
    text = (images / "camera.yaml").read_text().split("projection_matrix")[0]
    (images / "camera.yaml").write_text(text + "projection_matrix: {data: [30, 0, 23.5, 0, 0, 30, 15.5, 0, 0, 0, 1, 0]}")
    sequence = open_sequence(f"{images}{options}")
    camera = next(iter(sequence)).camera
    assert (camera.K[0, 0], camera.has_distortion) == (focal, focal == 40.0)
    assert any("is treated as" in note for note in sequence.notes)


def test_a_calibration_without_a_size_is_for_the_images_that_there_are(tmp_path):
    write_pictures(tmp_path, ["0.png"])
    (tmp_path / "K.txt").write_text("40 0 24\n0 40 16\n0 0 1\n")
    camera = open_sequence(str(tmp_path), camera=read_calibration(tmp_path / "K.txt")).camera
    assert (camera.width, camera.height, camera.K[0, 2]) == (48, 32, 24.0)


def test_a_calibration_for_another_size_is_refused_by_name(tmp_path):
    write_pictures(tmp_path, ["0.png"])
    write_camera(tmp_path / "camera.yaml", Camera.from_fov(640, 480, 60.0))
    with pytest.raises(CalibrationError, match="is for images of 640x480 pixels, but these have 48x32"):
        list(open_folder(tmp_path))


def test_folders_that_cannot_be_read_say_why(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match="holds no images"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        open_folder(tmp_path / "absent")
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(InputError, match="fps is 0"):
        open_folder(tmp_path, fps=0)
    with pytest.raises(InputError, match=r"Not one image .*1 tried.*a\.jpg"):
        list(open_folder(tmp_path))


@properties
@given(total=st.integers(0, 50), every=st.integers(1, 9), limit=st.none() | st.integers(1, 20))
def test_the_selection_is_a_slice(total, every, limit):
    selection, expected = Selection(every, limit), list(range(total))[::every][:limit]
    assert list(selection.take(iter(range(total)))) == expected == list(selection.indices(total))
    assert selection.count(total) == len(expected) and selection.count(None) == limit


def test_only_selected_images_are_read(tmp_path):
    write_pictures(tmp_path, [f"{i}.png" for i in range(7)])
    (tmp_path / "1.png").write_text("not an image")
    sequence = open_folder(tmp_path, selection=Selection(every=3, max_frames=2))
    assert numbers(sequence) == [0, 3] and [frame.id for frame in sequence] == [0, 1]
    assert sequence.length == 2 and sequence.skipped == []
    for wrong in ((0, None), (1, 0)):
        with pytest.raises(InputError, match="must be at least 1"):
            Selection(*wrong)
