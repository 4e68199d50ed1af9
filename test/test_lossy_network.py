# SPDX-License-Identifier: Apache-2.0
"""bench/lossy_network.py: the figures mean what they say; what is missing is said."""

import math
import os
import shutil

import lossy_network
import pytest
from lossy_bench import link
from lossy_bench.link import ADDRESSES, BASE, ROBOT, LinkError


def test_images_before_the_discovery_do_not_count_as_lost() -> None:
    stamps = [1000.0 + 2.0 + index / lossy_network.FPS for index in range(0, 60, 2)]
    heard = {"stamps": stamps, "latencies": [0.01 * index for index in range(30)], "received": 30, "tracked": 0}
    row = lossy_network.measured_row("lossy", 90, 1000.0, heard, 1e6)
    assert [row[key] for key in ("sent", "received", "share", "mbit")] == [90, 30, 0.5, 8.0]
    assert row["first_s"] == pytest.approx(2.0)
    assert (row["median_ms"], row["p95_ms"]) == pytest.approx((145.0, 275.5))


def test_a_row_without_images_has_no_latency() -> None:
    row = lossy_network.measured_row("raw", 90, 1000.0, {"stamps": [], "latencies": [], "received": 0, "tracked": 0}, 1e6)
    assert math.isnan(row["median_ms"])
    assert "nan" not in lossy_network.line(row, mapping=True)


@pytest.mark.parametrize("mapping", [False, True])
def test_the_lines_of_the_table_are_as_long_as_its_head(mapping: bool) -> None:
    figures = {"share": 0.96, "first_s": 0.5, "median_ms": 148.2, "p95_ms": 317.9, "mbit": 12.3}
    row = lossy_network.row("paced-server", sent=225, received=216, tracked=138, **figures)
    assert len(lossy_network.line(row, mapping)) == len(lossy_network.table(mapping).header())


def test_every_setting_finds_its_profiles() -> None:
    for setting in lossy_network.SETTINGS.values():
        for side in (ROBOT, BASE):
            variables = setting.environment(side)
            assert variables["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
            assert os.path.exists(variables.get("FASTDDS_DEFAULT_PROFILES_FILE", "/"))
    assert lossy_network.SETTINGS["paced-peers"].environment(ROBOT)["ROS_STATIC_PEERS"] == ADDRESSES[BASE]


def test_without_root_or_without_the_tools_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lossy_network.main([]) == 2
    assert capsys.readouterr().err == "Error: Network namespaces need root; run this with sudo.\n"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "nft" else tool)
    with pytest.raises(LinkError, match="There is no nft; install it with: apt install nftables"):
        link.check_machine()
