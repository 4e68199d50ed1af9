# SPDX-License-Identifier: Apache-2.0
"""The network against recorded outputs of the published models, by the checks of bench/goldens.py."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from golden_checks.kinds import Checker, kind_of
from golden_checks.network_files import check_network_file
from golden_checks.procedural import procedural_network
from golden_checks.results import Check, row

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "test" / "golden"
FULL = "full_mast3r"
FULL_MEMORY_MIB = 4e9 / 2**20
KINDS = ("tiny_mast3r", "tiny_dust3r_dpt", "tiny_dust3r_linear", "match", "rope", "postprocess")
FILES = sorted(path for path in GOLDEN.iterdir() if kind_of(path) in KINDS or path.name == f"keys_{FULL}.json")


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    return Checker()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_recorded_outputs_are_reproduced(path, checker):
    checks = [result for result in checker.check(path) if isinstance(result, Check)]
    wrong = [row(check, 0) for check in checks if not check.ok]
    assert checks and not wrong, "\n".join(wrong)


def test_files_of_every_kind_are_there():
    assert {kind_of(path) for path in FILES} == {*KINDS, FULL}


@pytest.mark.parametrize(
    ("name", "least_wrong"),
    [("tiny_mast3r__lowcontrast_96x128.npz", 8), ("tiny_mast3r__proc_48x80_full.npz", 16)],
)
def test_a_small_mistake_in_the_network_is_noticed(name, least_wrong):
    network = procedural_network("tiny_mast3r")
    if "lowcontrast" in name:
        network.enc_norm.eps = network.dec_norm.eps = 1e-5
        for block in network.enc_blocks:
            block.norm1.eps = block.norm2.eps = 1e-5
    else:
        network.dec_blocks2[5].load_state_dict(network.dec_blocks[5].state_dict())
    wrong = [result for result in check_network_file(GOLDEN / name, network) if isinstance(result, Check) and not result.ok]
    assert len(wrong) >= least_wrong


@pytest.mark.full
def test_the_full_size_network_reproduces_its_recorded_outputs_in_4_gb(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, ROOT / "bench" / "goldens.py", GOLDEN, "--set", FULL, "--json", report]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(report.read_text())
    checked = {check["file"] for check in found["checks"]}
    assert {path.name for path in GOLDEN.glob(f"{FULL}__*.npz")} < checked
    assert found["peak_memory_mib"] < FULL_MEMORY_MIB
