# SPDX-License-Identifier: Apache-2.0
"""Times of every chosen stage, precision, mode, image size and batch, in one table."""

from __future__ import annotations

import gc
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch
from harness import Row, Table, Timing, measure
from network_bench.stages import PLAIN, PLAIN_DTYPE, PLAIN_MODE, STAGES, Stage, Workload, stage_flops, tf32

from st3r_ros.network.network import PairNetwork
from st3r_ros.pair.mast3r.load import DTYPES

MATMUL_SIZE = {"cuda": 8192, "cpu": 1024}
COLUMNS = (("stage", "stage", "<16", ""), ("size", "size", ">9", ""), ("batch", "batch", ">6", ""), ("space", "", ">2", ""))
COLUMNS += (("dtype", "dtype", "<10", ""), ("mode", "mode", "<9", ""), ("median_ms", "median ms", ">10", ".2f"))
COLUMNS += (("min_ms", "min ms", ">9", ".2f"), ("items_per_s", "items/s", ">9", ".2f"), ("gflop", "GFLOP", ">9", ".1f"))
COLUMNS += (("tflop_per_s", "TFLOP/s", ">9", ".2f"), ("share", "of matmul", ">10", ".0%"), ("peak_mib", "MiB", ">7", ".0f"))
TABLE = Table(COLUMNS, gap="")


def row(name: str, work_key: tuple[int, int, int, str, str], items: int, flops: float, rate: float, timing: Timing | None) -> Row:
    """The figures of a stage. work_key: width, height, batch, precision, mode. items, flops: of one call.

    matmul_rate: operations per second of a large matrix product in the same precision, in the same run. timing: None where there
    are no figures; `note` then says why.
    """
    per_s = 1e3 / timing.median_ms if timing else 0.0
    key = dict(zip(("width", "height", "batch", "dtype", "mode"), work_key, strict=True))
    figures = {"items": items, "flops": flops, "matmul_rate": rate, "timing": asdict(timing) if timing else None, "note": ""}
    rates = {"items_per_s": per_s * items, "flops_per_s": per_s * flops, "share_of_matmul": per_s * flops / rate}
    return {"kind": "Row", "stage": name, **key, **figures, **rates}


def line(row: Row) -> str:
    """Of the table; without figures, with the reason."""
    figures = row["timing"] or dict.fromkeys(("median_ms", "min_ms", "peak_mib"))
    work = {"gflop": 1e-9 * row["flops"], "tflop_per_s": 1e-12 * row["flops_per_s"], "share": row["share_of_matmul"]}
    if not row["flops"] or not row["timing"]:
        work = dict.fromkeys(work)
    size = f"{row['width']}x{row['height']}"
    return f"{TABLE.line({**row, **figures, **work, 'size': size, 'space': ''})} {row['note']}".rstrip()


def sweep(load: Callable[[torch.dtype], PairNetwork], choice: Namespace) -> Iterator[Row]:
    """A row for every combination that makes sense. load: gives the network in a precision, on the device to measure.

    choice: the command line of bench/network.py.
    """
    for dtype in choice.dtypes:
        with tf32(False):
            yield from _rows(load(DTYPES[dtype]), dtype, choice, [mode for mode in choice.modes if mode != PLAIN_MODE])
        free(choice.device)
    if PLAIN_MODE in choice.modes:
        yield from _rows(load(torch.float32), PLAIN_DTYPE, choice, [PLAIN_MODE])


def _rows(network: PairNetwork, dtype: str, choice: Namespace, modes: list[str]) -> Iterator[Row]:
    rate = matmul_rate(network.dtype, network.device, rounded=dtype == PLAIN_DTYPE)
    for width, height in choice.shapes:
        flops = stage_flops(network.config, width, height)
        for batch in choice.batches:
            work = Workload(network, flops, width, height, batch)
            for mode in modes:
                for name in choice.stages:
                    stage = PLAIN.get(name) if mode == PLAIN_MODE else STAGES[name]
                    if stage is not None and work.has(name, mode):
                        yield _measured(work, stage, (width, height, batch, dtype, mode), rate, choice)


def _measured(work: Workload, stage: Stage, key: tuple[int, int, int, str, str], rate: float, choice: Namespace) -> Row:
    device, mode = work.network.device, key[-1]
    free(device)
    if mode == "compile":
        torch.compiler.reset()  # else functions compiled for many shapes are no longer compiled at all
    try:
        timing = measure(stage.make(work, mode), device, choice.runs, 3 if device.type == "cuda" else 1)
        return row(stage.name, key, work.batch, work.batch * stage.flops(work.flops), rate, timing)
    except RuntimeError as error:  # out of memory; a compiler that is missing
        return {**row(stage.name, key, 0, 0.0, rate, None), "note": str(error).strip().splitlines()[0][:100]}


def matmul_rate(dtype: torch.dtype, device: torch.device, *, rounded: bool = False) -> float:
    """Operations per second of one large square matrix product. rounded: float32 factors may be rounded to TF32."""
    size = MATMUL_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with tf32(rounded):
        timing = measure(lambda: a @ b, device, runs=10)
    return 2.0 * size**3 / (1e-3 * timing.median_ms)


def free(device: torch.device) -> None:
    """Gives back what the last stage has held, so that the next one's memory is its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def speed_ups(rows: list[Row]) -> list[str]:
    """A sentence for every size and batch that was also measured by plain means."""
    found = []
    measured = [row for row in rows if row["timing"]]
    for base in (row for row in measured if row["mode"] == PLAIN_MODE):
        same = [row for row in measured if all(row[key] == base[key] for key in ("stage", "width", "height", "batch"))]
        best = max((row for row in same if row["mode"] != PLAIN_MODE), key=lambda row: row["items_per_s"], default=None)
        if best:
            text = "{stage}, {width}x{height}, batch {batch}: {} {} is {:.1f} times as fast as the plain way."
            found.append(text.format(best["dtype"], best["mode"], best["items_per_s"] / base["items_per_s"], **base))
    return found
