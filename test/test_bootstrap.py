# SPDX-License-Identifier: Apache-2.0
"""The set-up does what is needed, once, and says what the machine lacks."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bootstrap(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import bootstrap

    return bootstrap


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the set-up depends on."""
    root = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("requirements", "msg", "tools", "st3r_ros", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("package.xml", "CMakeLists.txt"):
        shutil.copy(ROOT / name, root)
    return root


def pending(bootstrap, root, before) -> list[str]:
    """The stages that a change in `root` since `before` (name -> key) makes necessary."""
    return [
        stage.name for stage in bootstrap.stages(bootstrap.Machine(root, sys.executable, "")) if before[stage.name] != stage.key
    ]


@pytest.fixture
def before(bootstrap, checkout):
    return {stage.name: stage.key for stage in bootstrap.stages(bootstrap.Machine(checkout, sys.executable, ""))}


def test_nothing_changed_nothing_to_do(bootstrap, checkout, before):
    (checkout / "st3r_ros" / "errors.py").write_text("# sources are linked: an edit needs no set-up\n")
    (checkout / "st3r_ros" / "__pycache__").mkdir()
    (checkout / "st3r_ros" / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"")
    assert pending(bootstrap, checkout, before) == []


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("st3r_ros/slam/new_module.py", ["build"]),
        ("msg/Keyframe.msg", ["build"]),
        ("package.xml", ["build"]),
        ("requirements/constraints.txt", ["packages", "build"]),
    ],
)
def test_a_change_is_noticed(bootstrap, checkout, before, file, stages):
    with (checkout / file).open("a") as stream:
        stream.write("\n")
    assert pending(bootstrap, checkout, before) == stages


def test_the_oldest_versions_are_another_set_up(bootstrap, checkout, before, monkeypatch):
    monkeypatch.setenv("LOWEST", "1")
    assert pending(bootstrap, checkout, before) == ["packages", "build"]
    assert bootstrap.versions(checkout).is_file()


def test_a_moved_checkout_is_set_up_again(bootstrap, checkout, before):
    moved = checkout.rename(checkout.with_name("moved"))
    assert pending(bootstrap, moved, before) == ["packages", "build"]


def test_stages_run_once_and_an_interrupted_one_again(bootstrap, tmp_path, capsys):
    ran: list[str] = []
    broken: set[str] = set()

    def plan(**keys: str):
        def action(name: str) -> None:
            ran.append(name)
            if name in broken:
                raise bootstrap.SetupError("it broke")

        return [bootstrap.Stage(name, name, key, lambda _, name=name: action(name)) for name, key in keys.items()]

    def perform(**keys: str) -> list[str]:
        ran.clear()
        bootstrap.perform(plan(**keys), tmp_path / "setup.json", lambda: None)
        return list(ran)

    assert perform(a="1", b="1", c="1") == ["a", "b", "c"]
    assert perform(a="1", b="1", c="1") == []
    assert perform(a="1", b="2", c="1") == ["b", "c"]
    broken.add("b")
    with pytest.raises(bootstrap.SetupError):
        perform(a="1", b="1", c="1")
    broken.clear()
    assert perform(a="1", b="1", c="1") == ["b", "c"]


def test_what_the_system_lacks_is_said_with_the_apt_line(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.SetupError, match=r"sudo apt install cmake g\+\+ make"):
        bootstrap.check_system(bootstrap.Machine(tmp_path, sys.executable, ""))


def test_a_path_with_a_space_is_refused(bootstrap, tmp_path):
    with pytest.raises(bootstrap.SetupError, match="has a space"):
        bootstrap.check_system(bootstrap.Machine(tmp_path / "my robot", sys.executable, ""))


def test_a_sourced_ros_that_this_python_cannot_use_is_refused(bootstrap, monkeypatch, tmp_path):
    monkeypatch.delenv("ST3R_ROS_WHEELS", raising=False)
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(bootstrap.SetupError, match="PYTHON="):
        bootstrap.find_machine(tmp_path)


def test_a_failing_command_shows_the_end_of_its_output(bootstrap, tmp_path):
    progress = bootstrap.Progress("a stage", tmp_path / "setup.log")
    with pytest.raises(bootstrap.SetupError, match=r"no such wheel\n(.|\n)*a stage"):
        progress.run(["sh", "-c", "echo no such wheel; exit 3"], {"PATH": "/usr/bin:/bin"})
    assert "no such wheel" in (tmp_path / "setup.log").read_text()
