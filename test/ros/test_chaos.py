# SPDX-License-Identifier: Apache-2.0
"""Everything at the wrong time: drivers that die, clocks that jump, services in every state and all at once."""

import dataclasses
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from rendered import Rendered
from ros_harness import Ros, wait_until
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from st3r_ros.config import SimulationConfig
from st3r_ros.geometry.camera import Camera
from st3r_ros.maps import save as saving
from st3r_ros.maps.load import load_map
from st3r_ros.msg import MappingStatus
from st3r_ros.pair import load_pair_model
from st3r_ros.ros import conversions
from st3r_ros.ros.demo.child import Child
from st3r_ros.ros.nodes.mapping_node import MappingNode
from st3r_ros.ros.nodes.process import Stop
from st3r_ros.ros.qos import latched
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.srv import ExportMap, LoadMap, SaveMap
from st3r_ros.types import Frame

SEQUENCE = SimulatedSequence(SimulationConfig(seed=2, frames=24, fps=8.0, width=320, height=240))
FRAMES, CAMERA = Rendered(SEQUENCE), SEQUENCE.camera
STEP_NS = 100_000_000
FIRST_NS = 1_700_000_000_000_000_000
GOOD = (MappingStatus.TRACKING, MappingStatus.RELOCALIZED)
NAME = "/st3r_mapping"
SERVICES: dict[str, type] = {
    **dict.fromkeys(("reset", "pause", "resume"), Trigger),
    "save_map": SaveMap,
    "load_map": LoadMap,
    "export_map": ExportMap,
}
SETTINGS = ("-p", "base_frame:=''", "-p", "input_wait:=0.0", "-p", "status_period:=0.05")


class Driver(Node):
    """A camera driver that goes to and fro and can be killed."""

    def __init__(self) -> None:
        super().__init__("driver")
        self.images = self.create_publisher(Image, "image", 5)
        self.infos = self.create_publisher(CameraInfo, "camera_info", 5)

    def show(self, frame: Frame, camera: Camera | None = CAMERA) -> None:
        width, height = (320, 240) if camera is None else (camera.width, camera.height)
        self.infos.publish(conversions.camera_message(camera, frame.stamp_ns, "camera", width, height))
        self.images.publish(conversions.image_message(frame, "camera"))


class User(Node):
    """Who looks at the status, calls services and changes states."""

    def __init__(self) -> None:
        super().__init__("user")
        self.status = MappingStatus()
        self.create_subscription(MappingStatus, f"{NAME}/status", self._hear, latched())
        self.services_of = {name: self.create_client(kind, f"{NAME}/{name}") for name, kind in SERVICES.items()}
        self._change = self.create_client(ChangeState, f"{NAME}/change_state")
        self._state = self.create_client(GetState, f"{NAME}/get_state")

    def _hear(self, status: MappingStatus) -> None:
        self.status = status

    def ask(self, service: str, **fields: Any) -> Future:
        client = self.services_of[service]
        assert client.wait_for_service(20.0)
        return client.call_async(SERVICES[service].Request(**fields))

    def call(self, service: str, **fields: Any) -> Any:
        """Call a service; its answer has a sentence, whatever it is."""
        return answer(self.ask(service, **fields), service)

    def ask_change(self, transition: int) -> Future:
        assert self._change.wait_for_service(20.0)
        return self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))

    def change(self, transition: int) -> int:
        """Ask for a transition; the state after it."""
        wait_until(self.ask_change(transition).done, "the transition")
        return self.state

    @property
    def state(self) -> int:
        state = self._state.call_async(GetState.Request())
        wait_until(state.done, "the state")
        return state.result().current_state.id


def answer(future: Future, service: str) -> Any:
    wait_until(future.done, f"the answer of {service}")
    response = future.result()
    assert len(response.message) > 10 and response.message.endswith(".")
    assert "Internal error" not in response.message
    return response


