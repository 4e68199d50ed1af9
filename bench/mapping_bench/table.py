# SPDX-License-Identifier: Apache-2.0
"""The figures of many runs as one table, with the medians over the seeds of each sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapping_bench.run import Outcome, Row

NAME_WIDTH = 34


@dataclass(frozen=True)
class Column:
    """One column: the field of a row, its heading, how its numbers are printed."""

    field: str
    heading: str
    format: str


COLUMNS = (
    Column("tracked", "tracked", "{:7.1%}"),
    Column("ate_sim3", "ATE Sim3", "{:8.4f}"),
    Column("ate_share_of_path", "of path", "{:7.2%}"),
    Column("ate_se3", "ATE SE3", "{:7.3f}"),
    Column("scale", "scale", "{:6.3f}"),
    Column("depth_absrel", "AbsRel", "{:6.4f}"),
    Column("depth_absrel_single", "single", "{:6.4f}"),
    Column("fps", "fps", "{:5.1f}"),
    Column("ms_track", "track ms", "{:8.1f}"),
    Column("ms_optimize", "opt ms", "{:6.1f}"),
    Column("peak_rss_mb", "RSS MB", "{:6.0f}"),
    Column("peak_device_mb", "dev MB", "{:6.0f}"),
    Column("keyframes", "keyfr.", "{:6.0f}"),
    Column("loops", "closed", "{:6.0f}"),
    Column("loops_rejected", "rejected", "{:8.0f}"),
)


def header() -> str:
    """The first line of the table."""
    headings = [f"{column.heading:>{len(column.format.format(0))}}" for column in COLUMNS]
    return " ".join([f"{'sequence':<{NAME_WIDTH}}", f"{'pair model':<12}", f"{'seed':>6}", "loops", *headings])


def line(row: Row, seed: str = "") -> str:
    """A row of the table; seed: what stands in its place, such as "median"."""
    name = row.sequence if len(row.sequence) <= NAME_WIDTH else "…" + row.sequence[1 - NAME_WIDTH :]
    cells = []
    for column in COLUMNS:
        value, width = getattr(row, column.field), len(column.format.format(0))
        cells.append(f"{'-':>{width}}" if value is None else column.format.format(value))
    loops = "on" if row.loop_closure else "off"
    return " ".join([f"{name:<{NAME_WIDTH}}", f"{row.pair_model:<12}", f"{seed or row.seed:>6}", f"{loops:>5}", *cells])


def medians(outcomes: Iterable[Outcome]) -> list[Row]:
    """One row for each sequence, pair model and setting that has run with several seeds."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.case.group, outcome.kind), []).append(outcome)
    return [_median_row([o.row for o in members], members[0].name) for members in groups.values() if len(members) > 1]


def _median_row(rows: list[Row], name: str) -> Row:
    """The median of each figure over the runs that have it."""
    middle: dict[str, Any] = {}
    for column in COLUMNS:
        values = [value for row in rows if (value := getattr(row, column.field)) is not None]
        middle[column.field] = float(np.median(values)) if values else None
    return dataclasses.replace(rows[0], sequence=name, **middle)
