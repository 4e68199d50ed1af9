# SPDX-License-Identifier: Apache-2.0
"""Tests run the installed package: only there the generated st3r_ros.msg lies beside the sources.

`python -m pytest`, called in the checkout, puts the checkout first on sys.path; this takes it off where an installed one exists.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if any(Path(entry, "st3r_ros", "msg").is_dir() for entry in sys.path):
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
