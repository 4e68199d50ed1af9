# SPDX-License-Identifier: Apache-2.0
"""Images over a lossy link between a robot and a base station: delivery and latency.

Two network namespaces are connected by a veth pair, with a process in each and DDS between them. Packets (IP fragments, TCP
segments) are dropped at random in both directions, and the rate of the link is limited. The images of a source are 640x480 at 15
per second, stamped when sent; the latency is the time to the callback on the base station or, with --map, to the pose of the
mapping node. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import harness
import numpy as np
from ament_index_python.packages import get_package_prefix
from harness import Row, Table
from lossy_bench.link import ADDRESSES, BASE, OTHER, ROBOT, Link, LinkError, check_machine

from st3r_ros.io.calibration import write_camera
from st3r_ros.sequences import open_sequence

CONFIG = Path(__file__).parent.parent / "config"
LISTENER = Path(__file__).parent / "lossy_bench" / "listener.py"
FPS = 15.0
END_S = 20.0
"""Seconds that the camera may take longer than it plays: loading, being discovered, waiting for acknowledgements."""
SUBNET = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
EXAMPLES = """examples; docs/distributed.md has more:
  sudo -E env PATH="$PATH" python bench/lossy_network.py                        30 % loss, 20 Mbit/s
  sudo -E env PATH="$PATH" python bench/lossy_network.py --map --settings paced,default"""


@dataclass(frozen=True)
class Setting:
    """One way to send images. profile: the file in config/ of each side. robot, base: their other environment variables.

    server: whether a discovery server runs on the base station. sysctl: settings of both kernels.
    """

    transport: str = "compressed"
    reliability: str = "best_effort"
    profile: dict[str, str] = field(default_factory=dict)
    robot: dict[str, str] = field(default_factory=dict)
    base: dict[str, str] = field(default_factory=dict)
    server: bool = False
    sysctl: dict[str, str] = field(default_factory=dict)

    def environment(self, side: str) -> dict[str, str]:
        """The environment variables of one side."""
        variables = SUBNET | (self.robot if side == ROBOT else self.base)
        if side in self.profile:
            file = str(CONFIG / self.profile[side])
            variables |= {"FASTDDS_DEFAULT_PROFILES_FILE": file, "FASTRTPS_DEFAULT_PROFILES_FILE": file}
        return variables


LOSSY = {ROBOT: "fastdds_lossy.xml", BASE: "fastdds_lossy.xml"}
PACED = {ROBOT: "fastdds_lossy_paced.xml", BASE: "fastdds_lossy.xml"}
ASYNCHRONOUS = {"RMW_FASTRTPS_PUBLICATION_MODE": "ASYNCHRONOUS"}
TCP = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}
PEERS = {side: {"ROS_STATIC_PEERS": ADDRESSES[other]} for side, other in OTHER.items()}
SERVER = {"ROS_DISCOVERY_SERVER": f"{ADDRESSES[BASE]}:11811"}
FRAGMENTS = {"net.ipv4.ipfrag_time": "1", "net.ipv4.ipfrag_high_thresh": "134217728"}
SETTINGS = {
    "raw": Setting("raw"),
    "raw-reliable": Setting("raw", "reliable"),
    "default": Setting(),
    "default-sysctl": Setting(sysctl=FRAGMENTS),
    "reliable": Setting(reliability="reliable"),
    "tcp": Setting(reliability="reliable", robot=TCP, base=TCP),
    "lossy-best-effort": Setting(profile=LOSSY),
    "lossy": Setting(reliability="reliable", profile=LOSSY),
    "paced": Setting(reliability="reliable", profile=PACED, robot=ASYNCHRONOUS),
    "paced-peers": Setting(reliability="reliable", profile=PACED, robot=ASYNCHRONOUS | PEERS[ROBOT], base=PEERS[BASE]),
    "paced-server": Setting(reliability="reliable", profile=PACED, robot=ASYNCHRONOUS | SERVER, base=SERVER, server=True),
}
COLUMNS = (("setting", "setting", "<20", ""), ("sent", "sent", ">6", ""), ("received", "received", ">10", ""))
COLUMNS += (("tracked", "tracked", ">9", ""), ("share", "share", ">8", ".0%"), ("first_s", "first s", ">9", ".1f"))
COLUMNS += (("median_ms", "median ms", ">11", ".0f"), ("p95_ms", "p95 ms", ">8", ".0f"), ("mbit", "Mbit/s", ">8", ".1f"))


def row(setting: str, note: str = "", **figures: float) -> Row:
    """first_s: from the first image sent to the first that arrived. share: of the images sent since then. mbit: per second, all
    that the robot has sent while it played. note: why there are no figures."""
    counts, others = ("sent", "received", "tracked"), ("share", "first_s", "median_ms", "p95_ms", "mbit")
    return {"setting": setting, **dict.fromkeys(counts, 0), **dict.fromkeys(others, math.nan), **figures, "note": note}


def table(mapping: bool) -> Table:
    """With the tracked images where they are mapped."""
    return Table([column for column in COLUMNS if mapping or column[0] != "tracked"], gap="")


def line(row: Row, mapping: bool) -> str:
    """One line of the table."""
    return f"{row['setting']:<20}  {row['note']}" if row["note"] else table(mapping).line(row)


def record(source: str, count: int, folder: Path) -> int:
    """The first images of a source as a folder in the TUM layout, at FPS. Returns how many there are."""
    lines = []
    for index, frame in enumerate(open_sequence(source, max_frames=count)):
        cv2.imwrite(str(folder / f"{index:05d}.png"), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        lines.append(f"{index / FPS:.9f} {index:05d}.png\n")
        camera = frame.camera
    (folder / "rgb.txt").write_text("".join(lines))
    if camera is not None:
        write_camera(folder / "camera.yaml", camera)
    return len(lines)


@contextmanager
def started(link: Link, side: str, words: list[str], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A process on one side; at the end it is interrupted, and killed if that does not help."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with log.open("w") as output:
        process = subprocess.Popen(
            link.command(side, words),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **variables, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def node(executable: str, **parameters: object) -> list[str]:
    """The command line of one of our nodes."""
    program = Path(get_package_prefix("st3r_ros"), "lib", "st3r_ros", executable)
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    return [sys.executable, str(program), "--ros-args", *arguments]


def measure(link: Link, name: str, images: Path, seconds: float, mapping: bool) -> Row:
    """Play the images once with one setting."""
    setting = SETTINGS[name]
    base, robot = setting.environment(BASE), setting.environment(ROBOT)
    what = "mapping" if mapping else setting.transport
    with tempfile.TemporaryDirectory(prefix="st3r_lossy_") as folder, ExitStack() as stack:
        target, heard_log, log = (Path(folder, file) for file in ("heard.json", "listener.log", "camera.log"))
        if setting.server:
            server = ["fastdds", "discovery", "-i", "0", "-l", ADDRESSES[BASE], "-p", "11811"]
            stack.enter_context(started(link, BASE, server, {}, Path(folder, "server.log")))
        if mapping:
            words = node("mapping_node", base_frame="", image_transport=setting.transport, image_reliability=setting.reliability)
            stack.enter_context(started(link, BASE, words, base, Path(folder, "mapping.log")))
        words = [sys.executable, str(LISTENER), what, setting.reliability, str(target)]
        with started(link, BASE, words, base, heard_log) as listener:
            time.sleep(8.0 if mapping else 2.0)
            if listener.poll() is not None:
                raise LinkError(f"The listener ended: {_last(heard_log)}")
            before = link.sent_bytes()
            words = node("camera_node", source=str(images), stamp_now=True)
            with started(link, ROBOT, words, robot, log) as camera:
                with suppress(subprocess.TimeoutExpired):
                    camera.wait(seconds + END_S)
                after = link.sent_bytes()
            time.sleep(1.0)
        text = log.read_text()
        begin = re.search(r"\[INFO\] \[([\d.]+)\] \[st3r_camera\]: Playing", text)
        sent = re.search(r"Sent (\d+) images in ([\d.]+) s", text)
        if begin is None or sent is None:
            waited = "waiting for a subscriber" in text
            return row(name, note="the two sides did not find each other" if waited else _last(log))
        if not target.exists():
            return row(name, note=f"the listener ended with {listener.returncode}: {_last(heard_log)}")
        bytes_per_s = (after - before) / float(sent[2])
        return measured_row(name, int(sent[1]), float(begin[1]), json.loads(target.read_text()), bytes_per_s)


def measured_row(name: str, sent: int, begin: float, heard: dict, bytes_per_s: float) -> Row:
    """The row of a measurement: images sent from `begin` on (seconds), and what the listener has heard of them."""
    figures = {"sent": sent, "received": heard["received"], "tracked": heard["tracked"], "mbit": 8e-6 * bytes_per_s}
    if not heard["stamps"]:
        return row(name, **figures, share=heard["received"] / sent)
    first_s, ms = heard["stamps"][0] - begin, harness.spread(1e3 * np.array(heard["latencies"]))
    share = min(1.0, heard["received"] / max(1, sent - round(first_s * FPS)))
    return row(name, **figures, share=share, first_s=first_s, median_ms=ms["median"], p95_ms=ms["p95"])


def _last(log: Path) -> str:
    """What a process has said last."""
    return (log.read_text().strip().splitlines() or ["it said nothing"])[-1]


@harness.command
def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = harness.parser(__doc__, EXAMPLES)
    parser.add_argument("--loss", type=float, default=30.0, help="packet loss, per cent, 0..100")
    parser.add_argument("--rate", type=float, default=20.0, help="Mbit/s of the link; 0 for no limit")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of each setting, seconds")
    parser.add_argument("--source", default="sim:room", help="the images, as st3r map takes them; the first ones are played")
    settings = harness.one_of(SETTINGS, "setting")
    parser.add_argument("--settings", type=settings, default=list(SETTINGS), metavar="A,B", help=f"of: {', '.join(SETTINGS)}")
    parser.add_argument("--no-multicast", action="store_true", help="drop multicast, as some access points do")
    parser.add_argument("--map", action="store_true", help="run the mapping node on the base station")
    harness.add_outputs(parser, "also write the rows to this file")
    options = parser.parse_args(arguments)
    if not 0 <= options.loss <= 100 or options.rate < 0 or options.seconds < 1:
        parser.error("--loss is 0..100, --rate at least 0, --seconds at least 1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    check_machine()
    harness.write_json(options.json, _run(options))
    return 0


def _run(options: argparse.Namespace) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="st3r_images_") as folder:
        count = record(options.source, round(FPS * options.seconds), Path(folder))
        limit = f"{options.rate:g} Mbit/s" if options.rate else "no limit of the rate"
        multicast = ", no multicast" if options.no_multicast else ""
        print(f"{options.loss:g} % of the packets lost, {limit}{multicast}, {count} images at {FPS:g} per second")
        print(table(options.map).header(), flush=True)
        for name in options.settings:
            sysctl = SETTINGS[name].sysctl
            with Link(options.loss / 100, options.rate, multicast=not options.no_multicast, sysctl=sysctl) as link:
                rows.append(measure(link, name, Path(folder), count / FPS, options.map))
            print(line(rows[-1], options.map), flush=True)
    return rows


if __name__ == "__main__":
    harness.start(main)
