# SPDX-License-Identifier: Apache-2.0
"""The paths of all runs against the truth, one panel per sequence, and their errors as bars."""

from __future__ import annotations

import numpy as np
from harness import new_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mapping_bench.run import Outcome
from st3r_ros.eval.raster import level_axes

COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2")
TRUTH_COLOR = "#111827"
PANEL = 3.8  # inches
BAR = 0.26
MAX_COLUMNS = 4
MIN_POSES = 3


def draw(outcomes: list[Outcome]) -> Figure:
    """Of each sequence the paths of one seed, and the errors of all of them."""
    groups = list(dict.fromkeys(o.name for o in outcomes))
    kinds = list(dict.fromkeys(o.kind for o in outcomes))
    colors = {kind: COLORS[i % len(COLORS)] for i, kind in enumerate(kinds)}
    columns = min(len(groups), MAX_COLUMNS)
    rows = -(-len(groups) // columns)
    heights = [rows * PANEL + 0.4, 0.9 + BAR * len(groups) * len(kinds)]
    figure = new_figure(max(2, columns) * PANEL, sum(heights))
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    panels = above.subplots(rows, columns, squeeze=False).ravel()
    for panel, group in zip(panels, groups, strict=False):
        _draw_paths(panel, [o for o in outcomes if o.name == group], colors)
    for panel in panels[len(groups) :]:
        panel.axis("off")
    _draw_errors(below.subplots(), outcomes, groups, colors)
    below.supxlabel("ATE after Sim(3) alignment, units of the truth: median and every seed", fontsize=9)
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if handles:
        above.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=9, frameon=False)
    return figure


def _draw_paths(axes: Axes, outcomes: list[Outcome], colors: dict[str, str]) -> None:
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


def _draw_errors(axes: Axes, outcomes: list[Outcome], groups: list[str], colors: dict[str, str]) -> None:
    """A bar for the median of each sequence and kind, a dot for each seed."""
    bars = [(group, kind, color) for group in groups for kind, color in colors.items()]
    for at, (group, kind, color) in enumerate(bars):
        runs = [o.row["ate_sim3"] for o in outcomes if o.name == group and o.kind == kind]
        errors = [error for error in runs if error is not None]
        if errors:
            axes.barh(at, np.median(errors), height=0.7, color=color, alpha=0.55)
            axes.plot(errors, [at] * len(errors), "o", color=color, ms=3.5, mec="white", mew=0.4)
            axes.text(np.max(errors), at, f"  {np.median(errors):.3g}", va="center", fontsize=8)
        else:
            axes.text(0.0, at, "  none", va="center", fontsize=8, color="#64748b")
    labels = [f"{group}   {kind}" if len(colors) > 1 else group for group, kind, _ in bars]
    axes.set_yticks(range(len(bars)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0.0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#94a3b8", alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
