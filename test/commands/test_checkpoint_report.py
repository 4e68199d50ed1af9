# SPDX-License-Identifier: Apache-2.0
"""`st3r doctor CHECKPOINT`: what it says and what it returns."""

import hashlib
import json

import pytest
from checkpoint_files import LINEAR, make_state, save_hub, save_pth, save_sharded

from st3r_ros.checkpoints.published import find_published
from st3r_ros.cli import main
from st3r_ros.commands.byte_progress import plain_report
from st3r_ros.commands.progress import PLAIN_PERIOD_S


@pytest.fixture
def doctor(capfd):
    """Runs `st3r doctor ARGUMENTS`; returns its code and what it printed."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *map(str, arguments)])
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out or captured.err

    return run


def test_a_usable_checkpoint_is_described(doctor, tmp_path):
    path = save_pth(tmp_path / "a.pth", make_state())
    code, text = doctor(path)
    assert code == 0 and text.endswith("usable\n")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for expected in ("DUSt3R", sha256, "32 channels, 1 blocks, 2 heads", "linear", "224 pixels", "float32 (", "mask_token"):
        assert expected in text
    code, text = doctor(path, "--json")
    report = json.loads(text, parse_constant=pytest.fail)  # no Infinity, which is no JSON
    assert code == 0 and report["usable"] and report["kind"] == "dust3r"
    assert report["config"]["enc_embed_dim"] == LINEAR.enc_embed_dim and report["working_size"] == 224
    assert report["files"] == [{"path": str(path), "size": path.stat().st_size, "sha256": sha256, "sha256_recorded": ""}]
    assert report["parameters"] == report["parameters_used"] + LINEAR.dec_embed_dim


def test_the_licence_is_told_of_published_files(doctor, tmp_path):
    published = save_pth(tmp_path / find_published("dust3r-224").file_name, make_state())
    assert "CC BY-NC-SA 4.0" in doctor(published)[1]
    assert "does not know" in doctor(save_pth(tmp_path / "own.pth", make_state()))[1]


def test_every_file_of_a_folder_is_listed(doctor, tmp_path):
    code, text = doctor(save_sharded(tmp_path / "sharded", make_state()), "--json")
    assert code == 0 and len(json.loads(text)["files"]) == 2


def test_what_cannot_be_used_is_explained_with_code_1(doctor, tmp_path):
    state = make_state()
    del state["enc_norm.weight"]
    code, text = doctor(save_pth(tmp_path / "a.pth", state | {"extra.weight": state["mask_token"]}))
    assert code == 1 and "missing     enc_norm.weight" in text and "unexpected  extra.weight" in text and "NOT USABLE: " in text
    (tmp_path / "b.pth").write_text("<html>")
    code, text = doctor(tmp_path / "b.pth")
    assert code == 1 and "a web page" in text
    code, text = doctor(tmp_path / "b.pth", "--json")
    assert code == 1 and json.loads(text)["usable"] is False


def test_a_file_that_differs_from_its_record_is_not_usable(doctor, tmp_path):
    path = save_hub(tmp_path, make_state()) / "model.safetensors"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    record = tmp_path / "model.safetensors.sha256"
    record.write_text(f"{sha256}  model.safetensors\n")
    code, text = doctor(path)
    assert code == 0 and "as recorded" in text
    record.write_text(f"{'0' * 64}  model.safetensors\n")
    code, text = doctor(path)
    assert code == 1 and "damaged, or changed since" in text


def test_nothing_there_is_a_mistake_with_code_2(doctor, tmp_path):
    code, text = doctor(tmp_path / "none.pth")
    assert code == 2 and text.startswith("Error: There is no checkpoint") and text.count("\n") == 1


def test_a_slow_file_is_reported_now_and_then():
    said = []
    now = [0.0]
    report = plain_report("weights", said.append, clock=lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        report(second * 10**8, 2 * 10**9 if second < 8 else None)
    assert said == ["weights: 500.0 MB of 2.00 GB, 25%", "weights: 1.00 GB"]
    assert PLAIN_PERIOD_S == 5.0
