# SPDX-License-Identifier: Apache-2.0
"""Network files `<set>__<input>_<HxW>[_full].npz`: the arrays of one pair, some of them thinned, and statistics of the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from golden_checks.procedural import procedural_image
from golden_checks.results import (
    NETWORK_TOLERANCE,
    STATISTICS_TOLERANCE,
    Check,
    Result,
    Skipped,
    close,
    equal,
    relative_l2,
    statistics_error,
)
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize

NAME = re.compile(r"(?P<set>\w+?)__.+\.npz")
INPUTS = re.compile(r"img[12].*|sum_img|shape_img|true_shape|(token_)?stride_off")
WHOLE = {"stride_off": (1, 0, 0), "token_stride_off": (1, 0)}
MANYAR = {"stride_off": (4, 2, 1)}  # these files do not record theirs
BATCHED_UP_TO = 128 * 128  # pixels; larger images are not run again as a batch

Arrays = Mapping[str, np.ndarray]


def set_of(path: Path) -> str | None:
    """The weight set a network file was made with, None for another file."""
    match = NAME.fullmatch(path.name)
    return match["set"] if match else None


def check_network_file(path: Path, network: PairNetwork) -> Iterator[Result]:
    """Every array of a network file against what the network makes of the same input."""
    with np.load(path) as golden:
        if "true_shape" in golden:
            yield from _check_mixed(path.name, golden, network)
        else:
            yield from _check_pair(path.name, golden, network)


def images_of(golden: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The pair that a file was recorded from, (H, W, 3) uint8 each: the one in it, else the procedural one of its `shape_img`."""
    if "img1" in golden:
        return golden["img1"], golden["img2"]
    (size0, size1) = golden["shape_img"].tolist()
    return procedural_image("a", *size0), procedural_image("b", *size1)


def predict(network: PairNetwork, image0: np.ndarray, image1: np.ndarray) -> dict[str, np.ndarray]:
    """All arrays of one pair under their names in the files, from (H, W, 3) uint8 images: pixels (H, W, ...), tokens (n, C)."""
    arrays = {}
    with torch.inference_mode():
        pictures = [normalize(torch.from_numpy(image)[None], torch.float32) for image in (image0, image1)]
        tokens = [network.encode(picture) for picture in pictures]
        grids = [network.grid(picture) for picture in pictures]
        decoded = network.decode(*tokens, *grids)
        layers = (decoded.view0, decoded.view1)
        views = [
            network.head(view, layers[view], grids[view], network.image_part(view, tokens[view], grids[view])) for view in (0, 1)
        ]
        for view in (0, 1):
            arrays[f"enc{view + 1}"] = tokens[view][0].numpy()
            arrays[f"dec_last{view + 1}"] = layers[view][-1][0].numpy()
            hooks = network.config.hooks[1:-1] if network.config.head != "linear" else ()
            for hook, layer in zip(hooks, layers[view], strict=False):
                arrays[f"dec_hook{hook}_{view + 1}"] = layer[0].numpy()
        arrays.update(_named(PairOutput(*views), 0))
    return arrays


def _named(output: PairOutput, item: int) -> dict[str, np.ndarray]:
    """The outputs of one pair of a batch under their names in the files."""
    arrays = {"pts3d1": output.view0.X, "pts3d_in_other_view2": output.view1.X}
    for view, values in enumerate((output.view0, output.view1), start=1):
        arrays |= {f"conf{view}": values.conf, f"desc{view}": values.desc, f"desc_conf{view}": values.desc_conf}
    return {name: values[item].numpy() for name, values in arrays.items() if values is not None}


def _check_pair(file: str, golden: Arrays, network: PairNetwork) -> Iterator[Result]:
    image0, image1 = images_of(golden)
    if "sum_img" in golden:
        yield equal(file, "sum_img", np.array([image.sum(dtype=np.int64) for image in (image0, image1)]), golden["sum_img"])
    ours = predict(network, image0, image1)
    step, y, x = _thinning(golden, "stride_off", WHOLE)
    token_step, token = _thinning(golden, "token_stride_off", WHOLE)
    thinned = {
        name: values[token::token_step] if name.startswith(("enc", "dec_")) else values[y::step, x::step]
        for name, values in ours.items()
    }
    yield from _compare(file, golden, ours, thinned)
    if image0.shape == image1.shape and image0.size <= 3 * BATCHED_UP_TO:
        yield _check_batch(file, network, image0, image1, ours)


def _thinning(golden: Arrays, name: str, default: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Step and offsets of what is recorded."""
    return tuple(golden[name].tolist()) if name in golden else default[name]


def _check_mixed(file: str, golden: Arrays, network: PairNetwork) -> Iterator[Result]:
    """A training batch of landscape pairs and of portrait pairs stored transposed: each pair runs as it was taken."""
    pairs = []
    for height, width in golden["true_shape"].tolist():
        kind = "portrait" if height > width else "landscape"
        pair = predict(network, golden[f"img1_{kind}"], golden[f"img2_{kind}"])
        pixels = {name: values for name, values in pair.items() if not name.startswith(("enc", "dec_"))}
        pairs.append({name: values.swapaxes(0, 1) for name, values in pixels.items()} if height > width else pixels)
    ours = {name: np.stack([pair[name] for pair in pairs]) for name in pairs[0]}
    step, y, x = _thinning(golden, "stride_off", MANYAR)
    yield from _compare(file, golden, ours, {name: values[:, y::step, x::step] for name, values in ours.items()})


def _compare(file: str, golden: Arrays, ours: Arrays, thinned: Arrays) -> Iterator[Result]:
    """The recorded arrays against our thinned ones, the recorded statistics against our whole ones."""
    for name in golden:
        if name.startswith("stat_") and name[5:] in ours:
            yield Check(file, name, "statistics", statistics_error(ours[name[5:]], golden[name]), STATISTICS_TOLERANCE)
        elif name in thinned:
            yield close(file, name, thinned[name], golden[name], NETWORK_TOLERANCE)
        elif not INPUTS.fullmatch(name):
            yield Skipped(file, name, "not an output of the network")


def _check_batch(file: str, network: PairNetwork, image0: np.ndarray, image1: np.ndarray, alone: Arrays) -> Check:
    """The second pair of a batch whose first one is in the other order must come out as it does alone."""
    forth, back = (normalize(torch.from_numpy(image)[None], torch.float32) for image in (image0, image1))
    with torch.inference_mode():
        output = network(torch.cat((back, forth)), torch.cat((forth, back)))
    batched = _named(output, 1)
    worst = max(relative_l2(batched[name], alone[name]) for name in batched)
    return Check(file, "pixels in a batch of both orders", "relative L2", worst, NETWORK_TOLERANCE)
