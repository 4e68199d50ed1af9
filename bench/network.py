# SPDX-License-Identifier: Apache-2.0
"""How fast, how large and how exact two-view inference is, stage by stage.

Without arguments: one quick pass, the full-size network on CUDA, a tiny one (stock heads, small trunk) on a CPU. Without
--checkpoint the weights are made up, which takes the same time as trained ones. "of matmul" is the share of the rate that one
large matrix product reaches in the same run and precision; the mode plain is the baseline of the ratios (network_bench/plain.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from golden_checks.procedural import procedural_network
from network_bench import plain
from network_bench.cpu_budget import CpuBudget, cpu_budget
from network_bench.precision import HALVES, NeighbourAgreement, PrecisionError, precision_errors
from network_bench.stages import MODES, STAGES
from network_bench.sweep import HEADER, Choice, Row, speed_ups, sweep
from network_bench.timing import DTYPES
from st3r_ros.errors import St3rError
from st3r_ros.network.checkpoint import load_network
from st3r_ros.network.network import PairNetwork

WEIGHTS = {"full": "full_mast3r", "tiny": "tiny_mast3r"}
ALL_SIZES = ((512, 384), (512, 288), (224, 224))
ALL_BATCHES = (1, 2, 4, 8, 16, 32)
BUDGET_THREADS = 2
EXAMPLES = """examples:
  python bench/network.py                                               quick
  python bench/network.py --sweep --json network.json                   everything; an hour and more
  python bench/network.py --size full --stages tracked --dtypes bf16 --modes graphs compile plain --shapes 512x384
  python bench/network.py --size full --stages symmetric --dtypes bf16 --modes graphs compile plain --batches 1 8 32
  python bench/network.py --size full --errors --shapes 512x384         bf16 and fp16 against fp32
  python bench/network.py --size full --cpu-budget --shapes 512x384     first and further pair on two CPU threads"""


def options() -> argparse.Namespace:
    """The command line; what is not given is chosen for the device."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--size", choices=tuple(WEIGHTS), help="of the network; full on CUDA, tiny on a CPU")
    parser.add_argument("--checkpoint", default="", help="weights of a published network; made up without")
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES))
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES))
    parser.add_argument("--modes", nargs="+", choices=(*MODES, plain.MODE))
    parser.add_argument("--batches", nargs="+", type=int, help="pairs at once")
    parser.add_argument("--shapes", nargs="+", type=shape, metavar="WxH", help="of the working images")
    parser.add_argument("--runs", type=int, help="timed calls of each stage")
    parser.add_argument("--sweep", action="store_true", help="all stages, precisions, modes, batches and shapes not chosen above")
    parser.add_argument("--errors", action="store_true", help="only the accuracy of half precision")
    parser.add_argument("--cpu-budget", action="store_true", help="only the first and a further pair on two CPU threads")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, but torch finds no CUDA device.")
    if min(chosen.batches or [1]) < 1 or (chosen.runs is not None and chosen.runs < 1):
        parser.error("--batches and --runs are at least 1.")
    if chosen.json and not chosen.json.parent.is_dir():
        parser.error(f"The folder of {chosen.json} does not exist.")
    return with_defaults(chosen)


def shape(text: str) -> tuple[int, int]:
    """(width, height) of "512x384"."""
    try:
        width, height = map(int, text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 512x384") from error
    if min(width, height) < 16 or width % 16 or height % 16:
        raise argparse.ArgumentTypeError(f"'{text}' is not made of patches of 16 pixels")
    return width, height


def with_defaults(chosen: argparse.Namespace) -> argparse.Namespace:
    """What was left open: a quick pass, or everything with --sweep."""
    cuda = chosen.device == "cuda" or (chosen.device == "auto" and torch.cuda.is_available())
    chosen.device = torch.device("cuda" if cuda else "cpu")
    chosen.size = chosen.size or ("full" if cuda else "tiny")
    if chosen.errors:
        chosen.dtypes = [dtype for dtype in chosen.dtypes or HALVES if dtype in HALVES]
    modes = [mode for mode in (*MODES, plain.MODE) if cuda or mode != "graphs"]
    every = {"dtypes": list(DTYPES), "modes": modes, "batches": ALL_BATCHES, "shapes": ALL_SIZES}
    quick = {
        "dtypes": ["bf16" if cuda else "fp32"],
        "modes": [mode for mode in modes if mode != "compile"],
        "batches": (1,),
        "shapes": ((512, 384) if cuda else (224, 224),),
    }
    for name, values in (every if chosen.sweep else quick).items():
        setattr(chosen, name, getattr(chosen, name) or values)
    chosen.stages = chosen.stages or list(STAGES)
    chosen.runs = chosen.runs or (20 if cuda else 3)
    return chosen


def loader(chosen: argparse.Namespace) -> Callable[[torch.dtype], PairNetwork]:
    """A function that gives the chosen network in a precision, on the chosen device."""

    def load(dtype: torch.dtype) -> PairNetwork:
        if chosen.checkpoint:
            return load_network(chosen.checkpoint, dtype=dtype, device=chosen.device)
        return procedural_network(WEIGHTS[chosen.size]).to(dtype=dtype, device=chosen.device)

    return load


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return f"{name}; {os.cpu_count()} CPUs, {platform.machine()}, torch {torch.__version__}"


def run(chosen: argparse.Namespace) -> list[Any]:
    """Measures what was asked for, printing as it goes."""
    results: list[Any] = []
    if chosen.cpu_budget:
        for width, height in chosen.shapes:
            results.append(cpu_budget(WEIGHTS[chosen.size], chosen.checkpoint, width, height, BUDGET_THREADS))
            print(results[-1], flush=True)
    if chosen.errors:
        for width, height in chosen.shapes:
            for found in precision_errors(loader(chosen), width, height, tuple(chosen.dtypes)):
                results.append(found)
                print(found, flush=True)
    if not (chosen.cpu_budget or chosen.errors):
        fields = ("stages", "dtypes", "modes", "shapes", "batches")
        choice = Choice(*(tuple(getattr(chosen, name)) for name in fields), chosen.runs, 3 if chosen.device.type == "cuda" else 1)
        print(HEADER)
        for row in sweep(loader(chosen), choice):
            results.append(row)
            print(row, flush=True)
        print("\n".join(speed_ups(results)))
    return results


def as_json(result: Row | CpuBudget | PrecisionError | NeighbourAgreement) -> dict[str, Any]:
    """The fields of a result and, of a row, what follows from them."""
    values = {"kind": type(result).__name__} | dataclasses.asdict(result)
    if isinstance(result, Row):
        values |= {"items_per_s": result.items_per_s, "flops_per_s": result.rate, "share_of_matmul": result.share}
    return values


def main() -> int:
    """Measures, prints, writes; returns the exit status."""
    chosen = options()
    weights = chosen.checkpoint or f"made up ({WEIGHTS[chosen.size]})"
    print(f"{machine(chosen.device)}; weights: {weights}")
    try:
        results = run(chosen)
    except St3rError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.json:
        report = {
            "machine": machine(chosen.device),
            "command": sys.argv,
            "weights": weights,
            "results": [as_json(x) for x in results],
        }
        chosen.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
