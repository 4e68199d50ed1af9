# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by the real launch: arguments, autostart, mistakes, Ctrl-C.

launch and launch_ros come with a ROS 2 installation; there is no wheel of them. Where ROS comes as wheels, what needs them is
skipped, unless they are put beside the wheels, in a folder that is no part of the checkout:

    git clone -b jazzy https://github.com/ros2/launch; git clone -b jazzy https://github.com/ros2/launch_ros
    git clone -b jazzy https://github.com/ros2/rcl_interfaces      # launch_ros imports composition_interfaces
    pip install --target site osrf_pycommon lark pyyaml
    pip install --target site --no-deps --no-build-isolation ./launch/launch ./launch/launch_xml ./launch/launch_yaml \
        ./launch_ros/launch_ros
    colcon build --merge-install --base-paths rcl_interfaces/composition_interfaces --cmake-args -DBUILD_TESTING=OFF
    source install/local_setup.bash; export PYTHONPATH=$PWD/site:$PYTHONPATH
"""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from ros_harness import Ros, wait_until

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import launch_arguments

ROOT = Path(__file__).resolve().parents[2]
NODES = ("mapping", "relocalization")
PATIENCE_S = 60.0
NO_LAUNCH = "launch_ros comes with an installed ROS 2; there is no wheel of it"
# What `ros2 launch FILE ARGUMENTS` does, in a terminal of its own.
LAUNCH = """
import fcntl, sys, termios
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
file, *words = sys.argv[1:]
arguments = [tuple(word.split(":=", 1)) for word in words]
service = LaunchService(argv=words)
included = IncludeLaunchDescription(AnyLaunchDescriptionSource(file), launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


class Launched:
    """A launch file that runs in a terminal. `output` is what the terminal shows."""

    def __init__(self, file: str, *arguments: str) -> None:
        self._terminal, end = pty.openpty()
        self.output = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / f"st3r_{file}.launch.py"), *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self._terminal, b"\x03")

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows a text."""
        wait_until(lambda: text in self.output or self._process.poll() is not None, text, PATIENCE_S)
        assert text in self.output, self.output

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        wait_until(lambda: self._process.poll() is not None, "launch to end", PATIENCE_S)
        self._reader.join()
        return self._process.returncode

    def close(self) -> None:
        """Kill whatever still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()
        os.close(self._terminal)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 4096)
            except OSError:  # the other end is closed: all have ended
                return
            self.output += data.decode(errors="replace")


@pytest.fixture
def launch() -> Iterator[Any]:
    """Starts launch files; kills at the end of the test what has not ended."""
    pytest.importorskip("launch_ros", reason=NO_LAUNCH)
    running: list[Launched] = []

    def start(file: str, *arguments: str) -> Launched:
        running.append(Launched(file, *arguments))
        return running[-1]

    yield start
    for launched in running:
        launched.close()
        print(launched.output)  # pytest shows it when the test has failed


class Observer(Node):
    """Asks a node for its state and its parameters."""

    def __init__(self, name: str) -> None:
        super().__init__("observer")
        self._name = name
        self._state = self.create_client(GetState, f"{name}/get_state")
        self._parameters = self.create_client(GetParameters, f"{name}/get_parameters")

    def state(self) -> int:
        return self._call(self._state, GetState.Request()).current_state.id

    def parameters(self, *names: str) -> list[Any]:
        values = self._call(self._parameters, GetParameters.Request(names=names)).values
        return [parameter_value_to_python(value) for value in values]

    def subscriptions_of(self, name: str, namespace: str) -> set[str]:
        return {topic for topic, _ in self.get_subscriber_names_and_types_by_node(name, namespace)}

    def _call(self, client: Any, request: Any) -> Any:
        wait_until(client.service_is_ready, f"{self._name} to answer", PATIENCE_S)
        future = client.call_async(request)
        wait_until(future.done, f"the answer of {self._name}", PATIENCE_S)
        return future.result()


def observer(ros: Ros, name: str) -> Observer:
    ros.init()
    node = Observer(name)
    ros.spin(node)
    return node


ARGUMENTS = {
    file.name.removeprefix("st3r_").removesuffix(".launch.py"): {
        argument.name for argument in launch_arguments.launch_arguments(file)
    }
    for file in launch_arguments.FOLDER.glob("*.launch.py")
}


def documented_commands() -> list[tuple[str, str]]:
    """(launch file, arguments) of each `ros2 launch st3r_ros` in README, docs and parameter files."""
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.yaml")]
    pattern = r"ros2 launch st3r_ros st3r_(\w+)\.launch\.py((?:[^\n`#]|\\\n)*)"
    return sorted({found for file in files for found in re.findall(pattern, file.read_text())})