class Robot:
    """A mapping node with its driver and user, all spinning."""

    def __init__(self, ros: Ros, *arguments: str, start: bool = True) -> None:
        ros.init(*SETTINGS, *arguments)
        self.node, self.driver, self.user = MappingNode(Stop()), Driver(), User()
        self._indices = itertools.cycle([*range(len(FRAMES)), *range(len(FRAMES) - 2, 0, -1)])
        self.stamp_ns = FIRST_NS
        if start:
            self.node.start()
        for each in (self.node, self.driver, self.user):
            ros.spin(each)
        if start:
            self.wait_for_listener()

    def wait_for_listener(self) -> None:
        for publisher in (self.driver.images, self.driver.infos):
            wait_until(publisher.get_subscription_count, "the node to listen")

    @property
    def handled(self) -> int:
        recorder = self.node.session.run.recorder
        return recorder.frames + recorder.skipped + self.node.counts.dropped

    def next_frame(self) -> Frame:
        self.stamp_ns += STEP_NS
        return dataclasses.replace(FRAMES[next(self._indices)], stamp_ns=self.stamp_ns)

    def show(self, frame: Frame | None = None, camera: Camera | None = CAMERA) -> Frame:
        """Show an image and wait until it is handled."""
        frame = frame or self.next_frame()
        before = self.handled
        self.driver.show(frame, camera)
        wait_until(lambda: self.node.counts.received == self.handled > before, "the image to be handled")
        return frame

    def track(self, camera: Camera | None = CAMERA) -> Frame:
        """Show images until the camera is tracked; the last one."""
        for _ in range(2 * len(FRAMES)):
            frame, session = self.show(camera=camera), self.node.session
            if session.stamp_ns == frame.stamp_ns and session.mapper.state.name in ("TRACKING", "RELOCALIZED"):
                return frame
        state = self.node.session.mapper.state
        pytest.fail(f"The camera was not found: {state}, {self.node.session.message(state)}")

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Images as fast as they go, whatever becomes of them."""
        ended = threading.Event()

        def stream() -> None:
            while not ended.wait(0.02):
                self.driver.show(self.next_frame())

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


# Drivers and clocks ---------------------------------------------------------------------------------------------------


def test_a_driver_that_died_is_found_again(ros: Ros) -> None:
    robot = Robot(ros)
    robot.track()
    keyframes = len(robot.node.session.mapper.map.keyframes)
    robot.driver.destroy_publisher(robot.driver.images)
    robot.driver.destroy_publisher(robot.driver.infos)
    wait_until(lambda: not robot.node.get_publishers_info_by_topic("/image"), "the driver to be gone")
    robot.driver = Driver()
    robot.wait_for_listener()
    robot.stamp_ns += 3600 * 10**9
    robot.track()
    assert len(robot.node.session.mapper.map.keyframes) >= keyframes


def test_a_calibration_that_changes_is_taken_and_one_for_another_size_is_not(ros: Ros) -> None:
    robot = Robot(ros)
    robot.track()
    half, closer = CAMERA.scaled(160, 120), dataclasses.replace(CAMERA, K=CAMERA.K * [[1.01], [1.01], [1.0]])
    robot.track(camera=half)
    assert robot.node.source.calibration == "calibrated"
    cameras, submit = [], robot.node.worker.submit
    robot.node.worker.submit = lambda item, **how: cameras.append(item.camera) or submit(item, **how)
    robot.track(camera=closer)
    assert cameras[-1] == closer


def test_a_camera_info_that_comes_during_the_start_begins_it_again(ros: Ros) -> None:
    robot = Robot(ros)
    for _ in range(2):
        robot.show(camera=None)
    mapper = robot.node.session.mapper
    assert mapper.state.name == "INITIALIZING" and not mapper.map.keyframes[0].K_known
    robot.show()
    assert "The calibration has arrived: the start begins again with it." in robot.node.session.message(mapper.state)
    assert robot.node.source.calibration == "calibrated"
    robot.track()
    assert all(keyframe.K_known for keyframe in mapper.map.keyframes.values())


def test_stamps_that_stand_still_are_named_and_tracking_goes_on_with_those_that_move(ros: Ros) -> None:
    robot = Robot(ros)
    last = robot.track()
    for _ in range(3):
        robot.show(last)
    wait_until(lambda: "not later" in robot.node.session.message(robot.node.session.mapper.state), "the reason")
    assert robot.node.session.run.recorder.skipped == 3
    robot.track()


def test_stamps_of_zero_are_one_image(ros: Ros) -> None:
    robot = Robot(ros)
    for _ in range(4):
        robot.show(dataclasses.replace(robot.next_frame(), stamp_ns=0))
    wait_until(lambda: robot.node.session.run.recorder.skipped == 3, "the images without a stamp to be refused")
    assert "set the stamps" in robot.node.session.message(robot.node.session.mapper.state)
    robot.track()


def test_a_clock_that_jumps_to_and_fro(ros: Ros) -> None:
    """Simulated time: timers, and with them the status, follow it; images are tracked wherever it is."""
    robot = Robot(ros, "-p", "use_sim_time:=true")
    clock = robot.driver.create_publisher(Clock, "/clock", 10)
    wait_until(clock.get_subscription_count, "the node to follow the clock")
    for jump in (0, 10**13, -2 * 10**13, 10**12):
        robot.stamp_ns += jump
        robot.track()
        now = robot.stamp_ns

        def told(jump: int = now) -> bool:
            """The clock goes on, in steps of a status period."""
            self_ns = told.now_ns = getattr(told, "now_ns", jump) + 60_000_000
            clock.publish(Clock(clock=conversions.stamp_from_ns(self_ns)))
            status = robot.user.status
            return status.state in GOOD and conversions.stamp_to_ns(status.header.stamp) == jump

        wait_until(told, f"a status after a jump of {jump * 1e-9:g} s")
        robot.stamp_ns = max(robot.stamp_ns, now)


# Services -------------------------------------------------------------------------------------------------------------


def test_services_answer_in_every_state(ros: Ros, tmp_path: Path) -> None:
    robot = Robot(ros, "-p", "autostart:=false", start=False)
    robot.node.start()
    user, folder = robot.user, str(tmp_path / "map")
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    not_configured(user)

    assert user.change(Transition.TRANSITION_CONFIGURE) == State.PRIMARY_STATE_INACTIVE
    for service, words in {"pause": "not active", "resume": "not active", "save_map": "empty", "load_map": "folder"}.items():
        answered = user.call(service)
        assert not answered.success
        assert words in answered.message or "folder" in answered.message
    assert not user.call("export_map", path=folder).success
    assert user.call("reset").success

    assert user.change(Transition.TRANSITION_ACTIVATE) == State.PRIMARY_STATE_ACTIVE
    robot.wait_for_listener()
    robot.track()
    assert user.call("pause").success
    assert user.call("resume").success
    assert user.call("save_map", folder=folder).success
    assert user.call("export_map", path=str(tmp_path / "map.ply")).success

    assert user.change(Transition.TRANSITION_DEACTIVATE) == State.PRIMARY_STATE_INACTIVE
    assert not user.call("pause").success
    assert user.call("save_map").success
    assert user.call("load_map").success

    assert user.change(Transition.TRANSITION_CLEANUP) == State.PRIMARY_STATE_UNCONFIGURED
    not_configured(user)
    assert user.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == State.PRIMARY_STATE_FINALIZED
    not_configured(user)


def not_configured(user: User) -> None:
    for service in SERVICES:
        answered = user.call(service)
        assert not answered.success
        assert "not configured" in answered.message


@pytest.fixture
def slow_save(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Saving begins (the first event is set) and waits for the second."""
    begun, may_end = threading.Event(), threading.Event()
    write = saving.write_synced

    def write_slowly(*arguments: Any) -> Any:
        begun.set()
        assert may_end.wait(30.0)
        return write(*arguments)

    monkeypatch.setattr(saving, "write_synced", write_slowly)
    yield begun, may_end
    may_end.set()


