# SPDX-License-Identifier: Apache-2.0
"""Accuracy and speed of mapping: one table over sequences, pair models and seeds.

A sequence is any input of `st3r map`: a folder in TUM layout, a video, sim:room?seed=3, ...; `{seed}` is replaced by the seed.
The pair model noisy_depth adds network-like errors to true depth and poses (test/noisy_depth), to measure the mapping
separately from any network; it skips frames without depth. The seed draws its errors, and seeds the random numbers of the other
models.

Every run has its own process. docs/benchmarks.md says what the columns mean, mapping_bench/run.py what the keys of the JSON rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any

import harness
import numpy as np
from harness import Row, Table
from mapping_bench.cases import MODELS, Case, expand
from mapping_bench.run import Outcome, run

from st3r_ros.eval.raster import level_axes

DEFAULT_SEQUENCE = "sim:room?seed=1&frames=120"
LOOPS = {"on": [True], "off": [False], "both": [True, False]}
FIGURES = (("tracked", "tracked", ">7", ".1%"), ("ate_sim3", "ATE Sim3", ">8", ".4f"), ("ate_refined", "refined", ">7", ".4f"))
FIGURES += (("ate_share_of_path", "of path", ">7", ".2%"), ("ate_se3", "ATE SE3", ">7", ".3f"), ("scale", "scale", ">6", ".3f"))
FIGURES += (("depth_absrel", "AbsRel", ">6", ".4f"), ("depth_absrel_single", "single", ">6", ".4f"), ("fps", "fps", ">5", ".1f"))
FIGURES += (("ms_track", "track ms", ">8", ".1f"), ("ms_optimize", "opt ms", ">6", ".1f"), ("peak_rss_mb", "RSS MB", ">6", ".0f"))
FIGURES += (("peak_device_mb", "dev MB", ">6", ".0f"), ("keyframes", "keyfr.", ">6", ".0f"), ("loops", "closed", ">6", ".0f"))
FIGURES += (("loops_rejected", "rejected", ">8", ".0f"),)
RUN = (("sequence", "sequence", "<34", ""), ("pair_model", "pair model", "<12", ""), ("seed", "seed", ">6", ""))
TABLE = Table((*RUN, ("closing", "loops", ">5", ""), *FIGURES))
COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2")
TRUTH_COLOR = "#111827"
PANEL = 3.8  # inches
MAX_COLUMNS = 4
MIN_POSES = 3
EXAMPLES = """examples:
  python bench/mapping.py                                                       a simulated room, some seconds
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
    parser.add_argument("--uncalibrated", action="store_false", dest="calibrated", help="the mapper does not know the camera")
    parser.add_argument("--loops", choices=tuple(LOOPS), default="on", help="whether loops are closed")
    parser.add_argument("--every", type=harness.positive, default=1, metavar="N", help="take every n-th frame")
    parser.add_argument("--max-frames", type=harness.positive, default=0, metavar="N", help="stop after this many frames")
    parser.add_argument("--size", type=harness.positive, default=0, metavar="PX", help="longer side of noisy_depth's images")
    harness.add_outputs(parser, "also write the rows, with more figures, as JSON", png="also draw the paths")
    return parser.parse_args(arguments)


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
        outcome = harness.attempt(case.title, partial(run_apart, case, progress))
        if outcome is not None:
            outcomes.append(outcome)
            print(line(outcome.row), flush=True)
            if outcome.row["note"]:
                print(f"  {outcome.row['note']}")
    for row in medians(outcomes):
        print(line(row, "median"))
    return outcomes


def draw(outcomes: list[Outcome]) -> harness.Figure:
    """Of each sequence the paths of one seed."""
    groups = list(dict.fromkeys(o.name for o in outcomes))
    kinds = list(dict.fromkeys(o.kind for o in outcomes))
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    columns = min(len(groups), MAX_COLUMNS)
    rows = -(-len(groups) // columns)
    figure = harness.new_figure(max(2, columns) * PANEL, rows * PANEL + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, group in zip(panels, groups, strict=False):
        _draw_paths(panel, [o for o in outcomes if o.name == group], colors)
    for panel in panels[len(groups) :]:
        panel.axis("off")
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=9, frameon=False)
    return figure


def _draw_paths(axes: Any, outcomes: list[Outcome], colors: dict[str, str]) -> None:
    """The paths of one sequence from above, all of the seed that has the median error in the first kind of run."""
    runs = sorted((o for o in outcomes if o.row["ate_sim3"] is not None), key=lambda o: o.row["ate_sim3"])
    first = [o for o in runs if o.kind == outcomes[0].kind] or runs
    seed = first[len(first) // 2].row["seed"] if first else outcomes[0].row["seed"]
    runs = [o for o in runs if o.row["seed"] == seed]
    axes.set_title(f"{outcomes[0].name}, seed {seed}", fontsize=9, loc="left")
    truth = max((o.truth for o in runs or outcomes), key=lambda path: np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    if not runs or len(truth) < MIN_POSES:
        axes.text(0.5, 0.5, "nothing to compare", ha="center", va="center", transform=axes.transAxes, color="#64748b")
        axes.set(xticks=[], yticks=[])
        return
    level, centre = level_axes(runs[0].up, truth[-1] - truth[0], truth)[:2], truth.mean(0)
    axes.plot(*((truth - centre) @ level.T).T, color=TRUTH_COLOR, lw=3.2, alpha=0.25, label="truth")
    for kind, color in colors.items():
        for outcome in (o for o in runs if o.kind == kind):
            axes.plot(*((outcome.estimate - centre) @ level.T).T, color=color, lw=1.3, label=kind)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color="#94a3b8", alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=8)


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