@pytest.mark.parametrize(("file", "words"), documented_commands())
def test_a_documented_command_has_arguments_that_exist(file: str, words: str) -> None:
    """This needs no launch."""
    given = re.findall(r"(\w+):=(\S*)", words)
    assert {name for name, _ in given} <= ARGUMENTS[file]
    assert not {"", "''", '""'} & {value for _, value in given}, "ros2 launch refuses an argument without a value"


def test_the_design_names_no_argument_that_is_missing() -> None:
    """Nor this."""
    everywhere = "namespace use_sim_time params_file image_topic camera_info_topic image_transport pair_model checkpoint device"
    wanted = {*everywhere.split(), "map_path", "autostart", "rviz", "rviz_config", "log_level"}
    assert {"viewer", "viewer_config"} <= ARGUMENTS["mapping"] & ARGUMENTS["demo"]
    assert wanted | {"map_frame", "odom_frame", "base_frame", "mode"} <= ARGUMENTS["mapping"]
    assert wanted | {"reference_frame", "child_frame", "rate", "reference_dir"} <= ARGUMENTS["relocalization"]


ALL_NODES = {
    "image_topic": "camera/image_raw",
    "camera_info_topic": "camera/info",
    "image_transport": "compressed",
    "camera_axes": "body",
    "rectified": "yes",
    "pair_model": "opencv",
    "device": "cpu",
    "publish_tf": "false",
    "use_sim_time": "true",
    "log_level": "warn",
}
OF_NODE = {
    "mapping": {"map_frame": "world", "base_frame": "''", "odom_frame": "odom", "mode": "mapping", "map_publish_period": "2"},
    "relocalization": {"reference_frame": "dock", "child_frame": "''", "rate": "2"},
}
SEEN = {
    "mapping": {"map_frame": "world", "base_frame": "", "odom_frame": "odom", "mode": "mapping", "map_publish_period": 2.0},
    "relocalization": {"reference_frame": "dock", "child_frame": "", "rate": 2.0},
}


@pytest.mark.parametrize("node", NODES)
def test_arguments_arrive_and_ctrl_c_ends_cleanly(ros: Ros, launch: Any, node: str, tmp_path: Path) -> None:
    words = [f"{name}:={value}" for name, value in (ALL_NODES | OF_NODE[node]).items()]
    expected = {name: ALL_NODES[name] for name in ("image_transport", "camera_axes", "rectified", "pair_model")}
    if node == "mapping":
        expected["mask_file"] = str(tmp_path / "mask.png")
        cv2.imwrite(expected["mask_file"], np.full((24, 32), 255, np.uint8))
        words.append(f"mask_file:={expected['mask_file']}")
    launched = launch(node, "namespace:=robot", *words)
    watching = observer(ros, f"/robot/st3r_{node}")
    wait_until(lambda: watching.state() == State.PRIMARY_STATE_ACTIVE, "the node to be active", PATIENCE_S)
    expected |= SEEN[node] | {"mast3r.device": "cpu", "publish_tf": False, "use_sim_time": True}
    assert watching.parameters(*expected) == list(expected.values())
    topics = {"/robot/camera/image_raw/compressed", "/robot/camera/info"}
    wait_until(lambda: topics <= watching.subscriptions_of(f"st3r_{node}", "/robot"), "the subscriptions", PATIENCE_S)
    assert "[INFO] [robot" not in launched.output  # log_level
    launched.ctrl_c()
    assert launched.wait() == 0
    assert "process has finished cleanly" in launched.output
    assert "died" not in launched.output
    assert "Traceback" not in launched.output


