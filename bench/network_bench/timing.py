# SPDX-License-Identifier: Apache-2.0
"""How long a function takes on a device, what memory it needs, and how fast the device multiplies matrices."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATMUL_SIZE = {"cuda": 8192, "cpu": 1024}
WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over `runs` calls; peak_mib: memory of the device (CUDA) or of the process so far (CPU)."""

    median_ms: float
    min_ms: float
    runs: int
    peak_mib: float


def measure(run: Callable[[], object], device: torch.device, runs: int, warm_up: int = WARM_UP) -> Timing:
    """Calls a function `warm_up` times and then `runs` times with a clock."""
    for _ in range(warm_up):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    times = [_milliseconds(run, device) for _ in range(runs)]
    return Timing(statistics.median(times), min(times), runs, peak_mib(device))


def peak_mib(device: torch.device) -> float:
    """The most memory held: by torch on a CUDA device since the last reset, CUDA graphs' included, else by this process ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def matmul_rate(dtype: torch.dtype, device: torch.device, *, rounded: bool = False) -> float:
    """Operations per second of one large square matrix product. rounded: float32 factors may be rounded to TF32."""
    size = MATMUL_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with tf32(rounded):
        timing = measure(lambda: a @ b, device, runs=10)
    return 2.0 * size**3 / (1e-3 * timing.median_ms)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, CUDA may (or may not) round float32 factors to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _milliseconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - start)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
