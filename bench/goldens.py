# SPDX-License-Identifier: Apache-2.0
"""Compares this package with recorded outputs of the published models; the checks are those of test/golden_checks."""

import harness

from golden_checks.command import main

if __name__ == "__main__":
    harness.start(main)
