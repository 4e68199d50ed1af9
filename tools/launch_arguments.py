# SPDX-License-Identifier: Apache-2.0
"""The arguments of the launch files, also where `launch` is not installed: they are read with stand-ins for what they import."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from unittest import mock

from ament_index_python.packages import get_package_share_directory

FOLDER = Path(__file__).resolve().parents[1] / "launch"


@dataclass
class Argument:
    """A DeclareLaunchArgument."""

    name: str
    default_value: str
    description: str
    choices: list[str] | None = None

    @property
    def default(self) -> str:
        """Its default, without where this machine has the package."""
        return self.default_value.replace(get_package_share_directory("st3r_ros"), "<share of st3r_ros>")


def include(file: str) -> list[Argument]:
    """The arguments of an included launch file."""
    return arguments_of(Path(file))


def launch_arguments(file: Path) -> list[Argument]:
    """The arguments of a launch file, those of the files it includes last; the first of a name counts."""
    stand_ins = {name: mock.MagicMock() for name in launch_modules()}
    stand_ins["launch"].LaunchDescription = list
    stand_ins["launch.actions"].DeclareLaunchArgument = Argument
    stand_ins["launch.actions"].IncludeLaunchDescription = include
    stand_ins["launch.launch_description_sources"].PythonLaunchDescriptionSource = str
    stand_ins["launch.launch_description_sources"].load_python_launch_file_as_module = load
    with mock.patch.dict(sys.modules, stand_ins):
        return arguments_of(file)


def arguments_of(file: Path) -> list[Argument]:
    found: dict[str, Argument] = {}
    for item in load(str(file)).generate_launch_description():
        for argument in item if isinstance(item, list) else [item]:
            if isinstance(argument, Argument):
                found.setdefault(argument.name, argument)
    return list(found.values())


def launch_modules() -> set[str]:
    """The modules of launch and launch_ros that the launch files import, and their packages."""
    sources = "\n".join(file.read_text(encoding="utf-8") for file in FOLDER.glob("*.py"))
    names = set(re.findall(r"^from (launch[\w.]*) import", sources, flags=re.MULTILINE))
    return {name.rsplit(".", depth)[0] for name in names for depth in range(name.count(".") + 1)}


def load(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch_file", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
