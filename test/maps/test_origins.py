# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from map_samples import random_keyframe, random_map

from st3r_ros.geometry.camera import Camera
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.maps.exported import ExportedImage, exported_stems, sources_table
from st3r_ros.maps.load import load_map
from st3r_ros.maps.origins import Origin, read_origins, write_origins
from st3r_ros.maps.save import save_map

LENS = Camera(640, 480, np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), distortion=np.array([-0.3, 0.1, 0.0, 0.0, 0.0]))


def keyframes_of(*sources: str) -> list:
    keyframes = [random_keyframe(number) for number in range(len(sources))]
    for keyframe, source in zip(keyframes, sources, strict=True):
        keyframe.source = source
    return keyframes


def test_a_saved_map_tells_where_its_images_come_from(tmp_path):
    saved = random_map()
    saved.keyframes[0].source, saved.keyframes[0].lens = "/data/garden/DJI_0001.JPG", LENS
    saved.keyframes[7].source, saved.keyframes[7].lens = "/data/\u5ead/\udc80 2.png", LENS  # also a name that is no text
    saved.keyframes[2].source = "/camera/image_raw"
    save_map(tmp_path / "map", saved, pair_model="opencv")
    loaded = load_map(tmp_path / "map").map
    for number, keyframe in saved.keyframes.items():
        assert (loaded.keyframes[number].source, loaded.keyframes[number].lens) == (keyframe.source, keyframe.lens)
    content = json.loads((tmp_path / "map" / "map.json").read_text())
    assert len(content["lenses"]) == 1 and content["version"] == 1


def test_maps_without_origins_have_none():
    assert write_origins({}) == {} and read_origins({"format": "st3r_ros map"}) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"images": 3},
        {"images": [{"keyframe": 1}]},
        {"images": [{"keyframe": 1, "source": 7}]},
        {"images": [{"keyframe": 1, "source": "a", "lens": 0}]},
        {"images": [{"keyframe": 1, "source": "a", "lens": -1}], "lenses": []},
        {"images": [{"keyframe": 1e999, "source": "a"}]},
        {"lenses": [{"width": 640}]},
        {"lenses": [{"width": 640, "height": 480, "K": [0.0] * 9, "distortion_model": "plumb_bob", "D": []}]},
        {"lenses": [{"width": "640", "height": 480, "K": [[1]], "distortion_model": [], "D": "x"}]},
    ],
)
def test_damaged_origins_are_a_sentence(fields):
    with pytest.raises(ValueError, match="'lenses' or 'images' that are not as"):
        read_origins(fields)


def test_origins_survive_their_own_text():
    origins = {3: Origin("a.png", LENS), 4: Origin("b.png")}
    assert read_origins(json.loads(json.dumps(write_origins(origins)))) == origins


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["/a/DJI_1.JPG", "/a/DJI_2.jpg"], ["DJI_1", "DJI_2"]),
        (["/a/1.png", "/b/1.PNG", "/b/2.png"], ["000000_1", "000001_1", "2"]),
        (["/a/two words.png", "/a/b.png"], ["000000_two_words", "b"]),
        (["/a/..hidden.png"], ["000000__.hidden"]),
        (["/camera/image_raw", "/data/drive.mp4", ""], ["000000", "000001", "000002"]),
        (["/a/000001.png", ""], ["000000", "000001"]),
    ],
)
def test_exported_images_have_the_names_of_the_originals(sources, names):
    assert list(exported_stems(keyframes_of(*sources)).values()) == names


def test_the_table_of_sources_is_csv():
    lines = sources_table(keyframes_of("/a/one, two.png", "")).decode().splitlines()
    assert lines[0] == "keyframe,frame,stamp_ns,source"
    assert lines[1] == '0,0,1700000000000000000,"/a/one, two.png"' and lines[2].endswith("1700000000000000001,")


@pytest.mark.parametrize(
    ("size", "working", "resized"),
    [((1280, 960), (640, 480), (640, 480)), ((1000, 750), (512, 384), (512, 384)), ((1000, 707), (512, 352), (512, 362))],
)
def test_intrinsics_and_pixels_of_full_resolution_fit_together(size, working, resized):
    camera = Camera.from_fov(*size, 60.0)
    scaled = camera.scaled(*resized).cropped((resized[0] - working[0]) // 2, (resized[1] - working[1]) // 2, *working)
    image = ExportedImage.at_full_resolution("a.jpg", size, working)
    np.testing.assert_allclose(image.to_intrinsics(scaled.K), camera.K, rtol=1e-12)
    pixels = pixel_grid(*working)[::50, ::50].reshape(-1, 2)
    rays = scaled.unproject(pixels)
    np.testing.assert_allclose(camera.project(rays), image.to_pixels(pixels), atol=1e-9)
