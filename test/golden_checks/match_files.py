# SPDX-License-Identifier: Apache-2.0
"""Files of matching: on given descriptors, `match_synthetic*.npz`, exact; on those of the tiny network, `match_tiny_*.npz`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from golden_checks.network_files import images_of, predict
from golden_checks.procedural import procedural_network
from golden_checks.results import (
    NETWORK_TOLERANCE,
    STATISTICS_TOLERANCE,
    Check,
    Result,
    Skipped,
    close,
    equal,
    relative_l2,
    share_missing,
    statistics_error,
)
from st3r_ros.pair.matching.matches import flat_index, merge_matches, pixels_at
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.pair.matching.reciprocal import DescriptorMaps, fast_reciprocal, one_order_matches, symmetric_matches
from st3r_ros.types import Matches

TINY_NAME = re.compile(r"match_tiny_\w+?_(\d+)x(\d+)\.npz")
TINY_NOT_RESULTS = re.compile(r"img[12]|s(hape|um)_img|\w+_S\d+_(xy2|conf)|margin_.*")
TINY_SET = "tiny_mast3r"
SYNTHETIC_SUBSAMPLE = 4  # of the one-order matches there
NEAR_TIES = 0.01  # share of the matches that rounding may turn
CONF_TOLERANCE = 1e-4
MERGE_SHAPES = (4, 3), (3, 3)
NOT_RESULTS = re.compile(r"desc[12]|conf[12]|init_[xy]|merge_in[12]|margin_.*")

Arrays = Mapping[str, np.ndarray]


def check_synthetic(path: Path) -> Iterator[Result]:
    """Every variant of reciprocal matching must give the same pixels in the same order."""
    with np.load(path) as file:
        golden = dict(file)
    ours = _synthetic_arrays({name: torch.from_numpy(values) for name, values in golden.items() if values.ndim}, list(golden))
    for name, values in golden.items():
        if name in ours:
            yield equal(path.name, name, ours[name], values)
        elif not NOT_RESULTS.fullmatch(name):
            yield Skipped(path.name, name, "this package does not compute it")


def check_tiny(path: Path) -> Iterator[Result]:
    """Matches of what the tiny network makes of both orders of a pair; near ties may turn."""
    with np.load(path) as file:
        golden = dict(file)
    if not golden.keys() & {"img1", "shape_img"}:
        match = TINY_NAME.fullmatch(path.name)
        if match is None:
            yield Skipped(path.name, "", "neither the file nor its name tells the images")
            return
        golden["shape_img"] = np.array([[int(match[1]), int(match[2])]] * 2)
    maps = _both_orders(*images_of(golden))
    for name, values in golden.items():
        if name.startswith("stat_"):
            yield Check(path.name, name, "statistics", statistics_error(maps[name[5:]], values), STATISTICS_TOLERANCE)
        elif name.startswith("desc_s8_"):
            yield close(path.name, name, maps[name.replace("_s8", "")][4::8, 4::8], values, NETWORK_TOLERANCE)
        elif found := re.fullmatch(r"(one|nonsym|sym)_S(\d+)_xy1", name):
            yield from _compare_matches(
                path.name, f"{found[1]}_S{found[2]}", _tiny_matches(found[1], maps, int(found[2])), golden
            )
        elif not TINY_NOT_RESULTS.fullmatch(name):
            yield Skipped(path.name, name, "this package does not compute it")


def _synthetic_arrays(given: Mapping[str, torch.Tensor], names: list[str]) -> dict[str, np.ndarray]:
    """Our values of the arrays of a file, from the descriptors and confidences in it."""
    desc0, desc1 = given["desc1"], given["desc2"]
    ours = {
        "brute_nn1to2": nearest(desc0.flatten(0, 1), desc1.flatten(0, 1)).index.numpy(),
        "brute_nn2to1": nearest(desc1.flatten(0, 1), desc0.flatten(0, 1)).index.numpy(),
    }
    for name in names:
        if match := re.fullmatch(r"S(\d+)((?:_block\d+|_l2|_kdtree|_basin)?)_xy1", name):
            found = fast_reciprocal(desc0, desc1, subsample=int(match[1]))
            ours |= _pixels(f"S{match[1]}{match[2]}", found)
            flat = flat_index(found.pixels0, desc0.shape[1]), flat_index(found.pixels1, desc1.shape[1])
            ours |= {f"S{match[1]}_flat_idx{view + 1}": flat[view].numpy() for view in (0, 1)}
            ours |= {f"S{match[1]}_yx_y1x1": found.pixels0.numpy().T[::-1], f"S{match[1]}_yx_y2x2": found.pixels1.numpy().T[::-1]}
        elif match := re.fullmatch(r"initxy_tol(\d+)_xy1", name):
            starts = torch.stack((given["init_x"], given["init_y"]), dim=1)
            found = fast_reciprocal(desc0, desc1, starts=starts, pixel_tolerance=float(match[1]))
            ours |= _pixels(f"initxy_tol{match[1]}", found)
        elif match := re.fullmatch(r"nonsym_tol(\d+)_xy1", name):
            maps = desc0, desc1, given["conf1"], given["conf2"]
            both = one_order_matches(*maps, subsample=SYNTHETIC_SUBSAMPLE, pixel_tolerance=float(match[1]))
            ours |= _pixels(f"nonsym_tol{match[1]}", both) | {f"nonsym_tol{match[1]}_conf": both.weight.numpy()}
    return ours | (_merged(given["merge_in1"], given["merge_in2"]) if "merge_in1" in given else {})


def _merged(index0: torch.Tensor, index1: torch.Tensor) -> dict[str, np.ndarray]:
    """The union of one list of pixels, its places in the list carried along as confidences."""
    pixels = pixels_at(index0.long(), MERGE_SHAPES[0][1]), pixels_at(index1.long(), MERGE_SHAPES[1][1])
    merged = merge_matches([Matches(*pixels, torch.arange(len(index0)))], *MERGE_SHAPES)
    return _pixels("merge", merged) | {"merge_index": merged.weight.numpy()}


def _pixels(name: str, matches: Matches) -> dict[str, np.ndarray]:
    return {f"{name}_xy1": matches.pixels0.numpy(), f"{name}_xy2": matches.pixels1.numpy()}


def _both_orders(image0: np.ndarray, image1: np.ndarray) -> dict[str, np.ndarray]:
    """The pixel arrays of both orders; `_ij` is image i in the frame of image j."""
    network = procedural_network(TINY_SET)
    maps = {}
    for order, first, second in (((image0, image1), "11", "21"), ((image1, image0), "22", "12")):
        output = predict(network, *order)
        for name in ("desc", "desc_conf"):
            maps |= {f"{name}_{first}": output[f"{name}1"], f"{name}_{second}": output[f"{name}2"]}
        maps |= {f"pts3d_{first}": output["pts3d1"], f"pts3d_{second}": output["pts3d_in_other_view2"]}
    return maps


def _tiny_matches(kind: str, maps: Arrays, subsample: int) -> Matches:
    first, second = (
        DescriptorMaps(*(torch.from_numpy(maps[name]) for name in (f"desc_{a}", f"desc_{b}", f"desc_conf_{a}", f"desc_conf_{b}")))
        for a, b in (("11", "21"), ("12", "22"))
    )
    if kind == "one":
        return fast_reciprocal(first.desc0, first.desc1, subsample=subsample)
    if kind == "nonsym":
        return one_order_matches(first.desc0, first.desc1, first.conf0, first.conf1, subsample=subsample)
    return symmetric_matches(first, second, subsample=subsample)


def _compare_matches(file: str, name: str, ours: Matches, golden: Arrays) -> Iterator[Check]:
    mine = np.concatenate((ours.pixels0.numpy(), ours.pixels1.numpy()), axis=1)
    theirs = np.concatenate((golden[f"{name}_xy1"], golden[f"{name}_xy2"]), axis=1)
    yield Check(file, f"{name}_xy", "share different", share_missing(mine, theirs), NEAR_TIES)
    if f"{name}_conf" in golden:
        mine_conf = dict(zip(map(tuple, mine.tolist()), ours.weight.tolist(), strict=True))
        theirs_conf = dict(zip(map(tuple, theirs.tolist()), golden[f"{name}_conf"].tolist(), strict=True))
        both = sorted(mine_conf.keys() & theirs_conf.keys())
        error = relative_l2(np.array([mine_conf[key] for key in both]), np.array([theirs_conf[key] for key in both]))
        yield Check(file, f"{name}_conf of common matches", "relative L2", error, CONF_TOLERANCE)
