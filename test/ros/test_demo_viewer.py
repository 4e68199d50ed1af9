# SPDX-License-Identifier: Apache-2.0
"""`st3r demo --view`: the page is there while the map is made and stays until Ctrl-C."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from ros_harness import wait_until

ROOM = "sim:room?frames=20&fps=8&width=320&height=240"


def test_the_page_stays_after_the_demo_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "st3r_ros.ros.demo", "--view", "--input", ROOM, "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        wait_until(lambda: process.poll() is not None or any("stays on" in line for line in lines), "the end of the demo", 120.0)
        output = "".join(lines)
        found = re.search(r"The map stays on (http://127\.0\.0\.1:\d+)\. Ctrl-C ends\.", output)
        assert found is not None, output
        assert f"The map is shown on {found[1]}." in output
        assert "Images: 20 sent" in output
        with urllib.request.urlopen(found[1], timeout=20) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        reader.join(10)
    assert "Traceback" not in "".join(lines)
