# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints in all the forms in which they are found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork

LINEAR = NetworkConfig(
    enc_embed_dim=32, enc_depth=1, enc_num_heads=2, dec_embed_dim=32, dec_depth=4, dec_num_heads=2,
    head="linear", desc_dim=0, image_size=(224, 224),
)  # fmt: skip
CATMLP = NetworkConfig(
    enc_embed_dim=32, enc_depth=1, enc_num_heads=2, dec_embed_dim=32, dec_depth=4, dec_num_heads=2, patch_size=4
)
LINEAR_ARGUMENTS = {
    "pos_embed": "RoPE100", "img_size": (224, 224), "head_type": "linear", "output_mode": "pts3d",
    "depth_mode": ("exp", float("-inf"), float("inf")), "conf_mode": ("exp", 1, float("inf")),
    "enc_embed_dim": 32, "enc_depth": 1, "enc_num_heads": 2, "dec_embed_dim": 32, "dec_depth": 4, "dec_num_heads": 2,
}  # fmt: skip
CATMLP_ARGUMENTS = LINEAR_ARGUMENTS | {
    "img_size": (512, 512), "head_type": "catmlp+dpt", "output_mode": "pts3d+desc24", "patch_size": 4,
    "patch_embed_cls": "ManyAR_PatchEmbed", "two_confs": True, "desc_conf_mode": ("exp", 0, float("inf")),
}  # fmt: skip

State = dict[str, torch.Tensor]


def make_state(config: NetworkConfig = LINEAR) -> State:
    """Random weights under the published names, with those that inference does not use.

    The large ones of the DPT are views of a few numbers, so that a file of them is small.
    """
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in PairNetwork(config).state_dict().items()}
    if config.head != "linear":
        for view, conv in ((1, "conv1"), (2, "conv2")):
            shapes[f"downstream_head{view}.dpt.scratch.refinenet4.resConfUnit1.{conv}.bias"] = torch.Size([256])
    generator = torch.Generator().manual_seed(0)
    state = {"mask_token": torch.zeros(1, 1, config.dec_embed_dim)}
    for name, shape in shapes.items():
        row = torch.randn(shape[-1:], generator=generator)
        state[name] = torch.randn(shape, generator=generator) if shape.numel() < 100_000 else row.expand(shape)
    for name in list(state):
        for number in range(4):
            if f".scratch.layer{number + 1}_rn." in name:
                state[name.replace(f"layer{number + 1}_rn", f"layer_rn.{number}")] = state[name]
    return state


def constructor(arguments: dict, name: str = "AsymmetricCroCo3DStereo") -> str:
    """The call, as text, that training scripts leave in `args.model`."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def save_pth(path: Path, state: State, model: str | None = None, **options) -> Path:
    """The public layout, with the arguments of the linear network unless `model` says otherwise."""
    arguments = argparse.Namespace(model=constructor(LINEAR_ARGUMENTS) if model is None else model, lr=1e-4, seed=0)
    torch.save({"args": arguments, "model": state, "epoch": 3}, path, **options)
    return path


def save_hub(folder: Path, state: State, arguments: dict | None = None) -> Path:
    """A folder as the Hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(arguments or LINEAR_ARGUMENTS))
    return folder


def save_sharded(folder: Path, state: State) -> Path:
    """A folder as the Hub has it, with the weights in two files."""
    folder.mkdir(parents=True)
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: state[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(LINEAR_ARGUMENTS))
    return folder
