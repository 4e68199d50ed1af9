# SPDX-License-Identifier: Apache-2.0
"""`st3r pair` as a user meets it, on small networks of random weights: their geometry means nothing, but all of it must fit."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_networks import CONFIGS, TRUNK

from procedural_weights import image, pool
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.geometry.transforms import SE3
from st3r_ros.io.ply import read_ply
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.preprocess import normalize, plan_image, resize_reference

PAIR_FILES = {f"{kind}{i}.{suffix}" for i in (0, 1) for kind, suffix in (("depth", "png"), ("depth", "npy"), ("pointmap", "ply"))}
PAIR_FILES |= {"confidence0.png", "confidence1.png", "points.ply", "matches.png", "summary.json"}
SINGLE_FILES = {"depth0.png", "depth0.npy", "pointmap0.ply", "confidence0.png", "summary.json"}
MODELS = {
    "mast3r": "AsymmetricMASt3R(head_type='catmlp+dpt', output_mode='pts3d+desc24', desc_conf_mode=('exp', 0, inf)",
    "linear": "AsymmetricCroCo3DStereo(head_type='linear', output_mode='pts3d'",
}
MODES = "two_confs=True, pos_embed='RoPE100', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf)"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with checkpoints (mast3r.pth, linear.pth) and images (wide.png, tall.png, other.png)."""
    folder = tmp_path_factory.mktemp("pair")
    sizes = ", ".join(f"{name.replace('image_size', 'img_size')}={value!r}" for name, value in TRUNK.items())
    for name, model in MODELS.items():
        arguments = argparse.Namespace(model=f"{model}, {MODES}, {sizes})")
        torch.save({"args": arguments, "model": make_state(name)}, folder / f"{name}.pth")
    for name, height, width in (("wide", 90, 128), ("tall", 100, 70), ("other", 90, 128)):
        cv2.imwrite(str(folder / f"{name}.png"), image(name, height, width)[..., ::-1])
    return folder


