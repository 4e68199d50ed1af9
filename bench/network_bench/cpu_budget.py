# SPDX-License-Identifier: Apache-2.0
"""Mapping's work for its first pair and for a further frame on a CPU, in a process of its own so that its memory can be told."""

from __future__ import annotations

import torch
from harness import Laps, Row, peak_mib
from network_bench.stages import FOV_DEG, source_image

from golden_checks.procedural import procedural_network
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.geometry.camera import Camera
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.types import Frame


def cpu_budget(weights: str, checkpoint: str, width: int, height: int, threads: int) -> Row:
    """Seconds, without loading. weights: a set of procedural weights, used when there is no checkpoint.

    first_pair_s: two images encoded, one decoded pair, all outputs. further_pair_s: one image encoded against a keyframe that is,
    all outputs. match_s: fast reciprocal matches of that pair. peak_mib: of the process.
    """
    torch.set_num_threads(threads)
    images = [source_image(name, width, height) for name in "abc"]
    camera = Camera.from_fov(images[0].shape[1], images[0].shape[0], FOV_DEG)
    frames = [Frame(index, index, image, camera) for index, image in enumerate(images)]
    laps = Laps()
    network = load_network(checkpoint) if checkpoint else procedural_network(weights)
    laps("load_s")
    loaded_mib = peak_mib(torch.device("cpu"))
    model = MASt3RPairModel(network, MASt3RPairConfig(device="cpu", image_size=max(width, height)))
    laps("")
    keyframe = model.encode(frames[0])
    model.infer([(keyframe, model.encode(frames[1]))])
    laps("first_pair_s")
    (output,) = model.infer([(keyframe, model.encode(frames[2]))])
    laps("further_pair_s")
    if output.view0.desc is not None:
        fast_reciprocal(output.view0.desc, output.view1.desc)
    laps("match_s")
    seconds = {name: 1e-3 * ms for name, ms in laps.ms.items() if name}
    memory = {"loaded_mib": loaded_mib, "peak_mib": peak_mib(torch.device("cpu"))}
    return {"kind": "CpuBudget", "width": width, "height": height, "threads": threads, **seconds, **memory}


def line(row: Row) -> str:
    """What is printed of it."""
    return (
        "CPU, fp32, {threads} threads, {width}x{height}: first pair {first_pair_s:.1f} s, further pair {further_pair_s:.1f} s, "
        "matching {match_s:.2f} s; loading {load_s:.1f} s; peak memory of the process {peak_mib:.0f} MiB ({loaded_mib:.0f} MiB "
        "once loaded)."
    ).format(**row)
