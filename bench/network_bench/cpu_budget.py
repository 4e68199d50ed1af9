# SPDX-License-Identifier: Apache-2.0
"""Mapping's work for its first pair and for a further frame on a CPU, in a process of its own so that its memory can be told."""

from __future__ import annotations

import torch
from harness import Row, peak_mib, timed
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
    cpu = torch.device("cpu")
    network, load_ms = timed(lambda: load_network(checkpoint) if checkpoint else procedural_network(weights))
    loaded_mib = peak_mib(cpu)
    model = MASt3RPairModel(network, MASt3RPairConfig(device="cpu", image_size=max(width, height)))
    frames = []
    for index, name in enumerate("abc"):
        image = source_image(name, width, height)
        frames.append(Frame(index, index, image, Camera.from_fov(image.shape[1], image.shape[0], FOV_DEG)))
    keyframe, encode_ms = timed(lambda: model.encode(frames[0]))
    _, first_ms = timed(lambda: model.infer([(keyframe, model.encode(frames[1]))]))
    outputs, further_ms = timed(lambda: model.infer([(keyframe, model.encode(frames[2]))]))
    desc0, desc1 = outputs[0].view0.desc, outputs[0].view1.desc
    match_ms = 0.0 if desc0 is None else timed(lambda: fast_reciprocal(desc0, desc1))[1]
    return {
        "kind": "CpuBudget",
        "width": width,
        "height": height,
        "threads": threads,
        "load_s": 1e-3 * load_ms,
        "first_pair_s": 1e-3 * (encode_ms + first_ms),
        "further_pair_s": 1e-3 * further_ms,
        "match_s": 1e-3 * match_ms,
        "loaded_mib": loaded_mib,
        "peak_mib": peak_mib(cpu),
    }


def line(row: Row) -> str:
    """What is printed of it."""
    return (
        "CPU, fp32, {threads} threads, {width}x{height}: first pair {first_pair_s:.1f} s, further pair {further_pair_s:.1f} s, "
        "matching {match_s:.2f} s; loading {load_s:.1f} s; peak memory of the process {peak_mib:.0f} MiB ({loaded_mib:.0f} MiB "
        "once loaded)."
    ).format(**row)