def test_while_the_map_is_saved_everything_else_waits_or_goes_on(
    ros: Ros, tmp_path: Path, slow_save: tuple[threading.Event, threading.Event]
) -> None:
    begun, may_end = slow_save
    robot = Robot(ros)
    robot.track()
    saved = robot.user.ask("save_map", folder=str(tmp_path / "map"))
    wait_until(begun.is_set, "the save to begin")
    others = [robot.user.ask(name) for name in ("pause", "resume", "reset")]
    received = robot.node.counts.received
    for _ in range(5):
        robot.driver.show(robot.next_frame())
    wait_until(lambda: robot.node.counts.received > received, "images to be received meanwhile")
    assert robot.node.set_parameters([Parameter("cloud.voxel_size", value=0.1)])[0].successful
    assert not saved.done() and not any(other.done() for other in others)
    may_end.set()
    assert answer(saved, "save_map").success
    assert all(answer(other, "another").success for other in others)
    assert load_map(tmp_path / "map").map.keyframes
    robot.track()


@pytest.mark.parametrize("transition", [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN])
def test_a_transition_during_a_save_waits_for_it(
    ros: Ros, tmp_path: Path, slow_save: tuple[threading.Event, threading.Event], transition: int
) -> None:
    begun, may_end = slow_save
    robot = Robot(ros)
    robot.track()
    saved = robot.user.ask("save_map", folder=str(tmp_path / "map"))
    wait_until(begun.is_set, "the save to begin")
    waiting = robot.user.ask("reset")
    changed = robot.user.ask_change(transition)
    may_end.set()
    wait_until(changed.done, "the transition")
    assert changed.result().success
    assert answer(saved, "save_map").success
    answer(waiting, "reset")
    assert load_map(tmp_path / "map").map.keyframes


