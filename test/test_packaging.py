# SPDX-License-Identifier: Apache-2.0
"""package.xml, CMakeLists.txt, pip's lists and the sources must tell one story."""

import ast
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import st3r_ros
from st3r_ros.types import MappingState

ROOT = Path(__file__).resolve().parent.parent
PIP_NAMES = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "PIL": "pillow", "pillow_heif": "pillow-heif"}
ROSDEP_KEYS = {"cv2": "python3-opencv", "PIL": "python3-pil"}
WITHOUT_ROSDEP_KEY = {
    "av",
    "evo",
    "huggingface_hub",
    "lz4",
    "mcap",
    "pillow_heif",
    "rosbags",
    "safetensors",
    "viser",
    "websockets",
    "zstandard",
}  # package.xml says so in a comment


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def dependencies(*kinds: str) -> set[str]:
    return {element.text for kind in kinds for element in package_xml().findall(kind) if element.text}


def names_in(requirements: str) -> set[str]:
    lines = (ROOT / "requirements" / requirements).read_text().splitlines()
    return {re.split(r"[^\w-]", line)[0] for line in lines if line and not line.startswith("#")}


OPTIONAL = names_in("view.txt") | names_in("video.txt") | names_in("heic.txt")


def imported_modules(*folders: str) -> set[str]:
    """Top-level modules the sources import, without our own and the standard library."""
    found = set()
    for source in (source for folder in folders for source in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"st3r_ros"}


def test_the_version_is_the_same_everywhere():
    assert package_xml().findtext("version") == st3r_ros.__version__


def test_every_import_is_declared_to_ros_or_to_both_rosdep_and_pip():
    declared = dependencies("depend", "exec_depend")
    for module in imported_modules("st3r_ros", "launch") - declared:
        assert PIP_NAMES.get(module, module) in names_in("library.txt") | OPTIONAL, module
        key = ROSDEP_KEYS.get(module, f"python3-{module}")
        assert (key in declared) != (module in WITHOUT_ROSDEP_KEY), module


def test_every_library_is_imported_and_has_a_tested_version():
    imported = {PIP_NAMES.get(module, module) for module in imported_modules("st3r_ros")}
    libraries = names_in("library.txt") | OPTIONAL
    assert libraries <= imported
    assert libraries <= names_in("constraints.txt")


def test_every_interface_is_built_and_its_packages_are_declared():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    interfaces = {str(path.relative_to(ROOT)) for pattern in ("msg/*.msg", "srv/*.srv") for path in ROOT.glob(pattern)}
    assert set(re.findall(r'"((?:msg|srv)/\w+\.(?:msg|srv))"', cmake)) == interfaces
    found = re.search(r"DEPENDENCIES ([\w ]+)\)", cmake)
    assert found is not None
    assert set(found[1].split()) == dependencies("depend")


def test_the_bootstrap_looks_for_every_ros_package_that_is_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from machine import ROS_PACKAGES

    ours = imported_modules("st3r_ros") & dependencies("depend", "exec_depend")
    assert ours <= set(ROS_PACKAGES) <= dependencies("depend", "exec_depend")


@pytest.mark.parametrize("program", sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file()))
def test_every_program_is_installed_and_starts_a_function_that_exists(program):
    source = (ROOT / "scripts" / program).read_text()
    assert source.startswith("#!/usr/bin/env python3\n")
    assert f"scripts/{program}" in (ROOT / "CMakeLists.txt").read_text()
    found = re.search(r"from ([\w.]+) import (\w+)", source)
    assert found is not None
    module = ast.parse((ROOT / found[1].replace(".", "/")).with_suffix(".py").read_text())
    assert found[2] in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}


def test_the_status_message_has_every_state_of_the_mapper():
    from st3r_ros.msg import MappingStatus

    values = [getattr(MappingStatus, state.name) for state in MappingState]
    assert len(set(values)) == len(MappingState)


def test_every_test_file_has_a_name_of_its_own():
    """Where their folders are no packages: of two of one name pytest imports only the first."""
    files = [path for path in (ROOT / "test").rglob("*.py") if not path.with_name("__init__.py").exists()]
    names = [path.name for path in files if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
