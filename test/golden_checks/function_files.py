# SPDX-License-Identifier: Apache-2.0
"""Files of single functions of the network: rotary positions and what the raw outputs become."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from golden_checks.results import Result, Skipped, close
from st3r_ros.network.config import Activation
from st3r_ros.network.outputs import confidence, pointmap, unit_descriptors
from st3r_ros.network.rope import rope_table, rotate

TOLERANCE = 1e-6
UNLIMITED = Activation("exp", -math.inf, math.inf)
ABOVE_ONE = Activation("exp", 1.0, math.inf)
POSITIVE = Activation("exp", 0.0, math.inf)


def check_rope(path: Path) -> Iterator[Result]:
    """`in<D>`, (1, heads, n, D) turned by the tokens' positions `pos<D>` (y, x), is `out<D>`."""
    with np.load(path) as golden:
        for name in golden:
            if not (match := re.fullmatch(r"out(\d+)", name)):
                continue
            dim = int(match[1])
            x, positions = torch.from_numpy(golden[f"in{dim}"]), torch.from_numpy(golden[f"pos{dim}"])
            rows, columns = (positions.amax(dim=0) + 1).tolist()
            table = rope_table(rows, columns, dim)[positions[:, 0] * columns + positions[:, 1]]
            turned = rotate(x.transpose(1, 2), table[:, None]).transpose(1, 2)
            yield close(path.name, name, turned, golden[name], TOLERANCE)


def check_postprocess(path: Path) -> Iterator[Result]:
    """Points, confidences and descriptors from `raw` channels: xyz, confidence, descriptor, its confidence."""
    with np.load(path) as golden:
        raw = torch.from_numpy(golden["raw"]).movedim(1, -1)
        xyz, own = raw[..., :3], raw[..., 3]
        expected = {
            "mast3r_pts3d": pointmap(xyz, UNLIMITED),
            "mast3r_conf": confidence(own, ABOVE_ONE),
            "mast3r_desc": unit_descriptors(raw[..., 4:28]),
            "mast3r_desc_conf": confidence(raw[..., 28], POSITIVE),
            "dust3r_pts3d": pointmap(xyz, UNLIMITED),
            "dust3r_conf": confidence(own, ABOVE_ONE),
        }
        expected |= {f"mast3r_oneconf_{name}": expected[f"mast3r_{name}"] for name in ("pts3d", "conf", "desc")}
        expected["mast3r_oneconf_desc_conf"] = expected["mast3r_conf"]
        for name in golden:
            if match := re.fullmatch(r"depth_(linear|square|exp)", name):
                expected[name] = pointmap(xyz, Activation(match[1], -math.inf, math.inf))
            elif match := re.fullmatch(r"conf_(exp|sigmoid)_(\d+)_(\d+)", name):
                expected[name] = confidence(own, Activation(match[1], float(match[2]), float(match[3])))
            if name in expected:
                yield close(path.name, name, expected[name], golden[name], TOLERANCE)
            elif name != "raw":
                yield Skipped(path.name, name, "no such output here")
