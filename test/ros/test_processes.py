# SPDX-License-Identifier: Apache-2.0
"""The mapping node's life: transitions, mistakes, signals; and the demo, which is both nodes as processes."""

import dataclasses
import itertools
import json
import signal
from pathlib import Path

import pytest
from checkpoint_files import make_state, save_pth
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from ros_harness import Ros, wait_until

from st3r_ros.commands.demo import run_demo
from st3r_ros.config import DemoConfig, SimulationConfig
from st3r_ros.io.ply import read_ply
from st3r_ros.io.trajectory import read_tum
from st3r_ros.msg import MappingStatus
from st3r_ros.ros import conversions
from st3r_ros.ros.demo import __main__ as demo
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched
from st3r_ros.sim.sequence import SimulatedSequence

ROOM = "sim:room?width=320&height=240&frames=30&fps=8"


class Manager(Node):
    """A lifecycle manager."""

    def __init__(self) -> None:
        super().__init__("manager")
        self._change = self.create_client(ChangeState, "/st3r_mapping/change_state")
        self._get = self.create_client(GetState, "/st3r_mapping/get_state")
        self.states: list[int] = []
        self.processed = 0
        self.create_subscription(MappingStatus, "/st3r_mapping/status", self._hear, latched())
        self.images = self.create_publisher(conversions.Image, "image", 5)

    def _hear(self, status: MappingStatus) -> None:
        self.states.append(status.state)
        self.processed = status.frames_processed

    def change(self, transition: int) -> tuple[bool, int]:
        """Ask for a transition; whether it succeeded, and the state after it."""
        assert self._change.wait_for_service(20.0)
        changed = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        wait_until(changed.done, "the transition")
        state = self._get.call_async(GetState.Request())
        wait_until(state.done, "the state")
        return changed.result().success, state.result().current_state.id


def test_a_lifecycle_manager_takes_it_through_its_states(ros: Ros, tmp_path: Path) -> None:
    settings = {"autostart": "false", "base_frame": "''", "status_period": "0.02", "input_wait": "0.0", "output_dir": tmp_path}
    ros.init(*(word for name, value in settings.items() for word in ("-p", f"{name}:={value}")))
    mapping, manager = MappingNode(Stop()), Manager()
    mapping.start()
    ros.spin(mapping)
    ros.spin(manager)
    assert manager.change(Transition.TRANSITION_CONFIGURE) == (True, State.PRIMARY_STATE_INACTIVE)
    assert manager.states == []
    assert manager.change(Transition.TRANSITION_ACTIVATE) == (True, State.PRIMARY_STATE_ACTIVE)
    wait_until(lambda: manager.states, "a status")
    frame = next(iter(SimulatedSequence(SimulationConfig(frames=2, width=64, height=48))))

    def initializing() -> bool:
        manager.images.publish(conversions.image_message(frame, "camera"))
        return MappingStatus.INITIALIZING in manager.states

    wait_until(initializing, "an image to be mapped")
    assert manager.change(Transition.TRANSITION_DEACTIVATE) == (True, State.PRIMARY_STATE_INACTIVE)
    assert json.loads((tmp_path / "summary.json").read_text())["frames"] >= 1
    assert manager.change(Transition.TRANSITION_CLEANUP) == (True, State.PRIMARY_STATE_UNCONFIGURED)
    manager.states.clear()
    assert manager.change(Transition.TRANSITION_CONFIGURE) == (True, State.PRIMARY_STATE_INACTIVE)
    assert manager.change(Transition.TRANSITION_ACTIVATE) == (True, State.PRIMARY_STATE_ACTIVE)
    wait_until(lambda: manager.states, "a status of the second life")
    assert manager.states[0] == MappingStatus.WAITING
    assert manager.change(Transition.TRANSITION_ACTIVE_SHUTDOWN) == (True, State.PRIMARY_STATE_FINALIZED)


