# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are as they should be, in every form, and what is said where they are not."""

import json

import pytest
import torch
from checkpoint_files import (
    CATMLP,
    CATMLP_ARGUMENTS,
    LINEAR,
    LINEAR_ARGUMENTS,
    constructor,
    make_state,
    save_hub,
    save_pth,
    save_sharded,
)
from safetensors.torch import save_file

from st3r_ros.checkpoints import checkpoint as checkpoint_module
from st3r_ros.checkpoints.checkpoint import load_network, read_checkpoint
from st3r_ros.errors import CheckpointError, CheckpointNotFoundError, ConfigError
from st3r_ros.network.config import Activation
from st3r_ros.network.network import laid_out


@pytest.fixture(scope="module")
def state():
    return make_state()


@pytest.fixture(scope="module")
def catmlp_state():
    return make_state(CATMLP)


def used(state):
    """The weights of a state that the network takes."""
    unused = ("mask_token", "layer_rn.", "refinenet4.resConfUnit1")
    return {name: value for name, value in state.items() if not any(part in name for part in unused)}


def assert_same(network, expected):
    loaded = network.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(value, expected[name].to(value.dtype)) for name, value in loaded.items())


def bare_safetensors(folder, state):
    """A file that carries its arguments in its own metadata."""
    save_file(state, folder / "weights.safetensors", {"config": json.dumps(LINEAR_ARGUMENTS)})
    return folder / "weights.safetensors"


def called_safetensors(folder, state):
    save_file(state, folder / "weights.safetensors", {"model": constructor(LINEAR_ARGUMENTS)})
    return folder / "weights.safetensors"


def prefixed(folder, state):
    return save_pth(folder / "a.pth", {f"module.{name}": value for name, value in state.items()})


def beside_a_config(folder, state):
    torch.save(state, folder / "a.pth")
    (folder / "config.json").write_text(json.dumps(LINEAR_ARGUMENTS))
    return folder / "a.pth"


@pytest.mark.parametrize(
    "save",
    [
        lambda folder, state: save_pth(folder / "a.pth", state),
        lambda folder, state: save_pth(folder / "named_otherwise", state),
        lambda folder, state: save_pth(folder / "a.pth", state, _use_new_zipfile_serialization=False),
        lambda folder, state: save_pth(folder / "a.pth", state).parent,
        save_hub,
        lambda folder, state: save_hub(folder, state) / "model.safetensors",
        lambda folder, state: save_sharded(folder / "sharded", state),
        bare_safetensors,
        called_safetensors,
        prefixed,
        beside_a_config,
    ],
    ids=[
        "pth", "no suffix", "before torch 1.6", "folder with one pth", "hub", "safetensors and config", "sharded",
        "config in metadata", "call in metadata", "prefix", "bare and config",
    ],
)  # fmt: skip
def test_every_form_gives_the_same_network(tmp_path, state, save):
    path = save(tmp_path, state)
    network = load_network(path)
    assert network.config == LINEAR
    assert_same(network, used(state))
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    assert read_checkpoint(path).unused == (("module.mask_token",) if save is prefixed else ("mask_token",))


def test_mast3r_with_views_of_shared_storage(tmp_path, catmlp_state):
    path = save_pth(tmp_path / "a.pth", catmlp_state, constructor(CATMLP_ARGUMENTS, "AsymmetricMASt3R"))
    checkpoint = read_checkpoint(path)
    assert (checkpoint.kind, checkpoint.config, checkpoint.problem, checkpoint.notes) == ("mast3r", CATMLP, "", ())
    network = load_network(path)
    assert all(laid_out(value) is value for value in network.parameters())
    assert_same(network, used(catmlp_state))


def test_the_sizes_are_told_from_the_tensors_where_nothing_else_tells_them(tmp_path, catmlp_state):
    arguments = {"enc_num_heads": 2, "dec_num_heads": 2}
    path = save_pth(tmp_path / "a.pth", catmlp_state, constructor(arguments, "AsymmetricMASt3R"))
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == CATMLP
    assert "img_size is not given: (512, 512) assumed." in checkpoint.notes


@pytest.mark.parametrize("is_list", [True, False])
def test_either_of_two_names_of_a_weight_is_enough(tmp_path, catmlp_state, is_list):
    kept = {name: value for name, value in catmlp_state.items() if "_rn." not in name or (".layer_rn." in name) == is_list}
    assert len(kept) == len(catmlp_state) - 8
    path = save_pth(tmp_path / "a.pth", kept, constructor(CATMLP_ARGUMENTS, "AsymmetricMASt3R"))
    assert read_checkpoint(path).problem == ""


