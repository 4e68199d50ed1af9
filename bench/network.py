# SPDX-License-Identifier: Apache-2.0
"""Speed, memory and accuracy of two-view inference, stage by stage.

Without arguments: one quick pass, the full-size network on CUDA, a tiny one (stock heads, small trunk) on a CPU. Without
--checkpoint the weights are generated, which take the same time as trained ones. "of matmul" is the share of the rate that one
large matrix product reaches in the same run and precision. The mode plain is the ratios' baseline (network_bench/stages.py).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields

import harness
import torch
from harness import Laps, Row, peak_mib
from network_bench import sweep
from network_bench.stages import FOV_DEG, MODES, PLAIN_MODE, STAGES, source_image

from golden_checks.procedural import procedural_image, procedural_network
from st3r_ros.checkpoints.checkpoint import load_network
from st3r_ros.geometry.camera import Camera
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.load import DTYPES, choose_device
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.nearest import nearest
from st3r_ros.pair.matching.reciprocal import fast_reciprocal
from st3r_ros.types import Frame

WEIGHTS = {"full": "full_mast3r", "tiny": "tiny_mast3r"}
ALL_SIZES = ((512, 384), (512, 288), (224, 224))
ALL_BATCHES = (1, 2, 4, 8, 16, 32)
BUDGET_THREADS = 2
HALVES = ("bf16", "fp16")
QUERY_STEP = 4  # every fourth pixel of both directions looks for its neighbour
EXAMPLES = """examples; docs/performance.md has more:
  python bench/network.py                                               quick
  python bench/network.py --sweep --json network.json                   everything; an hour and more
  python bench/network.py --stages tracked symmetric --dtypes bf16 --modes graphs compile plain --batches 1 8 32
  python bench/network.py --size full --errors --shapes 512x384         bf16 and fp16 against fp32
  python bench/network.py --size full --cpu-budget --shapes 512x384     first and further pair on two CPU threads"""


def precision_errors(
    load: Callable[[torch.dtype], PairNetwork], width: int, height: int, halves: tuple[str, ...] = HALVES
) -> Iterator[Row]:
    """Outputs of one pair in each precision against float32. load: gives the network in a precision.

    PrecisionError: relative_l2 of an output of one view; median_relative: half of its pixels are off by less, as vectors.
    NeighbourAgreement: shares of the pixels of image 0 that find the same nearest descriptor in image 1 as in float32; same: of
    all of them; same_of_reciprocal: of those whose neighbour's neighbour, in float32, they are.
    """
    exact, size = _outputs(load(torch.float32), width, height), {"width": width, "height": height}
    for dtype in halves:
        rough = _outputs(load(DTYPES[dtype]), width, height)
        for view in ("view0", "view1"):
            for field in fields(getattr(exact, view)):
                true, found = (getattr(getattr(output, view), field.name) for output in (exact, rough))
                if true is not None:
                    what = {"kind": "PrecisionError", **size, "dtype": dtype, "output": f"{field.name} {view[-1]}"}
                    yield {**what, **_error(true, found)}
        if exact.view0.desc is not None:
            yield {"kind": "NeighbourAgreement", **size, "dtype": dtype, **_agreement(width, height, exact, rough)}


def precision_line(row: Row) -> str:
    """What is printed of either."""
    head = f"{row.get('output', 'neighbours'):<12}{'{width}x{height}'.format(**row):>9}  {row['dtype']:<6}"
    if row["kind"] == "PrecisionError":
        return f"{head} relative L2 {row['relative_l2']:9.2e}  median {row['median_relative']:9.2e}"
    return f"{head} same {row['same']:.2%}, of reciprocal ones {row['same_of_reciprocal']:.2%}"


@torch.inference_mode()
def _outputs(network: PairNetwork, width: int, height: int) -> PairOutput:
    images = (torch.from_numpy(procedural_image(name, height, width))[None].to(network.device) for name in ("a", "b"))
    return network(*(normalize(image, network.dtype) for image in images))


def _error(true: torch.Tensor, found: torch.Tensor) -> dict[str, float]:
    true, found = (values.double().reshape(*true.shape[:3], -1) for values in (true, found))
    off, size = (found - true).norm(dim=-1), true.norm(dim=-1)
    return {"relative_l2": (off.norm() / size.norm()).item(), "median_relative": (off / size).median().item()}


def _agreement(width: int, height: int, exact: PairOutput, rough: PairOutput) -> dict[str, float]:
    pixels = torch.arange(width * height).view(height, width)[::QUERY_STEP, ::QUERY_STEP].flatten()
    exact0, exact1, rough0, rough1 = (
        view.desc[0].flatten(0, 1) for output in (exact, rough) for view in (output.view0, output.view1) if view.desc is not None
    )
    pixels = pixels.to(exact0.device)
    neighbours = nearest(exact0[pixels], exact1).index
    reciprocal = nearest(exact1[neighbours], exact0).index == pixels
    same = (nearest(rough0[pixels], rough1).index == neighbours).double()
    return {"same": same.mean().item(), "same_of_reciprocal": same[reciprocal].mean().item()}


def cpu_budget(weights: str, checkpoint: str, width: int, height: int, threads: int) -> Row:
    """Mapping's work for its first pair and for a further frame on a CPU, in a process of its own so that its memory can be told.

    Seconds, without loading. weights: a set of procedural weights, used when there is no checkpoint. first_pair_s: two images
    encoded, one decoded pair, all outputs. further_pair_s: one image encoded against a keyframe that is, all outputs. match_s:
    fast reciprocal matches of that pair. peak_mib: of the process.
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


