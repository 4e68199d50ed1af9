# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from st3r_ros.errors import CheckpointError, CheckpointNotFoundError, ConfigError, DeviceMemoryError
from st3r_ros.pair import load_pair_model
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.load import choose_dtype


def test_the_model_without_weights_loads_and_knows_its_name():
    assert load_pair_model("opencv").name == "opencv"


def test_an_unknown_model_is_named_together_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'nonsense'.*opencv, mast3r"):
        load_pair_model("nonsense")


def test_a_model_without_weights_takes_no_checkpoint(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="no weights"):
        load_pair_model("opencv", str(tmp_path / "weights.pth"))


def test_a_model_with_weights_asks_for_a_checkpoint_and_says_where_to_get_one():
    with pytest.raises(ConfigError, match=r"needs a checkpoint.*st3r download mast3r"):
        load_pair_model("mast3r")


def test_a_checkpoint_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match=r"weights\.pth"):
        load_pair_model("mast3r", str(tmp_path / "weights.pth"))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth.*cannot be used"):
        load_pair_model("mast3r", str(tmp_path / "weights.pth"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"device is 'cuda'.*no CUDA device"):
        load_pair_model("mast3r", "weights.pth", config=MASt3RPairConfig(device="cuda"))


def test_a_network_that_does_not_fit_on_the_gpu_is_one_sentence(tmp_path, monkeypatch):
    def load(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB, and much more")

    monkeypatch.setattr("st3r_ros.pair.mast3r.load.load_network", load)
    with pytest.raises(DeviceMemoryError, match=r"GPU's memory is full.*mast3r\.dtype"):
        load_pair_model("mast3r", "weights.pth")


def test_half_precision_is_for_cuda_unless_it_is_asked_for():
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.float16
    assert choose_dtype("bf16", torch.device("cpu")) is torch.bfloat16