def test_arguments_go_before_the_file_and_autostart_can_be_off(ros: Ros, launch: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    rate: 3.0\n    reference_frame: shelf\n    autostart: true\n")
    launch("relocalization", f"params_file:={file}", "reference_frame:=dock", "autostart:=false")
    watching = observer(ros, "/st3r_relocalization")
    assert watching.parameters("rate", "reference_frame", "autostart") == [3.0, "dock", False]
    assert watching.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_the_demo_plays_into_the_mapping_node(ros: Ros, launch: Any) -> None:
    source = "sim:room?frames=8&width=64&height=48"
    launched = launch("demo", "namespace:=robot", f"source:={source}", "rate:=4", "map_frame:=world", "use_sim_time:=true")
    launched.wait_for("[camera_node-2]: process has finished cleanly")
    assert "Sent 8 images" in launched.output
    watching = observer(ros, "/robot/st3r_mapping")
    assert watching.state() == State.PRIMARY_STATE_ACTIVE
    assert watching.parameters("map_frame", "base_frame", "use_sim_time") == ["world", "", True]
    launched.ctrl_c()
    assert launched.wait() == 0
    assert "[mapping_node-1]: process has finished cleanly" in launched.output


def test_the_demo_uses_the_topics_it_is_given(ros: Ros, launch: Any) -> None:
    launch("demo", "image_topic:=eye/image_raw", "source:=sim:room?frames=60&width=64&height=48")
    watching = observer(ros, "/st3r_mapping")
    for topic in ("/eye/image_raw", "/eye/camera_info"):
        wait_until(
            lambda t=topic: watching.count_publishers(t) and watching.count_subscribers(t), f"both ends of {topic}", PATIENCE_S
        )
    assert watching.count_subscribers("/image") == 0


# Listens to what an RViz with this configuration would listen to.
RVIZ = """#!{python}
import sys, rclpy, yaml
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2

rclpy.init(args=sys.argv)
node = rclpy.create_node("rviz2")
displays = yaml.safe_load(open(remove_ros_args(sys.argv)[2]))["Visualization Manager"]["Displays"]
for topic in [display["Topic"]["Value"] for display in displays if "Topic" in display]:
    node.create_subscription(PointCloud2, topic, print, 1)
rclpy.spin(node)
"""


@pytest.fixture
def rviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package rviz2 that is none."""
    program, mark = tmp_path / "lib/rviz2/rviz2", tmp_path / "share/ament_index/resource_index/packages/rviz2"
    for file in (program, mark):
        file.parent.mkdir(parents=True)
    mark.touch()
    program.write_text(RVIZ.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.usefixtures("rviz")
@pytest.mark.parametrize("namespace", ["", "/robot"])
def test_rviz_looks_at_the_topics_of_the_node(ros: Ros, launch: Any, namespace: str) -> None:
    words = ["namespace:=robot"] if namespace else []
    launch("mapping", "rviz:=true", "image_topic:=camera/image_raw", *words)
    watching = observer(ros, f"{namespace}/st3r_mapping")
    topics = {f"{namespace}/{name}" for name in ("st3r_mapping/map_cloud", "st3r_mapping/markers", "st3r_relocalization/pose")}
    topics.add(f"{namespace}/camera/image_raw")

    def heard() -> set[str]:
        known = watching.get_node_names_and_namespaces()
        return watching.subscriptions_of("rviz2", namespace or "/") if ("rviz2", namespace or "/") in known else set()

    wait_until(lambda: topics <= heard(), "RViz to listen", PATIENCE_S)


def test_the_viewer_is_there_when_it_is_wanted(launch: Any, tmp_path: Path) -> None:
    file = tmp_path / "viewer.yaml"
    file.write_text("/**:\n  ros__parameters:\n    port: 0\n")
    launched = launch("mapping", "viewer:=true", f"viewer_config:={file}", "namespace:=robot")
    launched.wait_for("The map of st3r_mapping is on http://")
    launched.wait_for("Subscribed to /robot/image")
    launched.ctrl_c()
    assert launched.wait() == 0
    assert launched.output.count("process has finished cleanly") == 2


@pytest.mark.parametrize(
    ("file", "word", "sentence"),
    [
        ("relocalization", "rate:=fast", "rate is 'fast'; it must be a float."),
        ("mapping", "publish_tf:=perhaps", "publish_tf is 'perhaps'; it must be a bool."),
        (
            "mapping",
            "image_transport:=zip",
            "Valid options are: ['raw', 'compressed', 'foxglove', 'ffmpeg', 'as in params_file']",
        ),
        ("mapping", "params_file:=/nowhere.yaml", "params_file is '/nowhere.yaml', which is not a file."),
        ("mapping", "rviz:=true", "rviz2 is not installed"),
        ("mapping", "log_level:=loud", "Valid options are: ['debug', 'info', 'warn', 'error', 'fatal']"),
        ("relocalization", "rate:=-1", "rate out of range"),
        ("relocalization", "map_path:=/nowhere", "'/nowhere' is not there"),
        ("demo", "pair_model:=nothing", "pair_model is 'nothing'; it must be one of"),
        ("demo", "source:=/nowhere", "There is no file, folder or webcam '/nowhere'"),
    ],
)
def test_a_mistake_is_one_sentence_and_ends_all(launch: Any, file: str, word: str, sentence: str) -> None:
    launched = launch(file, word)
    launched.wait()
    assert sentence in launched.output
    assert "Traceback" not in launched.output


def test_a_misspelt_argument_is_noticed(launch: Any) -> None:
    launched = launch("mapping", "imag_topic:=/camera", "pair_model:=nothing")
    launched.wait()
    assert "There is no argument imag_topic; did you mean image_topic?" in launched.output