def test_a_network_maps_on_the_worker(ros: Ros, tmp_path: Path) -> None:
    """Its weights are random: the first image starts a map, and what comes of the others is not known."""
    checkpoint = save_pth(tmp_path / "dust3r.pth", make_state())
    ros.init("-p", "pair_model:=mast3r", "-p", f"checkpoint:={checkpoint}", "-p", "base_frame:=''", "-p", "input_wait:=0.0")
    stop = Stop()
    mapping = MappingNode(stop)
    mapping.start()
    assert stop.exit_code == 0
    manager = Manager()
    ros.spin(mapping)
    ros.spin(manager)
    frames = itertools.cycle(SimulatedSequence(SimulationConfig(frames=3, width=64, height=48)))
    stamps = itertools.count(1)

    def processed() -> bool:
        frame = dataclasses.replace(next(frames), stamp_ns=next(stamps) * 100_000_000)
        manager.images.publish(conversions.image_message(frame, "camera"))
        return manager.processed >= 3

    wait_until(processed, "three images to be mapped")
    assert set(manager.states) <= {MappingStatus.WAITING, MappingStatus.INITIALIZING, MappingStatus.TRACKING, MappingStatus.LOST}
    mapping.close()


@pytest.mark.parametrize(
    "mistake",
    [
        "pair_model:=nothing",
        "pair_model:=mast3r",
        "checkpoint:=/nowhere/weights.pth",
        "output_dir:=/dev/null/out",
        "opencv.min_matches:=20",
    ],
)
def test_it_cannot_be_configured_with_a_mistake(ros: Ros, mistake: str) -> None:
    ros.init("-p", mistake)
    stop = Stop()
    mapping = MappingNode(stop)
    mapping.start()
    mistaken = "min_matches" not in mistake
    assert stop.wait(0.0) is mistaken
    assert stop.exit_code == (2 if mistaken else 0)
    mapping.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_wait_for_a_model_to_be_loaded(
    ros: Ros, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def load(*_: object) -> None:
        signal.raise_signal(number)
        pytest.fail("The signal is not heard.")

    ros.init()
    stop = Stop()
    before = signal.signal(number, stop.on_signal)
    try:
        mapping = MappingNode(stop)
        monkeypatch.setattr("st3r_ros.ros.nodes.managed_node.start_pair_model", load)
        mapping.start()
        assert stop.wait(0.0)
        mapping.close()
    finally:
        signal.signal(number, before)
    assert stop.exit_code == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_signals_end_it_cleanly(signals: list[signal.Signals]) -> None:
    """Two at once are what a service manager and launch send, each for itself."""
    child = Child("mapping_node", {"base_frame": ""}, {})
    try:
        wait_until(lambda: any("Subscribed" in line for line in child.lines), "the node to listen", 60.0)
        for number in signals:
            child.signal(number)
        wait_until(lambda: not child.running, "the end of the node")
    finally:
        child.stop(0.0)
    assert child.exit_code == 0
    assert "Traceback" not in "\n".join(child.lines)


def test_the_demo_maps_a_sequence_through_both_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--input", ROOM, "--out", str(tmp_path), "--rate", "0.7"]) == 0
    output = capsys.readouterr().out
    assert "Images: 30 sent" in output
    assert "Error against the ground truth" in output
    assert all(str(tmp_path / name) in output for name in ("cloud.ply", "trajectory.txt", "map.png", "summary.json"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["truth"]["matched"] == summary["tracked"] > 0
    stamps = SimulatedSequence(SimulationConfig(frames=30, fps=8.0)).truth.stamps_ns.tolist()
    assert set(read_tum(tmp_path / "trajectory.txt").stamps_ns.tolist()) <= set(stamps)
    assert len(read_ply(tmp_path / "cloud.ply")) == summary["points"] > 100
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_reports_a_mistake_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(DemoConfig(input=str(tmp_path / "missing"), out=str(tmp_path / "out"))) == 2
    said = capsys.readouterr()
    assert "missing" in said.err and "Without ROS" not in said.out
