# SPDX-License-Identifier: Apache-2.0
"""Files about weights: checkpoints `<set>.pth` of procedural values, and lists `keys_<set>.json` of a checkpoint's keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from golden_checks.procedural import SETS, weight
from golden_checks.results import Check, Result
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.network.network import PairNetwork

# What checkpoints have and inference does not use: a parameter of the training, a unit without input, second names of the same.
UNUSED = re.compile(r"mask_token|.*\.refinenet4\.resConfUnit1\..*|.*\.scratch\.layer_rn\.\d\..*")


def check_checkpoint(path: Path) -> Iterator[Result]:
    """The checkpoint loads, and every parameter is the procedural one."""
    network = load_network(path)
    wrong = [key for key, value in network.state_dict().items() if not torch.equal(value, weight(path.stem, key, value.shape))]
    yield Check(path.name, f"{len(network.state_dict())} parameters", "number different", len(wrong), 0.0)


def check_keys(path: Path) -> Iterator[Result]:
    """The network's parameters are those that the list has, but for what inference does not use."""
    with torch.device("meta"):
        network = PairNetwork(SETS[path.stem.removeprefix("keys_")])
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    theirs = json.loads(path.read_text(encoding="utf-8"))
    used = {key: shape for key, shape in theirs.items() if not UNUSED.fullmatch(key)}
    wrong = [key for key in ours.keys() | used.keys() if ours.get(key) != used.get(key)]
    yield Check(path.name, f"{len(theirs)} keys and shapes", "number different", len(wrong), 0.0)
