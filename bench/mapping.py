# SPDX-License-Identifier: Apache-2.0
"""Accuracy and speed of mapping: one table over sequences, pair models and seeds.

A sequence is any input of `st3r map`: a folder in TUM layout, a video, sim:room?seed=3, ...; `{seed}` is replaced by the seed.
The pair model noisy_depth adds network-like errors to true depth and poses (test/noisy_depth), to measure the mapping
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
import sys
import traceback
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool

import harness
import numpy as np
from harness import Row, Table
from mapping_bench.cases import MODELS, Case, expand
from mapping_bench.picture import draw
from mapping_bench.run import Outcome, run

from st3r_ros.errors import St3rError

DEFAULT_SEQUENCE = "sim:room?seed=1&frames=120"
LOOPS = {"on": [True], "off": [False], "both": [True, False]}
FIGURES = (("tracked", "tracked", ">7", ".1%"), ("ate_sim3", "ATE Sim3", ">8", ".4f"))
FIGURES += (("ate_share_of_path", "of path", ">7", ".2%"), ("ate_se3", "ATE SE3", ">7", ".3f"), ("scale", "scale", ">6", ".3f"))
FIGURES += (("depth_absrel", "AbsRel", ">6", ".4f"), ("depth_absrel_single", "single", ">6", ".4f"), ("fps", "fps", ">5", ".1f"))
FIGURES += (("ms_track", "track ms", ">8", ".1f"), ("ms_optimize", "opt ms", ">6", ".1f"), ("peak_rss_mb", "RSS MB", ">6", ".0f"))
FIGURES += (("peak_device_mb", "dev MB", ">6", ".0f"), ("keyframes", "keyfr.", ">6", ".0f"), ("loops", "closed", ">6", ".0f"))
FIGURES += (("loops_rejected", "rejected", ">8", ".0f"),)
RUN = (("sequence", "sequence", "<34", ""), ("pair_model", "pair model", "<12", ""), ("seed", "seed", ">6", ""))
TABLE = Table((*RUN, ("closing", "loops", ">5", ""), *FIGURES))
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
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("sequences", nargs="*", metavar="SEQ", default=[DEFAULT_SEQUENCE], help="what is mapped")
    models = harness.one_of(MODELS, "pair model")
    parser.add_argument("--pair-model", type=models, default=["noisy_depth"], metavar="|".join(MODELS), help="or several: a,b")
    parser.add_argument("--checkpoint", default="", help="weights for mast3r: file, folder, Hub id or published name")
    parser.add_argument("--seeds", type=harness.numbers, default=[1], metavar="1,2,3")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--calibrated", action="store_true", default=True, help="the mapper knows the camera (the default)")
    known.add_argument("--uncalibrated", action="store_false", dest="calibrated", help="it does not")
    parser.add_argument("--loops", choices=tuple(LOOPS), default="on", help="whether loops are closed")
    parser.add_argument("--every", type=harness.positive, default=1, metavar="N", help="take every n-th frame")
    parser.add_argument("--max-frames", type=harness.positive, default=0, metavar="N", help="stop after this many frames")
    parser.add_argument("--size", type=harness.positive, default=0, metavar="PX", help="longer side of noisy_depth's images")
    harness.add_outputs(parser, "also write the rows, with more figures, as JSON", png="also draw the paths and the errors")
    chosen = parser.parse_args(arguments)
    if "mast3r" in chosen.pair_model and not chosen.checkpoint:
        parser.error("mast3r needs --checkpoint.")
    return chosen


def line(row: Row, seed: str = "") -> str:
    """A row of the table; seed: what stands in its place, such as "median"."""
    return TABLE.line({**row, "seed": seed or row["seed"], "closing": "on" if row["loop_closure"] else "off"})


def medians(outcomes: Iterable[Outcome]) -> list[Row]:
    """For each sequence, pair model and setting that has run with several seeds, the median of each figure over the runs that
    have it."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.group, outcome.kind), []).append(outcome)
    rows = []
    for members in (group for group in groups.values() if len(group) > 1):
        rows.append({**members[0].row, "sequence": members[0].name})
        for key, *_ in FIGURES:
            values = [o.row[key] for o in members if o.row[key] is not None]
            rows[-1][key] = float(np.median(values)) if values else None
    return rows


def run_apart(case: Case, progress: bool) -> Outcome:
    """One run in a fresh process, so that its peak memory is its own; BrokenProcessPool when it was killed."""
    return harness.apart(run, case, progress)


def measure(cases: list[Case], progress: bool) -> list[Outcome]:
    """All runs, one after the other, each printed when it ends; what fails is said on stderr and left out."""
    outcomes = []
    print(TABLE.header(), flush=True)
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
            if outcomes[-1].row["note"]:
                print(f"  {outcomes[-1].row['note']}")
    for row in medians(outcomes):
        print(line(row, "median"))
    return outcomes


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 2 when a run failed, 130 when interrupted."""
    chosen = options(arguments)
    settings = {name: getattr(chosen, name) for name in ("checkpoint", "calibrated", "every", "max_frames", "size")}
    cases = expand(chosen.sequences, chosen.pair_model, chosen.seeds, LOOPS[chosen.loops], settings)
    outcomes = measure(cases, progress=sys.stderr.isatty())
    harness.write_json(chosen.json, [outcome.row for outcome in outcomes])
    harness.write_png(chosen.png if outcomes else None, lambda: draw(outcomes))
    return 0 if len(outcomes) == len(cases) else harness.FAILED


if __name__ == "__main__":
    harness.start(main, one_thread=True)