def test_one_decoder_stands_for_both(tmp_path, state):
    path = save_pth(tmp_path / "a.pth", {name: value for name, value in state.items() if "dec_blocks2" not in name})
    loaded = load_network(path).state_dict()
    first = {name: value for name, value in loaded.items() if name.startswith("dec_blocks.")}
    assert first and all(torch.equal(loaded[name.replace("blocks", "blocks2")], value) for name, value in first.items())


@pytest.mark.parametrize(
    ("stored", "dtype", "legacy"),
    [
        (torch.float32, torch.float16, False),
        (torch.float32, torch.bfloat16, True),
        (torch.bfloat16, torch.float16, False),
        (torch.bfloat16, torch.bfloat16, False),
        (torch.float64, torch.float32, False),
    ],
)
def test_weights_come_as_the_type_asked_for(tmp_path, state, stored, dtype, legacy, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "BATCH_BYTES", 200_000)
    stored_state = {name: value.to(stored) for name, value in state.items()}
    path = save_pth(tmp_path / "a.pth", stored_state, _use_new_zipfile_serialization=not legacy)
    network = load_network(path, dtype=dtype)
    assert {value.dtype for value in network.parameters()} == {dtype}
    assert_same(network, used(stored_state))


def test_types_that_weights_cannot_have_are_refused(tmp_path, state):
    path = save_pth(tmp_path / "a.pth", state)
    with pytest.raises(ConfigError, match=r"dtype is torch.int8; weights can be"):
        load_network(path, dtype=torch.int8)
    with pytest.raises(ConfigError, match="device is 'fpga'"):
        load_network(path, device="fpga")
    large = save_pth(tmp_path / "b.pth", {**state, "enc_norm.weight": torch.full((32,), 1e6)})
    with pytest.raises(CheckpointError, match=r"enc_norm.weight contains values beyond the range of float16"):
        load_network(large, dtype=torch.float16)
    assert load_network(large, dtype=torch.bfloat16).enc_norm.weight[0] > 9e5


@pytest.mark.parametrize("count", [1, 7])
def test_missing_weights_are_named(tmp_path, state, count):
    gone = [name for name in state if name.startswith("enc_blocks.0.attn") or name.startswith("dec_blocks2.3.mlp")][:count]
    path = save_pth(tmp_path / "a.pth", {name: value for name, value in state.items() if name not in gone})
    assert read_checkpoint(path).missing == tuple(gone)
    with pytest.raises(CheckpointError, match=f"it lacks {gone[0]}.*{'and 3 more' if count == 7 else ''} "):
        load_network(path)


def test_unexpected_weights_are_named(tmp_path, state):
    path = save_pth(tmp_path / "a.pth", {**state, "dec_blocks.7.norm1.bias": torch.zeros(32), "other.weight": torch.zeros(3)})
    assert read_checkpoint(path).unexpected == ("dec_blocks.7.norm1.bias", "other.weight")
    with pytest.raises(CheckpointError, match=r"it has the unexpected dec_blocks.7.norm1.bias, other.weight"):
        load_network(path)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("enc_norm.bias", torch.zeros(33), r"enc_norm.bias is \(33,\), expected \(32,\)"),
        ("enc_norm.bias", torch.zeros(()), r"enc_norm.bias is \(\), expected \(32,\)"),
        ("enc_norm.bias", torch.zeros(32, dtype=torch.int64), "enc_norm.bias has dtype torch.int64"),
        ("enc_norm.bias", torch.zeros(32, dtype=torch.complex64), "enc_norm.bias has dtype torch.complex64"),
        ("enc_norm.bias", torch.zeros(32).to_sparse(), "enc_norm.bias has dtype torch.float32 .torch.sparse_coo"),
        ("enc_norm.bias", 3.0, "enc_norm.bias is a float, not a tensor"),
        ("dec_norm.bias", "text", "dec_norm.bias is a str, not a tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_told(tmp_path, state, name, value, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        load_network(save_pth(tmp_path / "a.pth", {**state, name: value}))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"head_type": "gs"}, "its head_type is 'gs'; this package knows catmlp.dpt, dpt, linear"),
        ({"output_mode": "pts3d+rgb"}, "its output_mode is 'pts3d.rgb'"),
        ({"output_mode": "pts3d+desc24"}, "only catmlp.dpt has descriptors"),
        ({"pos_embed": "cosine"}, "its pos_embed is 'cosine'; this package knows rotary positions"),
        ({"depth_mode": ("cubic", 0, 1)}, "depth_mode is 'cubic'"),
        ({"conf_mode": None}, "its conf_mode is 'None'"),
        ({"conf_mode": ("exp", "low", 3)}, "its conf_mode is "),
        ({"enc_depth": 10**9}, "its enc_depth is '1000000000'; it must be a whole number between 1 and 256"),
        ({"enc_depth": 2}, "it lacks enc_blocks.1.norm1.weight"),
        ({"dec_depth": 3}, "it has the unexpected dec_blocks.3"),
        ({"enc_embed_dim": 64}, r"patch_embed.proj.weight is \(32, 3, 16, 16\), expected \(64, 3, 16, 16\)"),
        ({"dec_num_heads": 5}, "dec_embed_dim is 32 with 5 heads"),
        ({"img_size": "large"}, "its img_size is 'large'"),
        ({"mlp_ratio": 2.5}, "its mlp_ratio is '2.5'"),
        ({"two_confs": "yes"}, "its two_confs is 'yes'"),
        ({"head_type": "dpt"}, "it lacks downstream_head1.dpt"),
    ],
)
def test_arguments_that_no_network_here_has_are_told(tmp_path, state, changed, sentence):
    path = save_pth(tmp_path / "a.pth", state, constructor(LINEAR_ARGUMENTS | changed))
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_network(path)
    assert str(raised.value).startswith(f"'{path}' cannot be used: ") and "\n" not in str(raised.value)


