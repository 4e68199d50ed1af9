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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import cv2
from ament_index_python.packages import get_package_prefix
from lossy_bench.link import ADDRESSES, BASE, OTHER, ROBOT, Link, LinkError, check_machine

from st3r_ros.errors import St3rError
from st3r_ros.io.calibration import write_camera
from st3r_ros.sequences import open_sequence

CONFIG = Path(__file__).parent.parent / "config"
LISTENER = Path(__file__).parent / "lossy_bench" / "listener.py"
FPS = 15.0
END_S = 20.0
"""Seconds that the camera may take longer than it plays: loading, being discovered, waiting for acknowledgements."""
USER_ERROR = 2
SUBNET = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
EXAMPLES = """examples:
  sudo -E env PATH="$PATH" python bench/lossy_network.py                        30 % loss, 20 Mbit/s
  sudo -E env PATH="$PATH" python bench/lossy_network.py --loss 5 --rate 0
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
NO_PROFILE = {"FASTDDS_DEFAULT_PROFILES_FILE": "/dev/null"}
TCP = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA", **NO_PROFILE}
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


@dataclass(frozen=True)
class Row:
    """A line of the table. first_s: from the first image sent to the first that arrived. share: of the images sent since then.

    mbit: per second, all that the robot has sent while it played.
    """

    setting: str
    sent: int = 0
    received: int = 0
    tracked: int = 0
    share: float = math.nan
    first_s: float = math.nan
    median_ms: float = math.nan
    p95_ms: float = math.nan
    mbit: float = math.nan
    note: str = ""


def record(source: str, count: int, folder: Path) -> int:
    """The first images of a source as a folder in the TUM layout, at FPS. Returns how many there are.

    Raises:
        St3rError: the source cannot be read.
    """
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
    bench = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [bench, os.environ.get("PYTHONPATH")]))
    with log.open("w") as output:
        process = subprocess.Popen(
            link.command(side, words),
            env=environment,
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
    with tempfile.TemporaryDirectory(prefix="st3r_lossy_") as folder, ExitStack() as stack:
        target, log = Path(folder, "heard.json"), Path(folder, "camera.log")
        if setting.server:
            server = ["fastdds", "discovery", "-i", "0", "-l", ADDRESSES[BASE], "-p", "11811"]
            stack.enter_context(started(link, BASE, server, {}, Path(folder, "server.log")))
        if mapping:
            words = node("mapping_node", base_frame="", image_transport=setting.transport, image_reliability=setting.reliability)
            stack.enter_context(started(link, BASE, words, base, Path(folder, "mapping.log")))
        what = "mapping" if mapping else setting.transport
        words = [sys.executable, str(LISTENER), what, setting.reliability, str(target)]
        with started(link, BASE, words, base, Path(folder, "listener.log")) as listener:
            time.sleep(8.0 if mapping else 2.0)
            if listener.poll() is not None:
                raise LinkError(f"The listener ended: {_last(Path(folder, 'listener.log').read_text())}")
            before = link.counts()
            words = node("camera_node", source=str(images), stamp_now=True)
            with started(link, ROBOT, words, robot, log) as camera:
                with suppress(subprocess.TimeoutExpired):
                    camera.wait(seconds + END_S)
                after = link.counts()
            time.sleep(1.0)
        text = log.read_text()
        begin, sent = _log_time(text, "Playing"), re.search(r"Sent (\d+) images in ([\d.]+) s", text)
        if begin is None or sent is None:
            return Row(name, note=_why(text))
        if not target.exists():
            return Row(
                name, note=f"the listener ended with {listener.returncode}: {_last(Path(folder, 'listener.log').read_text())}"
            )
        heard = json.loads(target.read_text())
        return _row(name, int(sent.group(1)), begin, heard, (after["bytes"] - before["bytes"]) / float(sent.group(2)))


def _row(name: str, sent: int, begin: float, heard: dict, bytes_per_s: float) -> Row:
    received, mbit = heard["received"], 8e-6 * bytes_per_s
    if not heard["stamps"]:
        return Row(name, sent, received, heard["tracked"], received / sent, mbit=mbit)
    first_s = heard["stamps"][0] - begin
    since = sent - round(first_s * FPS)
    milliseconds = sorted(1e3 * value for value in heard["latencies"])
    p95 = milliseconds[min(len(milliseconds) - 1, int(0.95 * len(milliseconds)))]
    share = min(1.0, received / max(1, since))
    return Row(name, sent, received, heard["tracked"], share, first_s, statistics.median(milliseconds), p95, mbit)


def _log_time(text: str, words: str) -> float | None:
    found = re.search(rf"\[INFO\] \[([\d.]+)\] \[st3r_camera\]: {words}", text)
    return float(found.group(1)) if found else None


def _why(text: str) -> str:
    if "waiting for a subscriber" in text:
        return "the two sides did not find each other"
    return _last(text)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def header(mapping: bool) -> str:
    """The first line of the table."""
    tracked = f"{'tracked':>9}" if mapping else ""
    figures = f"{'share':>8}{'first s':>9}{'median ms':>11}{'p95 ms':>8}{'Mbit/s':>8}"
    return f"{'setting':<20}{'sent':>6}{'received':>10}{tracked}{figures}"


def line(row: Row, mapping: bool) -> str:
    """One line of the table."""
    if row.note:
        return f"{row.setting:<20}  {row.note}"
    tracked = f"{row.tracked:>9}" if mapping else ""
    figures = f"{row.first_s:>9.1f}{row.median_ms:>11.0f}{row.p95_ms:>8.0f}{row.mbit:>8.1f}"
    return f"{row.setting:<20}{row.sent:>6}{row.received:>10}{tracked}{row.share:>8.0%}{figures}".replace("nan", "  -")


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", type=float, default=30.0, help="packet loss, per cent, 0..100")
    parser.add_argument("--rate", type=float, default=20.0, help="Mbit/s of the link; 0 for no limit")
    parser.add_argument("--seconds", type=float, default=15.0, help="duration of each setting, seconds")
    parser.add_argument("--source", default="sim:room", help="the images, as st3r map takes them; the first ones are played")
    parser.add_argument("--settings", default=",".join(SETTINGS), help=f"of: {', '.join(SETTINGS)}")
    parser.add_argument("--no-multicast", action="store_true", help="drop multicast, as some access points do")
    parser.add_argument("--map", action="store_true", help="run the mapping node on the base station")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(arguments)
    names = options.settings.split(",")
    unknown = [name for name in names if name not in SETTINGS]
    if unknown or not 0 <= options.loss <= 100 or options.rate < 0 or options.seconds < 1:
        parser.error(
            f"there is no setting {unknown[0]}" if unknown else "--loss is 0..100, --rate at least 0, --seconds at least 1"
        )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        check_machine()
        rows = _run(options, names)
    except (LinkError, St3rError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("Interrupted; the namespaces are removed.", file=sys.stderr)
        return 130
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _run(options: argparse.Namespace, names: list[str]) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="st3r_images_") as folder:
        count = record(options.source, round(FPS * options.seconds), Path(folder))
        limit = f"{options.rate:g} Mbit/s" if options.rate else "no limit of the rate"
        multicast = ", no multicast" if options.no_multicast else ""
        print(f"{options.loss:g} % of the packets lost, {limit}{multicast}, {count} images at {FPS:g} per second")
        print(header(options.map), flush=True)
        for name in names:
            sysctl = SETTINGS[name].sysctl
            with Link(options.loss / 100, options.rate, multicast=not options.no_multicast, sysctl=sysctl) as link:
                rows.append(measure(link, name, Path(folder), count / FPS, options.map))
            print(line(rows[-1], options.map), flush=True)
    return rows


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
