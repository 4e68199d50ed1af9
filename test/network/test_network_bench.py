# SPDX-License-Identifier: Apache-2.0
"""bench/network.py: its counts of operations against the documented ones, its plain way against the usual one, its report."""

import json
import math
import sys

import network
import pytest
import torch
from harness import Row, Timing
from network import precision_errors
from network_bench.stages import STAGES, Workload, stage_flops, whole_network
from network_bench.sweep import row as figures
from network_bench.sweep import speed_ups

from golden_checks.procedural import procedural_network
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.heads import STRIP_ROWS

GIGA = 1e9


@pytest.fixture(scope="module")
def work() -> Workload:
    tiny = procedural_network("tiny_mast3r")
    return Workload(tiny, stage_flops(tiny.config, 64, 48), 64, 48, batch=1)


def test_the_full_size_network_costs_what_its_description_says():
    flops = stage_flops(NetworkConfig(), 512, 384)
    saved = 2 * 3 / 4 * 256 * 256 * (192 * 256 + 96 * 128 + 48 * 64 + 24 * 32) / GIGA  # out_conv before its enlargement
    saved -= 2 * (384 // STRIP_ROWS - 1) * 2 * 512 * 128 * 128 * 9 / GIGA  # rows beside the strips, computed twice
    assert flops.encode / GIGA == pytest.approx(523, abs=1)
    assert flops.decode / GIGA == pytest.approx(437, abs=1)
    assert flops.geometry / GIGA == pytest.approx(187 - saved, abs=1)
    assert flops.descriptors / GIGA == pytest.approx(90, abs=1)
    assert flops.tracked_frame / GIGA == pytest.approx(1510 - 2 * saved, abs=5)
    assert flops.symmetric_pair / GIGA == pytest.approx(3030 - 4 * saved, abs=10)


def test_the_plain_way_gives_the_same_result(work):
    plain = whole_network(work, *work.images)
    with torch.inference_mode():
        usual = work.network(*work.images)
    for ours, theirs in ((usual.view0, plain.view0), (usual.view1, plain.view1)):
        torch.testing.assert_close(ours.X, theirs.X, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.desc, theirs.desc, rtol=1e-3, atol=1e-4)


def test_every_stage_runs(work):
    for name, stage in STAGES.items():
        stage.make(work, "eager")()
        assert stage.flops(work.flops) >= 0.0 and work.has(name, "eager")


def test_a_run_prints_a_table_and_writes_a_report(monkeypatch, tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = "--device cpu --size tiny --shapes 48x32 --stages encode symmetric --modes eager plain --batches 1 2 --runs 1"
    monkeypatch.setattr(sys, "argv", ["network.py", *arguments.split(), "--json", str(report)])
    assert network.main() == 0
    rows = json.loads(report.read_text())["results"]
    assert [(row["stage"], row["mode"], row["batch"]) for row in rows] == [
        *((stage, "eager", batch) for batch in (1, 2) for stage in ("encode", "symmetric pair")),
        *(("symmetric pair", "plain", batch) for batch in (1, 2)),
    ]
    for row in rows:
        expected = 1e3 * row["items"] / row["timing"]["median_ms"]
        assert row["items_per_s"] == pytest.approx(expected) and 0.0 < row["share_of_matmul"] < 10.0
    said = capsys.readouterr().out
    assert "of matmul" in said and "times as fast as the plain way" in said


@pytest.mark.parametrize(
    "arguments", [["--shapes", "500x384"], ["--shapes", "big"], ["--batches", "0"], ["--json", "none/a.json"]]
)
def test_a_mistake_in_the_arguments_ends_with_2(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["network.py", *arguments])
    with pytest.raises(SystemExit) as ending:
        network.main()
    assert ending.value.code == 2


def test_a_checkpoint_that_is_missing_ends_with_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["network.py", "--errors", "--checkpoint", str(tmp_path / "missing.pth")])
    assert network.main() == 2
    assert "missing.pth" in capsys.readouterr().err


def test_half_precision_is_told_from_single():
    found = list(precision_errors(lambda dtype: procedural_network("tiny_mast3r").to(dtype), 64, 48))
    assert len(found) == 2 * (2 * 4 + 1)
    for item in found:
        if item["kind"] == "NeighbourAgreement":
            reciprocal = item["same_of_reciprocal"]
            assert 0.5 < item["same"] <= 1.0 and (math.isnan(reciprocal) or reciprocal > 0.5)
        else:
            assert 1e-5 < item["relative_l2"] < 0.2


def test_ratios_compare_the_same_work():
    def measured(mode: str, batch: int, ms: float) -> Row:
        return figures("symmetric pair", (512, 384, batch, "fp32", mode), batch, 1.0, 1.0, Timing(ms, ms, 1, 0.0, ms))

    rows = [measured(*made) for made in (("eager", 1, 10.0), ("graphs", 1, 5.0), ("eager", 2, 1.0), ("plain", 1, 20.0))]
    (sentence,) = speed_ups(rows)
    assert "graphs is 4.0 times" in sentence and "batch 1" in sentence
    assert rows[1]["flops_per_s"] == pytest.approx(200.0) and rows[1]["items_per_s"] == pytest.approx(200.0)
