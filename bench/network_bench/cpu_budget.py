# SPDX-License-Identifier: Apache-2.0
"""Mapping's work for its first pair and for a further frame on a CPU, in a process of its own so that its memory can be told."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from golden_checks.procedural import procedural_network
from network_bench.stages import FOV_DEG, source_image
from network_bench.timing import peak_mib
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.geometry.camera import Camera
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.types import Frame

T = TypeVar("T")


@dataclass(frozen=True)
class CpuBudget:
    """Seconds, without loading. first_pair: two images encoded, one decoded pair, all outputs. further_pair: one image encoded
    against a keyframe that is, all outputs. match: fast reciprocal matches of that pair. peak_mib: of the process."""

    width: int
    height: int
    threads: int
    load_s: float
    first_pair_s: float
    further_pair_s: float
    match_s: float
    loaded_mib: float
    peak_mib: float

    def __str__(self) -> str:
        return (
            f"CPU, fp32, {self.threads} threads, {self.width}x{self.height}: first pair {self.first_pair_s:.1f} s, further pair "
            f"{self.further_pair_s:.1f} s, matching {self.match_s:.2f} s; loading {self.load_s:.1f} s; peak memory of the "
            f"process {self.peak_mib:.0f} MiB ({self.loaded_mib:.0f} MiB once loaded)."
        )


def cpu_budget(weights: str, checkpoint: str, width: int, height: int, threads: int) -> CpuBudget:
    """Measures in a fresh process. weights: a set of procedural weights, used when there is no checkpoint."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, weights, checkpoint, width, height, threads).result()


def _measure(weights: str, checkpoint: str, width: int, height: int, threads: int) -> CpuBudget:
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    network, load_s = _timed(lambda: load_network(checkpoint) if checkpoint else procedural_network(weights))
    loaded_mib = peak_mib(cpu)
    model = MASt3RPairModel(network, MASt3RPairConfig(device="cpu", image_size=max(width, height)))
    frames = []
    for index, name in enumerate("abc"):
        image = source_image(name, width, height)
        frames.append(Frame(index, index, image, Camera.from_fov(image.shape[1], image.shape[0], FOV_DEG)))
    keyframe, encode_s = _timed(lambda: model.encode(frames[0]))
    _, first_s = _timed(lambda: model.infer([(keyframe, model.encode(frames[1]))]))
    outputs, further_s = _timed(lambda: model.infer([(keyframe, model.encode(frames[2]))]))
    desc0, desc1 = outputs[0].view0.desc, outputs[0].view1.desc
    match_s = 0.0 if desc0 is None else _timed(lambda: fast_reciprocal(desc0, desc1))[1]
    return CpuBudget(width, height, threads, load_s, encode_s + first_s, further_s, match_s, loaded_mib, peak_mib(cpu))


def _timed(run: Callable[[], T]) -> tuple[T, float]:
    """What a function returns, and the seconds it took."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start
