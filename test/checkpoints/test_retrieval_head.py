# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from safetensors.torch import save_file

from st3r_ros.checkpoints.retrieval import load_retrieval_head
from st3r_ros.errors import CheckpointError

CHANNELS = 16


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_saved_is_loaded(tmp_path, suffix):
    path, generator = tmp_path / f"retrieval{suffix}", torch.Generator().manual_seed(1)
    weights = {"mean": torch.rand(CHANNELS, generator=generator), "projection": torch.randn(8, CHANNELS, generator=generator)}
    tensors = {"power": torch.tensor([2.5]), **weights}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    head = load_retrieval_head(path)
    assert head.power == 2.5
    torch.testing.assert_close(head.whitening.mean, tensors["mean"])
    torch.testing.assert_close(head.whitening.projection, tensors["projection"])
    torch.save({name: value.half() for name, value in tensors.items() if name != "power"}, tmp_path / "half.pth")
    head = load_retrieval_head(tmp_path / "half.pth")
    assert head.power == 3.0 and head.whitening.projection.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mean": None}, r"contains power, projection; it must contain mean \(C,\), projection \(D, C\)"),
        ({"projection": torch.ones(8, 5)}, r"\(16,\) and its projection \(8, 5\)"),
        ({"projection": torch.ones(CHANNELS)}, r"\(16,\) and its projection \(16,\)"),
        ({"projection": torch.full((8, CHANNELS), torch.nan)}, "not finite"),
        ({"power": torch.tensor([0.0])}, r"power is \[0.0\]"),
        ({"power": torch.tensor([1.0, 2.0])}, r"power is \[1.0, 2.0\]"),
    ],
)
def test_a_file_of_other_tensors_says_what_is_wrong(tmp_path, changes, reason):
    tensors = {"power": torch.tensor([3.0]), "mean": torch.zeros(CHANNELS), "projection": torch.ones(8, CHANNELS)} | changes
    torch.save({name: value for name, value in tensors.items() if value is not None}, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match=rf"head\.pth' cannot be used: its? .*{reason}"):
        load_retrieval_head(tmp_path / "head.pth")


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    for name in ("page.pth", "absent.pth"):
        with pytest.raises(CheckpointError, match=name):
            load_retrieval_head(tmp_path / name)
