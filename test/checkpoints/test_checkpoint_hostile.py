# SPDX-License-Identifier: Apache-2.0
"""Files that are no checkpoints, no more, or wish harm: each is refused with a sentence, and nothing in it runs."""

import argparse
import io
import json
import os
import pickle
import struct
import subprocess
import warnings
import zipfile

import numpy as np
import pytest
import torch
from checkpoint_files import LINEAR_ARGUMENTS, constructor, make_state, save_hub, save_pth, save_sharded
from safetensors.torch import save

from st3r_ros.checkpoints.checkpoint import load_network, read_checkpoint
from st3r_ros.errors import CheckpointError, CheckpointNotFoundError


class Planted:
    """Runs a command when it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def refusal(path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(CheckpointError) as raised:
        load_network(path)
    text = str(raised.value)
    assert text.startswith(f"'{path}' cannot be used: ") and text.endswith(".") and "\n" not in text
    return text


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.system, eval, subprocess.getoutput])
@pytest.mark.parametrize("place", ["args", "model", "beside", "whole", "in the namespace"])
def test_planted_code_is_named_and_does_not_run(tmp_path, function, zipped, place):
    ran = tmp_path / "ran"
    command = f"open({str(ran)!r}, 'w')" if function is eval else f"touch {ran}"
    planted = Planted(function, command)
    content = {"args": argparse.Namespace(model=constructor(LINEAR_ARGUMENTS)), "model": {"a": torch.zeros(2)}}
    if place == "in the namespace":
        content["args"].lr = planted
    elif place == "model":
        content["model"]["b"] = planted
    else:
        content[place] = planted
    path = tmp_path / "evil.pth"
    torch.save(planted if place == "whole" else content, path, _use_new_zipfile_serialization=zipped)
    assert f"{function.__name__}' when loaded" in refusal(path)
    assert not ran.exists()


def test_what_the_process_allows_elsewhere_is_not_allowed_here(tmp_path):
    ran = tmp_path / "ran"
    torch.save({"model": {"a": torch.zeros(2)}, "args": Planted(os.makedirs, str(ran))}, tmp_path / "evil.pth")
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([os.makedirs])
    try:
        allowed = torch.serialization.get_safe_globals()
        assert "'os.makedirs'" in refusal(tmp_path / "evil.pth")
        assert set(torch.serialization.get_safe_globals()) == set(allowed)
        assert not ran.exists()
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_a_plain_pickle_does_not_run_either(tmp_path):
    ran = tmp_path / "ran"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(Planted(os.system, f"touch {ran}"), protocol))
        refusal(tmp_path / "evil.pth")
    assert not ran.exists()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {ran}')",
        "AsymmetricCroCo3DStereo(enc_depth=__import__('os').system('touch {ran}'))",
        "AsymmetricCroCo3DStereo(**__import__('os').environ)",
        "(lambda: open('{ran}', 'w'))()",
    ],
)
def test_code_in_the_constructor_text_does_not_run(tmp_path, text):
    ran = tmp_path / "ran"
    refusal(save_pth(tmp_path / "evil.pth", make_state(), text.format(ran=ran)))
    assert not ran.exists()


def zip_of_text() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return file.getvalue()


def compiled() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; files of it remain
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), file)
    return file.getvalue()


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2754910614\n"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pth", b"", "it is empty"),
        ("a.safetensors", b"", "it is empty"),
        ("a.pth", b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page, not a weight file"),
        ("a.safetensors", b"\xef\xbb\xbf<html></html>", "it is a web page, not a weight file"),
        ("a.pth", LFS, "Git LFS pointer"),
        ("a.safetensors", LFS, "Git LFS pointer"),
        ("a.pth", b"Not Found", "it is not a weight file"),
        ("a.pth", zip_of_text(), "not a torch file"),
        ("a.pth", compiled(), "a compiled TorchScript program"),
        ("a.pth", saved([1, 2, 3]), "it contains a list, not weights"),
        ("a.pth", saved(torch.zeros(3)), "it contains a Tensor, not weights"),
        ("a.pth", saved({"epoch": 3, "model": {}}), "it contains no weights, only 'epoch, model'"),
        ("a.pth", saved({}), "it contains no weights"),
        ("a.pth", saved({"model": {"a": torch.zeros(2)}, "args": argparse.Namespace(model=3)}), "contains no MASt3R"),
        ("a.safetensors", struct.pack("<Q", 10) + b"not json!!" + b"0" * 64, "damaged or truncated"),
        ("a.safetensors", struct.pack("<Q", 2**60) + b"{}", "damaged or truncated"),
        ("a.safetensors", b"\x05\x00", "damaged or truncated"),
        ("a.safetensors", save({"a": torch.zeros(3)})[:-1], "damaged or truncated"),
        ("a.safetensors", save({"a": torch.zeros(3)}, {"config": "[1]"}), "must be an object with arguments"),
        ("a.safetensors", save({"a": torch.zeros(3)}, {"config": "{"}), "is not valid JSON"),
        ("a.safetensors", save({"a": torch.zeros(3)}, {"model": "eval('1')"}), "not a constructor call"),
    ],
)
def test_what_is_no_checkpoint_is_told(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    assert sentence in refusal(tmp_path / name)


def test_folders_without_usable_weights_are_told(tmp_path):
    assert "must contain model.safetensors and config.json, but has none" in refusal(tmp_path)
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    assert "2 weight files (a.pth, b.pth), give one" in refusal(tmp_path)
    with pytest.raises(CheckpointNotFoundError):
        load_network(tmp_path / "c")


def test_what_is_neither_file_nor_folder_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.pth")


def test_a_damaged_config_beside_the_weights_is_told(tmp_path):
    folder = save_hub(tmp_path, make_state())
    for content, sentence in (
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"3", "must be an object"),
    ):
        (folder / "config.json").write_bytes(content)
        assert sentence in refusal(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "model-3.safetensors", ""])
def test_an_index_names_files_of_its_folder_only(tmp_path, name):
    folder = save_sharded(tmp_path / "sharded", make_state())
    (tmp_path / "secret.safetensors").write_bytes(save({"a": torch.zeros(1)}))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "which is not in the folder" in refusal(folder)
    for weight_map in ({}, [], {"a": 3}):
        index.write_text(json.dumps({"weight_map": weight_map}))
        assert "lists no files" in refusal(folder)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_off_is_told(tmp_path, zipped, share):
    path = save_pth(tmp_path / "a.pth", make_state(), _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in refusal(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_give_a_sentence_or_a_network(tmp_path, form):
    """Whatever stands where, nothing but a CheckpointError comes out."""
    if form == "safetensors":
        path = save_hub(tmp_path, make_state()) / "model.safetensors"
    else:
        path = save_pth(tmp_path / "a.pth", make_state(), _use_new_zipfile_serialization=form == "zip")
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = content.copy()
        at = rng.integers(0, min(len(content), 4000), size=3)
        damaged[at] = rng.integers(0, 256, size=3)
        path.write_bytes(damaged.tobytes())
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 5