def budget_line(row: Row) -> str:
    """What is printed of it."""
    return (
        "CPU, fp32, {threads} threads, {width}x{height}: first pair {first_pair_s:.1f} s, further pair {further_pair_s:.1f} s, "
        "matching {match_s:.2f} s; loading {load_s:.1f} s; peak memory of the process {peak_mib:.0f} MiB ({loaded_mib:.0f} MiB "
        "once loaded)."
    ).format(**row)


def options() -> argparse.Namespace:
    """The command line; what is not given is chosen for the device."""
    parser = harness.parser(__doc__, EXAMPLES)
    harness.add_device(parser)
    parser.add_argument("--size", choices=tuple(WEIGHTS), help="of the network; full on CUDA, tiny on a CPU")
    parser.add_argument("--checkpoint", default="", help="weights of a published network; generated by default")
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES))
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES))
    parser.add_argument("--modes", nargs="+", choices=(*MODES, PLAIN_MODE))
    parser.add_argument("--batches", nargs="+", type=harness.positive, help="pairs at once")
    parser.add_argument("--shapes", nargs="+", type=shape, metavar="WxH", help="of the working images")
    parser.add_argument("--runs", type=harness.positive, help="timed calls of each stage")
    parser.add_argument("--sweep", action="store_true", help="all stages, precisions, modes, batches and shapes not chosen above")
    parser.add_argument("--errors", action="store_true", help="only the accuracy of half precision")
    parser.add_argument("--cpu-budget", action="store_true", help="only the first and a further pair on two CPU threads")
    harness.add_outputs(parser, "also write the results to this file")
    return with_defaults(parser.parse_args())


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
    chosen.device = choose_device(chosen.device)
    cuda = chosen.device.type == "cuda"
    if chosen.errors:
        chosen.dtypes = [dtype for dtype in chosen.dtypes or HALVES if dtype in HALVES]
    modes = [mode for mode in (*MODES, PLAIN_MODE) if (cuda or mode != "graphs") and (chosen.sweep or mode != "compile")]
    defaults = {"size": "full" if cuda else "tiny", "stages": list(STAGES), "runs": 20 if cuda else 3, "modes": modes}
    if chosen.sweep:
        defaults |= {"dtypes": list(DTYPES), "batches": ALL_BATCHES, "shapes": ALL_SIZES}
    else:
        defaults |= {"dtypes": ["bf16" if cuda else "fp32"], "batches": (1,), "shapes": ((512, 384) if cuda else (224, 224),)}
    vars(chosen).update({name: getattr(chosen, name) or values for name, values in defaults.items()})
    return chosen


def run(chosen: argparse.Namespace) -> Iterator[tuple[Row, str]]:
    """Measures what was asked for: each row, and what is printed of it."""

    def load(dtype: torch.dtype) -> PairNetwork:
        if chosen.checkpoint:
            return load_network(chosen.checkpoint, dtype=dtype, device=chosen.device)
        return procedural_network(WEIGHTS[chosen.size]).to(dtype=dtype, device=chosen.device)

    for width, height in chosen.shapes if chosen.cpu_budget else ():
        row = harness.apart(cpu_budget, WEIGHTS[chosen.size], chosen.checkpoint, width, height, BUDGET_THREADS)
        yield row, budget_line(row)
    for width, height in chosen.shapes if chosen.errors else ():
        for row in precision_errors(load, width, height, tuple(chosen.dtypes)):
            yield row, precision_line(row)
    if not (chosen.cpu_budget or chosen.errors):
        print(sweep.TABLE.header())
        for row in sweep.sweep(load, chosen):
            yield row, sweep.line(row)


@harness.command
def main() -> int:
    """Measures, prints, writes; returns the exit status."""
    chosen = options()
    machine = f"{harness.device_name(chosen.device)}; {os.cpu_count()} CPUs, torch {torch.__version__}"
    weights = chosen.checkpoint or f"made up ({WEIGHTS[chosen.size]})"
    print(f"{machine}; weights: {weights}")
    results = []
    for row, line in run(chosen):
        results.append(row)
        print(line, flush=True)
    if not (chosen.cpu_budget or chosen.errors):
        print("\n".join(sweep.speed_ups(results)))
    report = {"machine": machine, "command": sys.argv, "weights": weights, "results": results}
    harness.write_json(chosen.json, report)
    return 0


if __name__ == "__main__":
    harness.start(main)
