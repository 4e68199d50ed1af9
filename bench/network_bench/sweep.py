# SPDX-License-Identifier: Apache-2.0
"""Times of every chosen stage, precision, mode, image size and batch, in one table."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from network_bench import plain
from network_bench.flops import stage_flops
from network_bench.stages import STAGES, Stage, Workload
from network_bench.timing import DTYPES, Timing, matmul_rate, measure, tf32
from st3r_ros.network.network import PairNetwork

HEADER = (
    f"{'stage':<16}{'size':>9}{'batch':>6}  {'dtype':<10}{'mode':<9}{'median ms':>10}{'min ms':>9}"
    f"{'items/s':>9}{'GFLOP':>9}{'TFLOP/s':>9}{'of matmul':>10}{'MiB':>7}"
)


@dataclass(frozen=True)
class Choice:
    """What is measured. sizes: (width, height) of working images. runs: timed calls of each."""

    stages: tuple[str, ...]
    dtypes: tuple[str, ...]
    modes: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    runs: int
    warm_up: int


@dataclass(frozen=True)
class Row:
    """One line of the table. matmul_rate: operations per second of a large matrix product in the same precision, in the same run.

    note: why there are no figures, "" when there are.
    """

    stage: str
    width: int
    height: int
    batch: int
    dtype: str
    mode: str
    items: int
    flops: float
    matmul_rate: float
    timing: Timing | None
    note: str = ""

    @property
    def items_per_s(self) -> float:
        """Images, pairs or frames per second."""
        return 1e3 * self.items / self.timing.median_ms if self.timing else 0.0

    @property
    def rate(self) -> float:
        """Operations per second."""
        return 1e3 * self.flops / self.timing.median_ms if self.timing else 0.0

    @property
    def share(self) -> float:
        """Of the matrix product's rate."""
        return self.rate / self.matmul_rate

    def __str__(self) -> str:
        head = f"{self.stage:<16}{f'{self.width}x{self.height}':>9}{self.batch:>6}  {self.dtype:<10}{self.mode:<9}"
        if self.timing is None:
            return f"{head} {self.note}"
        work = f"{1e-9 * self.flops:9.1f}{1e-12 * self.rate:9.2f}{self.share:10.0%}" if self.flops else f"{'':28}"
        time = f"{self.timing.median_ms:10.2f}{self.timing.min_ms:9.2f}{self.items_per_s:9.2f}"
        return f"{head}{time}{work}{self.timing.peak_mib:7.0f}"


def sweep(load: Callable[[torch.dtype], PairNetwork], choice: Choice) -> Iterator[Row]:
    """A row for every combination that makes sense. load: gives the network in a precision, on the device to measure."""
    for dtype in choice.dtypes:
        network = load(DTYPES[dtype])
        with tf32(False):
            yield from _rows(network, dtype, choice, [mode for mode in choice.modes if mode != plain.MODE])
        device = network.device
        del network
        free(device)
    if plain.MODE in choice.modes:
        yield from _rows(load(torch.float32), plain.DTYPE, choice, [plain.MODE])


def _rows(network: PairNetwork, dtype: str, choice: Choice, modes: list[str]) -> Iterator[Row]:
    rate = matmul_rate(network.dtype, network.device, rounded=dtype == plain.DTYPE)
    for width, height in choice.sizes:
        flops = stage_flops(network.config, width, height)
        for batch in choice.batches:
            work = Workload(network, flops, width, height, batch)
            for mode in modes:
                for name in choice.stages:
                    make = plain.PLAIN.get(name) if mode == plain.MODE else STAGES[name]
                    if make is not None and work.has(name, mode):
                        yield _row(work, name, make, dtype, mode, rate, choice)


def _row(
    work: Workload, name: str, make: Callable[[Workload, str], Stage], dtype: str, mode: str, rate: float, choice: Choice
) -> Row:
    key = (*work.size, work.batch, dtype, mode)
    free(work.network.device)
    if mode == "compile":
        torch.compiler.reset()  # else functions compiled for many shapes are no longer compiled at all
    try:
        stage = make(work, mode)
        timing = measure(stage.run, work.network.device, choice.runs, choice.warm_up)
        return Row(stage.name, *key, stage.items, stage.flops, rate, timing)
    except RuntimeError as error:  # out of memory; a compiler that is missing
        return Row(name, *key, 0, 0.0, rate, None, str(error).strip().splitlines()[0][:100])


def free(device: torch.device) -> None:
    """Gives back what the last stage has held, so that the next one's memory is its own."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def speed_ups(rows: list[Row]) -> list[str]:
    """A sentence for every size and batch that was also measured by plain means."""
    found = []
    for base in rows:
        if base.mode != plain.MODE or base.timing is None:
            continue
        key = (base.stage, base.width, base.height, base.batch)
        others = (row for row in rows if row.mode != plain.MODE and (row.stage, row.width, row.height, row.batch) == key)
        best = max(others, key=lambda row: row.items_per_s, default=None)
        if best is not None and best.timing is not None:
            ratio = best.items_per_s / base.items_per_s
            where = f"{base.stage}, {base.width}x{base.height}, batch {base.batch}"
            found.append(f"{where}: {best.dtype} {best.mode} is {ratio:.1f} times as fast as the plain way.")
    return found
