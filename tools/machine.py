# SPDX-License-Identifier: Apache-2.0
"""The machine the set-up happens on: its Python, its ROS, and what it lacks."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The ROS packages whose Python modules are imported; and the module that makes such modules of .msg files, with its package.
ROS_PACKAGES = (
    *("ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs", "rclpy"),
    *("rcl_interfaces", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "visualization_msgs"),
)
ROS_MODULES = {name: name for name in ROS_PACKAGES} | {"rosidl_generator_py": "rosidl_default_generators"}


class SetupError(Exception):
    """The set-up cannot go on; the message says why and what to do."""


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

    def answer(self, code: str) -> str:
        """What this code prints in the venv's Python."""
        command = [self.venv_python, "-c", code]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=True).stdout.strip()


def find_machine(root: Path) -> Machine:
    """The Python and the ROS to build on. Raises SetupError when a ROS is sourced that this Python cannot use."""
    python = getattr(sys, "_base_executable", sys.executable)
    distribution = os.environ.get("ROS_DISTRO", "")
    if "ST3R_ROS_WHEELS" in os.environ:  # the shell has sourced .venv/env.sh, on a machine without ROS
        return Machine(root, python, "")
    trial = [python, "-c", "import numpy, rclpy"]
    if distribution and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
        return Machine(root, python, distribution)
    if os.environ.get("AMENT_PREFIX_PATH"):
        raise SetupError(
            f"A ROS 2 is sourced, but {python} (Python {platform.python_version()}) cannot import its rclpy; "
            "name the Python that ROS was built for, for example: make test PYTHON=/usr/bin/python3"
        )
    return Machine(root, python, "")


def check_system(machine: Machine) -> None:
    """Raises SetupError with one sentence and the apt line for all that the system lacks."""
    if len(str(machine.root).split()) > 1:
        raise SetupError(f"'{machine.root}' has a space, which colcon's scripts do not bear; move the checkout.")
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