def test_all_at_once(ros: Ros, tmp_path: Path) -> None:
    """Images, services, parameters and transitions from many sides: everything is answered, and in the end it tracks."""
    robot = Robot(ros)
    robot.track()
    folder = str(tmp_path / "map")
    assert robot.user.call("save_map", folder=folder).success
    rng = np.random.default_rng(0)
    ended = threading.Event()
    refused: list[str] = []

    def set_parameters() -> None:
        while not ended.wait(0.01):
            value = float(rng.uniform(0.05, 0.5))
            result = robot.node.set_parameters_atomically([Parameter("cloud.voxel_size", value=value)])
            refused.extend([] if result.successful else [result.reason])

    setter = threading.Thread(target=set_parameters)
    setter.start()
    try:
        with robot.streaming():
            for _ in range(4):
                names = rng.permutation(["reset", "pause", "resume", "save_map", "load_map", "save_map", "resume"])
                futures = [robot.user.ask(name) for name in names]
                for name, future in zip(names, futures, strict=True):
                    answer(future, name)
            for _ in range(2):
                assert robot.user.change(Transition.TRANSITION_DEACTIVATE) == State.PRIMARY_STATE_INACTIVE
                futures = [robot.user.ask("reset"), robot.user.ask_change(Transition.TRANSITION_CLEANUP)]
                wait_until(futures[1].done, "the cleanup")
                answer(futures[0], "reset")
                assert robot.user.change(Transition.TRANSITION_CONFIGURE) == State.PRIMARY_STATE_INACTIVE
                assert robot.user.change(Transition.TRANSITION_ACTIVATE) == State.PRIMARY_STATE_ACTIVE
                answer(robot.user.ask("reset"), "reset")
    finally:
        ended.set()
        setter.join()
    assert refused == []
    robot.wait_for_listener()
    robot.stamp_ns += 10**9
    robot.track()
    counts = robot.node.counts
    wait_until(lambda: counts.received == robot.handled, "the counts to agree")


def test_a_node_that_is_killed_while_it_saves_leaves_a_whole_map(ros: Ros, tmp_path: Path) -> None:
    folder, mapper = tmp_path / "map", Mapper(load_pair_model("opencv"))
    for frame in FRAMES:
        mapper.register_frame(frame)
    saving.save_map(folder, mapper.map, pair_model="opencv")
    child = Child("mapping_node", {"base_frame": "", "map_path": str(folder)}, {})
    try:
        ros.init()
        user = User()
        ros.spin(user)
        wait_until(lambda: any("Subscribed" in line for line in child.lines), "the node to listen", 60.0)
        before = set(os.listdir(tmp_path))
        for _ in range(20):
            user.ask("save_map")
        wait_until(lambda: set(os.listdir(tmp_path)) - before, "a save to begin")
        child.signal(signal.SIGKILL)
        wait_until(lambda: not child.running, "the end of the node")
    finally:
        child.stop(0.0)
    assert child.exit_code == -signal.SIGKILL
    left = load_map(folder).map
    assert left.keyframes.keys() == mapper.map.keyframes.keys()
    assert len(left.frames) == len(mapper.map.frames)