def make_state(name: str) -> dict[str, torch.Tensor]:
    """Weights as views of small pools, so that the file is small."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in PairNetwork(CONFIGS[name]).state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        values, step = pool(name, key, tuple(shape))
        inner = torch.empty(shape[1:], device="meta").stride()
        state[key] = torch.from_numpy(values).as_strided(shape, (step, *inner))
    return state


def rgb(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_fine_matches_are_in_the_pixels_of_the_working_images(st3r, files, tmp_path):
    arguments = ("pair", files / "wide.png", files / "tall.png", "--checkpoint", files / "mast3r.pth", "--out", tmp_path / "out")
    outcome = st3r(*arguments, "--fine", "--set", "mast3r.match_subsample=2")
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["timings_ms"]["match fine"] > 0.0
    assert summary["matches"] > 0


@pytest.mark.parametrize("name", ["mast3r", "linear"])
def test_a_pair_leaves_everything_that_was_promised(st3r, files, tmp_path, name):
    out = tmp_path / "out"
    outcome = st3r("pair", files / "wide.png", files / "tall.png", "--checkpoint", files / f"{name}.pth", "--out", out)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    summary = json.loads((out / "summary.json").read_text())
    assert {path.name for path in out.iterdir()} == set(summary["files"]) == PAIR_FILES
    assert all(file in outcome.out for file in PAIR_FILES)
    assert summary["model"] == ("mast3r" if name == "mast3r" else "dust3r")
    assert (summary["device"], summary["dtype"]) == ("cpu", "float32")
    assert set(summary["timings_ms"]) == {"load", "preprocess", "encode", "decode+heads", "match", "write"}
    assert all(value > 0.0 for value in summary["timings_ms"].values())
    assert [image["working_size"] for image in summary["images"]] == [[64, 32], [32, 64]]
    assert [image["size"] for image in summary["images"]] == [[128, 90], [70, 100]]
    assert summary["matches"] > 0
    if summary["pose"] is not None:
        T = np.array(summary["pose"]["T_0_1"])
        np.testing.assert_allclose(SE3.from_matrix(T).as_matrix(), T, atol=1e-9)
        assert summary["pose"]["translation"] == pytest.approx(np.linalg.norm(T[:3, 3]))
    clouds = [read_ply(out / f"{file}.ply") for file in ("pointmap0", "pointmap1", "points")]
    assert [len(cloud) for cloud in clouds] == [64 * 32, 32 * 64, 2 * 64 * 32]
    np.testing.assert_array_equal(clouds[2].points, np.concatenate([clouds[0].points, clouds[1].points]))
    assert all((cloud.conf >= 1.0).all() for cloud in clouds)


def test_what_is_written_is_what_the_network_says(st3r, files, tmp_path):
    out = tmp_path / "out"
    st3r("pair", files / "wide.png", files / "tall.png", "--checkpoint", files / "mast3r.pth", "--out", out)
    network = load_network(files / "mast3r.pth")
    images = [rgb(files / "wide.png"), rgb(files / "tall.png")]
    working = [resize_reference(one, plan_image(one.shape[1], one.shape[0], 64)) for one in images]
    inputs = [normalize(torch.from_numpy(one)[None]) for one in working]
    order01, order10 = network(*inputs), network(*reversed(inputs))
    for index, (in_camera0, own) in enumerate([(order01.view0, order01.view0), (order01.view1, order10.view0)]):
        cloud = read_ply(out / f"pointmap{index}.ply")
        np.testing.assert_allclose(cloud.points, in_camera0.X[0].reshape(-1, 3), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(cloud.conf, in_camera0.conf[0].reshape(-1), rtol=1e-4)
        np.testing.assert_array_equal(cloud.colors, working[index].reshape(-1, 3))
        depth = np.load(out / f"depth{index}.npy")
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, own.X[0, ..., 2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("again", [False, True])
def test_an_image_alone_or_twice_gives_its_depth(st3r, files, tmp_path, again):
    out = tmp_path / "out"
    images = [files / "wide.png"] * (2 if again else 1)
    outcome = st3r("pair", *images, "--checkpoint", files / "mast3r.pth", "--out", out, "--json", "-")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == json.loads((out / "summary.json").read_text())
    assert {path.name for path in out.iterdir()} == SINGLE_FILES
    assert json.loads(outcome.out)["matches"] is None
    assert np.load(out / "depth0.npy").shape == (32, 64)


def test_settings_reach_the_network(st3r, files, tmp_path):
    arguments = ("pair", files / "wide.png", files / "other.png", "--checkpoint", files / "mast3r.pth", "--out", tmp_path / "out")
    outcome = st3r(
        *arguments, "--dtype", "bf16", "--device", "cpu", "--set", "mast3r.image_size=96", "--json", tmp_path / "s.json"
    )
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["device"], summary["dtype"]) == ("cpu", "bfloat16")
    assert summary["images"][1]["working_size"] == [96, 64]


def test_the_opencv_model_gives_the_pose_of_a_simulated_pair(st3r, room, tmp_path):
    T_0_1 = SE3.exp(np.array([0.3, 0.02, 0.05, 0.01, -0.06, 0.0]))
    for index, T in enumerate([SE3.identity(), T_0_1]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), room.frame(T, index).image[..., ::-1])
    fov = 2 * np.degrees(np.arctan(0.5 * 320 / room.camera.K[0, 0]))
    outcome = st3r(
        "pair", tmp_path / "0.png", tmp_path / "1.png", "--pair-model", "opencv", "--out", tmp_path / "out",
        "--set", f"opencv.assumed_fov_deg={fov}",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["metric"], summary["unit"], summary["focal_source"]) == (False, "model units", "assumed")
    assert summary["images"][0]["focal_original"] == pytest.approx(room.camera.K[0, 0], rel=1e-6)
    found = SE3.from_matrix(np.array(summary["pose"]["T_0_1"]))
    assert np.rad2deg(np.linalg.norm((found @ T_0_1.inverse()).log()[3:])) < 1.0
    cosine = found.translation @ T_0_1.translation / np.linalg.norm(found.translation) / np.linalg.norm(T_0_1.translation)
    assert np.degrees(np.arccos(cosine)) < 5.0
    assert {path.name for path in (tmp_path / "out").iterdir()} == PAIR_FILES


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{tmp}/none.png", "{files}/wide.png"], "none.png' cannot be read"),
        (["{files}/wide.png", "{tmp}/cut.png"], "cut.png"),
        (["{files}/wide.png", "{tmp}/text.png"], "text.png"),
        (["{tmp}/thin.png"], "640x4 pixels"),
        (["{files}/wide.png", "--checkpoint", ""], "st3r download mast3r"),
        (["{files}/wide.png", "--checkpoint", "{tmp}/none.pth"], "none.pth"),
        (["{files}/wide.png", "--checkpoint", "{files}/wide.png"], "wide.png"),
        (["{files}/wide.png", "--dtype", "int8"], "mast3r.dtype is 'int8'; it must be one of auto, fp32, bf16, fp16."),
        (["{files}/wide.png", "--device", "tpu"], "mast3r.device is 'tpu'"),
        (["{files}/wide.png", "--pair-model", "magic"], "pair_model is 'magic'"),
        (["{files}/wide.png", "--pair-model", "opencv", "--checkpoint", ""], "cannot predict depth from one image"),
        (["{files}/wide.png", "--out", "{tmp}/text.png"], "cannot be written"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_code_2(st3r, files, tmp_path, arguments, sentence):
    (tmp_path / "cut.png").write_bytes((files / "wide.png").read_bytes()[:500])
    (tmp_path / "text.png").write_text("This is no image.")
    cv2.imwrite(str(tmp_path / "thin.png"), np.zeros((4, 640, 3), np.uint8))
    defaults = ["--checkpoint", files / "mast3r.pth", "--out", tmp_path / "out"]
    outcome = st3r("pair", *defaults, *(argument.format(tmp=tmp_path, files=files) for argument in arguments))
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.startswith("Error: ") and outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_an_image_of_one_pixel_is_enlarged_like_any_other(st3r, files, tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.full((1, 1, 3), 77, np.uint8))
    outcome = st3r("pair", tmp_path / "dot.png", "--checkpoint", files / "mast3r.pth", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "1x1 processed at 64x48" in outcome.out


def test_help_has_examples_and_loads_nothing_heavy(st3r):
    outcome = st3r("pair", "--help")
    assert outcome.code == 0 and "st3r pair " in outcome.out.partition("Examples:")[2]
    code = (
        "import sys; from st3r_ros.cli import main\n"
        "try: main(['pair', '--help'])\n"
        "except SystemExit: print({'torch', 'cv2', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "set()"
