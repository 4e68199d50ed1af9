# SPDX-License-Identifier: Apache-2.0
"""Accuracy of relocalization without an initial guess: against one reference image, or in a saved map.

A source is a file of pairs (a list of image_a, K_a, image_b, K_b, T_b_a; a is the reference), or a sequence as for `st3r map`:
a folder in TUM layout, a video, sim:room?seed=3, ... with true poses. In a sequence, query and reference are --gap frames apart,
or any two frames that overlap, or that do not. The pair model noisy_depth adds network-like errors to true depth and poses
(test/noisy_depth/noise.py); it uses only frames with depth. The seed draws its errors and, for all models, the pairs.

With --map, the even frames of the first 60 % are mapped, the map is saved and loaded, and frames of the last 20 % are localized
in it (of sim:twins all even frames, and odd ones); errors are after the best similarity alignment of the map with the
truth. The scene's scale is the median depth of the map's keyframes.

The columns: found is the share of the tries that were answered with a pose; medians are those of the answers; within are shares
of all tries (position and rotation; directed: rotation within 2 and translation direction within 10 degrees; in a map, 0.1 of
the scene's scale and 5 degrees); false are answers off by more than 10 degrees or 0.5 m (without a unit: 10 degrees in
direction); nees is the mean squared error by the answers' covariances, 6 when these are correct; 3 sigma is the share of the
answers whose errors are within three of their standard deviations.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from math import inf

import cv2
import harness
import numpy as np
import torch
from harness import Row, Table
from mapping_bench.cases import MODELS
from relocalization_bench.tries import ASSUMED_FOCAL, TRUE_FOCAL, Run, error_of, try_map, try_pairs

from st3r_ros.eval.relocalization import WITHIN_DEG, summarise_attempts

DEFAULT_GAP, DEFAULT_PAIRS = 15, 100
SCENE_SHARE = 0.1
FIGURES = (("attempts", "tries", ">6", ""), ("found", "found", ">7", ".1%"), ("median_translation", "med. m", ">8", ".4f"))
FIGURES += (("median_rotation_deg", "med. deg", ">9", ".3f"), ("median_direction_deg", "dir deg", ">8", ".2f"))
FIGURES += (("fine", "0.25m 5°", ">9", ".1%"), ("coarse", "0.5m 5°", ">8", ".1%"), ("directed", "directed", ">9", ".1%"))
FIGURES += (("false_accepts", "false", ">6", ""), ("ms", "ms", ">7", ".0f"), ("ms_p95", "ms 95%", ">7", ".0f"))
FIGURES += (("nees", "nees", ">7", ".2f"), ("in_3_sigma", "3 sigma", ">8", ".0%"))
RUN = (("sequence", "source", "<34", ""), ("pair_model", "pair model", "<12", ""), ("seed", "seed", ">5", ""))
TABLE = Table((*RUN, *FIGURES))
EXAMPLES = """examples; docs/relocalization.md has more:
  python bench/relocalization.py kitchen --overlap --pair-model noisy_depth --seeds 1,2,3 --json rows.json
  python bench/relocalization.py kitchen --gap 15 --with-depth
  python bench/relocalization.py fountain --map --focal 0.7
  python bench/relocalization.py scannet_pairs/pairs.json --pair-model mast3r --checkpoint mast3r"""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("sources", nargs="+", metavar="PAIRS.json|SEQ")
    parser.add_argument("--pair-model", choices=MODELS, default="opencv")
    parser.add_argument("--checkpoint", default="", help="weights for mast3r: file, folder, Hub id or published name")
    gap = f"frames from reference to query (default {DEFAULT_GAP})"
    parser.add_argument("--gap", type=harness.positive, metavar="N", help=gap)
    parser.add_argument("--pairs", type=harness.positive, default=DEFAULT_PAIRS, metavar="N", help="tries at most")
    parser.add_argument("--seeds", type=harness.numbers, default=[1], metavar="1,2,3")
    parser.add_argument("--with-depth", action="store_true", help="the reference is given its depth")
    which = parser.add_mutually_exclusive_group()
    shared = "any two frames (or with --gap) that overlap by 20 %% or more"
    which.add_argument("--overlap", action="store_const", const=True, help=shared)
    nothing = "frames that share nothing: every answer is false"
    which.add_argument("--no-overlap", action="store_const", const=False, dest="overlap", help=nothing)
    which.add_argument("--map", action="store_true", help="localize in a saved map instead of against one image")
    focal = "the focal length of the calibration is wrong by this factor, or there is none; with --map or --with-depth "
    focal += "that of the query only"
    parser.add_argument("--focal", type=_focal, default=TRUE_FOCAL, metavar="0.7|assumed", help=focal)
    harness.add_outputs(parser)
    chosen = parser.parse_args(arguments)
    if chosen.map and (chosen.gap or chosen.with_depth):
        parser.error("--map localizes in a map; omit --gap and --with-depth.")
    return chosen


def _focal(text: str) -> str:
    usable = text == ASSUMED_FOCAL
    with suppress(ValueError):
        usable = usable or 0.1 <= float(text) <= 10.0
    if not usable:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a factor from 0.1 to 10 nor {ASSUMED_FOCAL}")
    return text


def line(rows: list[Row], seed: str) -> str:
    """The figures of these tries as a line of the table."""
    errors, ms = summarise_attempts([error_of(row) for row in rows]), [row["ms"] for row in rows]
    figures = {**rows[0], **vars(errors), **vars(errors.shares), "seed": seed, "found": errors.answered / errors.attempts}
    return TABLE.line({**figures, "ms": np.median(ms), "ms_p95": np.percentile(ms, 95)})


def notes(rows: list[Row]) -> list[str]:
    """What the table has no column for: why queries were refused, and how near those in a map are."""
    refused = Counter(row["status"] for row in rows if row["err_r_deg"] is None)
    lines = [f"  refused: {', '.join(f'{status} {count}' for status, count in refused.most_common())}"] if refused else []
    doubts = [row["doubt"] for row in rows if row["doubt"]]
    if doubts:
        lines.append(f"  calibration doubted in {len(doubts)} of {len(rows)} tries; the last: {doubts[-1]}")
    scale = rows[0]["scene_scale"]
    if scale is not None:
        near = [r for r in rows if (r["err_t"] or inf) <= SCENE_SHARE * scale and (r["err_r_deg"] or inf) <= WITHIN_DEG]
        lines.append(f"  within 0.1 of the scene's scale ({scale:.3g}) and 5 degrees: {len(near) / len(rows):.1%}")
    return lines


def measure(run: Run, in_map: bool) -> list[Row]:
    """All tries of one source with one seed. Raises St3rError where the source or the pair model cannot be used."""
    cv2.setRNGSeed(run.seed)
    torch.manual_seed(run.seed)
    return list(try_map(run) if in_map else try_pairs(run))


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 2 when a run failed, 130 when interrupted."""
    chosen = options(arguments)
    written: list[Row] = []
    status, gap = 0, chosen.gap or (DEFAULT_GAP if chosen.overlap is None else 0)
    settings = {name: getattr(chosen, name) for name in ("checkpoint", "focal", "pairs", "overlap", "with_depth")}
    print(TABLE.header(), flush=True)
    for source in chosen.sources:
        rows: list[Row] = []
        for seed in chosen.seeds:
            run = Run(source, chosen.pair_model, seed, gap=gap, progress=sys.stderr.isatty(), **settings)
            found = harness.attempt(run.title, partial(measure, run, chosen.map))
            if found is None:
                status = harness.FAILED
            else:
                print("\n".join([line(found, str(seed)), *notes(found)]), flush=True)
                rows += found
        if len(chosen.seeds) > 1 and rows:
            print("\n".join([line(rows, "all"), *notes(rows)]))
        written += rows
    harness.write_json(chosen.json, written)
    return status


if __name__ == "__main__":
    harness.start(main, one_thread=True)
