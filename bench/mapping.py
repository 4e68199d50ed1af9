# SPDX-License-Identifier: Apache-2.0
"""Accuracy and speed of mapping: one table over sequences, pair models and seeds.

A sequence is any input of `st3r map`: a folder in TUM layout, a video, sim:room?seed=3, ...; `{seed}` is replaced by the seed.
The pair model noisy_depth adds network-like errors to true depth and poses (mapping_bench/noise.py), to measure the mapping
separately from any network; it skips frames without depth. The seed draws its errors, and seeds the random numbers of the other
models.

Every run has its own process. The columns, which are also the keys of the JSON rows, are defined in mapping_bench/run.py:
tracked is the share of the frames that have a pose at the end; ATE is the RMSE of the positions after the best similarity (Sim3)
or rigid (SE3) alignment, in the truth's unit; AbsRel is the relative error of the fused depth of the keyframes (scaled by the
median), single that of the predictions it was fused from, at the same pixels (mapping_bench/depth_errors.py); fps counts the
mapping only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from mapping_bench.cases import MODELS, Case, expand
from mapping_bench.picture import draw
from mapping_bench.run import Outcome, run
from mapping_bench.table import header, line, medians

from st3r_ros.errors import St3rError
from st3r_ros.io.atomic import write_file

DEFAULT_SEQUENCE = "sim:room?seed=1&frames=120"
LOOPS = {"on": [True], "off": [False], "both": [True, False]}
FAILED = 2
EXAMPLES = """examples:
  python bench/mapping.py                                                       a simulated room, some seconds
  python bench/mapping.py kitchen --pair-model noisy_depth --seeds 1,2,3,4,5
  python bench/mapping.py kitchen --pair-model noisy_depth --seeds 1,2,3,4,5 --uncalibrated
  python bench/mapping.py {kitchen,fox,fountain} --pair-model opencv --json mapping.json --png mapping.png
  python bench/mapping.py 'sim:room?seed={seed}' --pair-model opencv --seeds 0,1,2,3,4,5,6,7,8,9
  python bench/mapping.py kitchen --pair-model opencv,noisy_depth --loops both --max-frames 200
  python bench/mapping.py kitchen --pair-model mast3r --checkpoint mast3r"""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="*", metavar="SEQ", default=[DEFAULT_SEQUENCE], help="what is mapped")
    parser.add_argument("--pair-model", type=_models, default=["noisy_depth"], metavar="|".join(MODELS), help="or several: a,b")
    parser.add_argument("--checkpoint", default="", help="weights for mast3r: file, folder, Hub id or published name")
    parser.add_argument("--seeds", type=_numbers, default=[1], metavar="1,2,3")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--calibrated", action="store_true", default=True, help="the mapper knows the camera (the default)")
    known.add_argument("--uncalibrated", action="store_false", dest="calibrated", help="it does not")
    parser.add_argument("--loops", choices=tuple(LOOPS), default="on", help="whether loops are closed")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="take every n-th frame")
    parser.add_argument("--max-frames", type=_positive, default=0, metavar="N", help="stop after this many frames")
    parser.add_argument("--size", type=_positive, default=0, metavar="PX", help="longer side of noisy_depth's images")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows, with more figures, as JSON")
    parser.add_argument("--png", type=Path, metavar="FILE", help="also draw the paths and the errors")
    chosen = parser.parse_args(arguments)
    for file in (chosen.json, chosen.png):
        if file is not None and not file.absolute().parent.is_dir():
            parser.error(f"The folder of {file} does not exist.")
    if "mast3r" in chosen.pair_model and not chosen.checkpoint:
        parser.error("mast3r needs --checkpoint.")
    return chosen


def _models(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no pair model '{unknown[0]}'; there are {', '.join(MODELS)}")
    return names


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 1,2,3") from None
    if min(numbers) < 0:
        raise argparse.ArgumentTypeError(f"a seed is at least 0, and {min(numbers)} is less")
    return numbers


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def run_apart(case: Case, progress: bool) -> Outcome:
    """One run in a fresh process, so that its peak memory is its own.

    Raises:
        St3rError: the sequence or the pair model cannot be used.
        BrokenProcessPool: the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, case, progress).result()


def measure(cases: list[Case], progress: bool) -> list[Outcome]:
    """All runs, one after the other, each printed when it ends; what fails is said on stderr and left out."""
    outcomes = []
    print(header(), flush=True)
    for case in cases:
        try:
            outcomes.append(run_apart(case, progress))
        except St3rError as error:
            print(f"{case.title}: {error}", file=sys.stderr)
        except BrokenProcessPool:
            print(f"{case.title}: the process was killed, perhaps for want of memory.", file=sys.stderr)
        except Exception:  # a defect: where it is must be seen, and the other runs are still worth having
            print(f"{case.title} broke:\n{traceback.format_exc()}", file=sys.stderr)
        else:
            print(line(outcomes[-1].row), flush=True)
            if outcomes[-1].row.note:
                print(f"  {outcomes[-1].row.note}")
    for row in medians(outcomes):
        print(line(row, "median"))
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 2 when a run failed, 130 when interrupted."""
    chosen = options(arguments)
    settings = {name: getattr(chosen, name) for name in ("checkpoint", "calibrated", "every", "max_frames", "size")}
    try:
        cases = expand(chosen.sequences, chosen.pair_model, chosen.seeds, LOOPS[chosen.loops], settings)
        outcomes = measure(cases, progress=sys.stderr.isatty())
        if chosen.json:
            rows = [dataclasses.asdict(outcome.row) for outcome in outcomes]
            write_file(chosen.json, (json.dumps(rows, indent=1, allow_nan=False) + "\n").encode())
        if chosen.png and outcomes:
            write_file(chosen.png, draw(outcomes))
    except St3rError as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0 if len(outcomes) == len(cases) else FAILED


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # every tensor is small
    sys.exit(main())
