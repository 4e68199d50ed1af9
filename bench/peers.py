# SPDX-License-Identifier: Apache-2.0
"""This project beside its peers: one table over sequences of mapping, ORB-SLAM3 and COLMAP, all told the true intrinsics.

A sequence is any input of `st3r map` with a calibration: a folder in TUM layout, sim:room?seed=3, ... All get its images as they
are, with the distortion of their lens.

st3r maps with opencv, as bench/mapping.py does. ORB-SLAM3 gets the images at the rate of their stamps; it starts at random, and
the figures are medians over --runs. It runs in an environment of its own: python3 -m venv orb && orb/bin/pip install pyorbslam3
opencv-python-headless; the vocabulary is ORBvoc.txt of its repository, or another one of this format. COLMAP knows all images at
once; it matches photographs (images a second or more apart) with each other and those of a video with their successors.

placed: share of the images that have a pose at the end. refined: the error of this project after the bundle adjustment at the
end, where the one beside it is of the poses as they were tracked (COLMAP adjusts everything in any case). ms: milliseconds per
image; of mapping, of ORB-SLAM3's tracking (its mapping runs beside it), of COLMAP from the features to the end. The rows of
--json have the same figures, unrounded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Row, Table
from mapping_bench.cases import Case
from mapping_bench.run import compared
from mapping_bench.run import run as run_mapping
from peers_bench.colmap import colmap
from peers_bench.orb_slam3 import OrbSlam3
from peers_bench.recording import Placed, Recording, record

from st3r_ros.errors import MissingDependencyError

SYSTEMS = OURS, ORB_SLAM3, COLMAP = "st3r", "orb_slam3", "colmap"
DEFAULT_SEQUENCE = "sim:room?seed=1&frames=120"
FIGURES = (("placed", "placed", ">7", ".1%"), ("ate_sim3", "ATE Sim3", ">9", ".4f"))
FIGURES += (("ate_share_of_spread", "of spread", ">9", ".2%"), ("refined_share", "refined", ">8", ".2%"))
FIGURES += (("ms", "ms", ">7", ".0f"),)
TABLE = Table((("sequence", "sequence", "<32", ""), ("images", "images", ">6", ""), ("system", "system", "<9", ""), *FIGURES))
EXAMPLES = """examples:
  python bench/peers.py                                                       a simulated room, a minute
  python bench/peers.py fox fountain --orb-slam3 orb/bin/python ORBvoc.txt --json peers.json
  python bench/peers.py kitchen --systems st3r,orb_slam3 --orb-slam3 orb/bin/python ORBvoc.txt --runs 5"""
Peer = Callable[[Recording], Placed]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("sequences", nargs="*", metavar="SEQ", default=[DEFAULT_SEQUENCE], help="what is mapped")
    systems = harness.one_of(SYSTEMS, "system")
    parser.add_argument("--systems", type=systems, default=list(SYSTEMS), metavar="a,b", help="of " + ", ".join(SYSTEMS))
    where = "where ORB-SLAM3 is installed, and its vocabulary"
    parser.add_argument("--orb-slam3", nargs=2, metavar=("PYTHON", "VOCABULARY"), default=None, help=where)
    parser.add_argument("--runs", type=harness.positive, default=3, metavar="N", help="of ORB-SLAM3 (default 3)")
    parser.add_argument("--every", type=harness.positive, default=1, metavar="N", help="take every n-th image")
    parser.add_argument("--max-frames", type=harness.positive, default=0, metavar="N", help="stop after this many images")
    harness.add_outputs(parser)
    return parser.parse_args(arguments)


def installed(chosen: argparse.Namespace) -> dict[str, tuple[Peer, int]]:
    """The chosen peers that are installed, and how often each runs; of the others a sentence on stderr."""

    def orb_slam3() -> tuple[Peer, int]:
        if chosen.orb_slam3 is None:
            raise MissingDependencyError("ORB-SLAM3 is not given (--orb-slam3 PYTHON VOCABULARY).")
        return OrbSlam3(*chosen.orb_slam3), chosen.runs

    def in_pycolmap() -> tuple[Peer, int]:
        if find_spec("pycolmap") is None:
            raise MissingDependencyError("COLMAP is not installed: pip install pycolmap.")
        return lambda recording: harness.apart(colmap, recording, sys.stderr.isatty()), 1

    found = {}
    for name, find in ((ORB_SLAM3, orb_slam3), (COLMAP, in_pycolmap)):
        try:
            if name in chosen.systems:
                found[name] = find()
        except MissingDependencyError as error:
            print(f"{error} It is left out.", file=sys.stderr)
    return found


def own_row(source: str, selected: dict[str, Any]) -> Row:
    """The figures of this project, in a process of its own."""
    mapped = harness.apart(run_mapping, Case(source, "opencv", 1, source, **selected), sys.stderr.isatty()).row
    figures = mapped["tracked"], mapped["ate_sim3"], mapped["truth_spread"], 1e3 / mapped["fps"], mapped["ate_refined"]
    return _row(source, mapped["frames"], OURS, [_figures(*figures)], mapped["note"])


def peer_row(source: str, recording: Recording, system: str, peer: Peer, runs: int) -> Row:
    """The figures of a peer: medians over the runs that have them."""
    of_runs, notes = [], []
    for run in range(runs):
        harness.progress(f"{source}, {system}: run {run + 1} of {runs}")
        found = peer(recording)
        errors, note = compared(found.trajectory, recording.truth, recording.stamps_ns)
        error, spread = getattr(errors, "ate_sim3", None), getattr(errors, "truth_spread", None)
        of_runs.append(_figures(len(found.trajectory) / len(recording.files), error, spread, found.ms))
        notes += [found.note or note]
    harness.progress("")
    said = [f"{note} ({count} of {runs} runs)" for note, count in Counter(filter(None, notes)).items()]
    return _row(source, len(recording.files), system, of_runs, "; ".join(said))


def _figures(placed: float, error: float | None, spread: float | None, ms: float, refined: float | None = None) -> Row:
    """Those of one run, under the keys of the table. refined: the error after the bundle adjustment at the end."""
    shares = [e / spread if e is not None and spread else None for e in (error, refined)]
    return {"placed": placed, "ate_sim3": error, "ate_share_of_spread": shares[0], "refined_share": shares[1], "ms": ms}


def _row(source: str, images: int, system: str, of_runs: list[Row], note: str) -> Row:
    row: Row = {"sequence": source.rstrip("/").rpartition("/")[2], "images": images, "system": system}
    for key, *_ in FIGURES:
        values = [figures[key] for figures in of_runs if figures[key] is not None]
        row[key] = float(np.median(values)) if values else None
    return {**row, "runs": of_runs, "note": note}


def measure(source: str, chosen: argparse.Namespace, peers: dict[str, tuple[Peer, int]]) -> list[Row | None]:
    """The rows of a sequence, each printed when it is known; None for what failed, which is said on stderr."""
    rows: list[Row | None] = []

    def add(system: str, run: Callable[[], Row]) -> None:
        row = harness.attempt(f"{source}, {system}", run)
        rows.append(row)
        if row is not None:
            print(TABLE.line(row) + (f"  {row['note']}" if row["note"] else ""), flush=True)

    if OURS in chosen.systems:
        add(OURS, partial(own_row, source, {"every": chosen.every, "max_frames": chosen.max_frames}))
    if not peers:
        return rows
    with tempfile.TemporaryDirectory() as folder:
        recording = harness.attempt(source, partial(record, source, Path(folder), chosen.every, chosen.max_frames or None))
        for system, (peer, runs) in peers.items() if recording else ():
            add(system, partial(peer_row, source, recording, system, peer, runs))
    return rows if recording else [*rows, None]


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Measures, prints, writes; returns the exit status: 0, 2 when a run failed, 130 when interrupted."""
    chosen = options(arguments)
    peers = installed(chosen)
    print(TABLE.header(), flush=True)
    rows = [row for source in chosen.sequences for row in measure(source, chosen, peers)]
    done = [row for row in rows if row is not None]
    harness.write_json(chosen.json, done)
    return 0 if len(done) == len(rows) else harness.FAILED


if __name__ == "__main__":
    harness.start(main, one_thread=True)
