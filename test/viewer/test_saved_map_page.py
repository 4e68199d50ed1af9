# SPDX-License-Identifier: Apache-2.0
"""`st3r view` as a person meets it: the page in a real browser, the mistakes, the end. A picture is kept in build/screenshots."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import distinct_colors, drawn_share, kept_picture, open_page

from st3r_ros.geometry.transforms import SE3
from st3r_ros.maps.save import save_map
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import Edge, FramePose, Keyframe

WIDTH, HEIGHT = 160, 120
FOCAL = 120.0


def wall_map() -> KeyframeMap:
    """Three cameras, one beside the other, see a coloured wall 2 m away; the world is the first camera."""
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    X = np.stack([2 * (u - 79.5) / FOCAL, 2 * (v - 59.5) / FOCAL, np.full_like(u, 2.0)], axis=-1)
    image = np.stack([u / WIDTH * 255, v / HEIGHT * 255, np.full_like(u, 128)], axis=-1).astype(np.uint8)
    K = np.array([[FOCAL, 0, 79.5], [0, FOCAL, 59.5], [0, 0, 1.0]])
    result = KeyframeMap()
    for number in range(3):
        pose = SE3(np.eye(3), np.array([0.5 * number, 0.0, 0.0]))
        conf = torch.full((HEIGHT, WIDTH), 5.0, dtype=torch.float16)
        points = torch.from_numpy(X).to(torch.float16)
        result.add_keyframe(Keyframe(number, number, number, pose.sim3(), points, conf, image, K))
        result.frames.append(FramePose(number, number, number, SE3.identity().sim3()))
        if number:
            pixels = torch.zeros((1, 2))
            result.add_edge(Edge.pack(number - 1, number, "sequential", pixels, pixels, torch.ones(1)))
    return result


@contextmanager
def viewing(*arguments: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """`st3r view ARGUMENTS --no-open` as a process, and the address it says."""
    command = [sys.executable, "-m", "st3r_ros", "view", *map(str, arguments), "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"is on (http\S+)\. Ctrl-C ends", line)
        assert found is not None, line + process.communicate(timeout=60)[1]
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def test_a_saved_map_is_seen_in_the_browser(chromium: str, tmp_path: Path) -> None:
    save_map(tmp_path / "map", wall_map(), pair_model="opencv")
    with viewing(tmp_path / "map", "--port", 0, "--set", "cloud.voxel_size=0") as (process, url):
        with open_page(url, tmp_path) as page:
            page.wait_for_text("Keyframes", "57,600", "57,600 of 57,600 points are shown")
            page.wait_for(lambda: drawn_share(page.canvas()) > 0.1, "the cloud")
            canvas = page.canvas(kept_picture("viewer_saved_map.png"))
            assert distinct_colors(canvas) > 60  # the wall has a colour of its own everywhere
            page.press("Show the whole map")
            share = drawn_share(canvas)
            page.tick(1)  # Cloud
            page.wait_for(lambda: drawn_share(page.canvas()) < 0.4 * share, "a canvas without the cloud, which is switched off")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_port_in_use_ends_with_a_sentence(st3r, tmp_path: Path) -> None:
    save_map(tmp_path / "map", wall_map(), pair_model="opencv")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        outcome = st3r("view", tmp_path / "map", "--port", port, "--no-open")
    assert outcome.code == 2
    assert outcome.err.startswith(f"Error: Port {port} of 127.0.0.1 is in use")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tmp}/none"], "none"),
        (["{tmp}", "--max-points", "5"], "max_points is 5"),
        (["{tmp}", "--port", "70000"], "port is 70000"),
    ],
)
def test_a_mistake_is_one_sentence(st3r, tmp_path: Path, arguments: list[str], words: str) -> None:
    given = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    outcome = st3r("view", *given, *([] if "--port" in given else ["--port", 0]), "--no-open")
    assert outcome.code == 2
    assert outcome.err.startswith("Error: ")
    assert words in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_other_machines_are_warned_about(tmp_path: Path) -> None:
    save_map(tmp_path / "map", wall_map(), pair_model="opencv")
    with viewing(tmp_path / "map", "--port", 0, "--host", "0.0.0.0") as (process, url):
        assert not url.startswith("http://0.0.0.0")
        process.send_signal(signal.SIGTERM)
        assert "everybody who can reach it" in process.communicate(timeout=30)[1]
        assert process.returncode == 0
