# SPDX-License-Identifier: Apache-2.0
"""Compares this package with recorded outputs of the published models, file by file and array by array.

Weights are generated from their names, so that even the full-size network needs no weight file; images missing in a file are
generated as well. Exit status: 0 all within tolerance, 1 some are not or nothing was checked, 2 an error in the arguments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
from pathlib import Path

import numpy as np
import PIL
import torch

from golden_checks.kinds import KINDS, WEIGHTS, Checker, kind_of
from golden_checks.results import Check, Result, Skipped, header, row

EXAMPLES = """examples:
  python bench/goldens.py                                       the files that come with the tests
  python bench/goldens.py ~/goldens                             all files of a folder; 48x80 to 384x512 takes minutes
  python bench/goldens.py ~/goldens --set tiny_mast3r match     some kinds only
  python bench/goldens.py ~/goldens --weights pth --json out.json"""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [Path(__file__).parents[1] / "golden"]
    parser.add_argument("folders", metavar="DIR", nargs="*", type=Path, default=known, help="folders of files to check")
    parser.add_argument("--set", dest="kinds", nargs="+", choices=KINDS, metavar="KIND", help=f"only these: {', '.join(KINDS)}")
    parser.add_argument("--weights", choices=WEIGHTS, default="procedural", help="pth uses <set>.pth next to each network file")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    chosen = parser.parse_args()
    for folder in chosen.folders:
        if not folder.is_dir():
            parser.error(f"{folder} is not a folder.")
    if chosen.json and not chosen.json.absolute().parent.is_dir():
        parser.error(f"The folder of {chosen.json} does not exist.")
    return chosen


def run(folders: list[Path], kinds: list[str], weights: str) -> list[Result]:
    """Checks all files of some kinds, printing each result as it comes."""
    files = sorted((path for folder in folders for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)
    wanted = [path for path in files if kind_of(path) in kinds]
    wanted.sort(key=lambda path: (KINDS.index(kind_of(path)), path.name))
    width = max((len(path.name) for path in files), default=4)
    checker, results = Checker(weights), []
    print(header(width))
    for count, path in enumerate(wanted, start=1):
        print(f"({count} of {len(wanted)}) {path}", file=sys.stderr, flush=True)
        for result in checker.check(path):
            results.append(result)
            print(row(result, width), flush=True)
    for path in files:
        if kind_of(path) is None:
            results.append(Skipped(path.name, "", "not a file of a known kind"))
            print(row(results[-1], width))
    return results


def summary(checks: list[Check], peak_mib: int) -> str:
    """The last line: how much was checked, and the worst of it."""
    if not checks:
        return "Nothing was checked: no file of the chosen kinds is there."
    wrong = sum(not check.ok for check in checks)
    close = [check for check in checks if check.measure == "relative L2"]
    worst = max(close, key=lambda check: check.error, default=None)
    said = f" Largest relative L2: {worst.error:.1e}, {worst.array} of {worst.file}." if worst else ""
    files = len({check.file for check in checks})
    return f"{len(checks)} checks of {files} files, {wrong} beyond tolerance.{said} Peak memory: {peak_mib} MiB."


def main() -> int:
    """Checks, prints, writes; returns the exit status."""
    chosen = options()
    results = run(chosen.folders, chosen.kinds or list(KINDS), chosen.weights)
    checks = [result for result in results if isinstance(result, Check)]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(summary(checks, peak_mib))
    ok = bool(checks) and all(check.ok for check in checks)
    report = {
        "ok": ok,
        "weights": chosen.weights,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "threads": torch.get_num_threads(),
        "peak_memory_mib": peak_mib,
        "checks": [dataclasses.asdict(check) | {"ok": check.ok} for check in checks],
        "skipped": [dataclasses.asdict(result) for result in results if isinstance(result, Skipped)],
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0 if ok else 1