def test_another_model_is_told(tmp_path, state):
    with pytest.raises(CheckpointError, match=r"its model is 'VisionTransformer'; this package knows AsymmetricMASt3R"):
        load_network(save_pth(tmp_path / "a.pth", state, "VisionTransformer(depth=3)"))
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(4)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"contains no MASt3R.*patch_embed.proj.weight is missing.*conv1.weight, fc.bias"):
        load_network(tmp_path / "b.pth")


def test_arguments_without_effect_are_left_aside_and_unknown_ones_noted(tmp_path, state):
    text = constructor(LINEAR_ARGUMENTS | {"landscape_only": False, "freeze": "encoder", "novelty": 3})
    checkpoint = read_checkpoint(save_pth(tmp_path / "a.pth", state, f"{text[:-1]}, norm_layer=partial(f, eps=1e-6))"))
    assert checkpoint.problem == ""
    assert [note for note in checkpoint.notes if "novelty='3'" in note and "norm_layer" in note and "freeze" not in note]


def test_modes_are_read(tmp_path, state):
    changed = {"conf_mode": ("sigmoid", 0, 1), "depth_mode": ["square", "-inf", "Infinity"], "mlp_ratio": 4.0, "img_size": 512}
    config = read_checkpoint(save_hub(tmp_path, state, LINEAR_ARGUMENTS | changed)).config
    assert config.conf_mode == Activation("sigmoid", 0.0, 1.0)
    assert config.depth_mode == Activation("square", float("-inf"), float("inf"))
    assert config.image_size == (512, 512)


def test_what_nothing_tells_is_asked_for(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"put a config.json"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_croco_trunk_is_described_and_serves_as_encoder(tmp_path, state):
    trunk = {name: value for name, value in state.items() if "downstream" not in name and "dec_blocks2" not in name}
    trunk |= {"prediction_head.weight": torch.zeros(768, 32), "prediction_head.bias": torch.zeros(768)}
    sizes = {name: LINEAR_ARGUMENTS[name] for name in LINEAR_ARGUMENTS if name.startswith(("enc_", "dec_", "pos_"))}
    torch.save({"model": trunk, "croco_kwargs": sizes}, tmp_path / "croco.pth")
    checkpoint = read_checkpoint(tmp_path / "croco.pth")
    assert checkpoint.kind == "croco" and checkpoint.trunk_problem == ""
    assert checkpoint.missing and all(name.startswith("downstream_head") for name in checkpoint.missing)
    assert set(checkpoint.unused) == {"mask_token", "prediction_head.weight", "prediction_head.bias"}
    with pytest.raises(CheckpointError, match="it is a CroCo trunk without the heads"):
        load_network(tmp_path / "croco.pth")
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    complete = load_network(save_pth(tmp_path / "a.pth", state))
    assert torch.equal(load_network(tmp_path / "croco.pth", trunk_only=True).encode(images), complete.encode(images))


def test_the_numbers_of_a_description(tmp_path, catmlp_state):
    checkpoint = read_checkpoint(save_pth(tmp_path / "a.pth", catmlp_state, constructor(CATMLP_ARGUMENTS, "AsymmetricMASt3R")))
    network_size = sum(value.numel() for value in used(catmlp_state).values())
    assert checkpoint.parameters_used == network_size
    assert checkpoint.parameters == network_size + CATMLP.dec_embed_dim + 2 * 256  # mask_token, the skip's two biases
    assert checkpoint.dtypes == {"float32": len(catmlp_state)}
    assert len(checkpoint.unused) == 3


def test_a_checkpoint_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="There is no checkpoint"):
        load_network(tmp_path / "none.pth")
