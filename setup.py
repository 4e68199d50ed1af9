# SPDX-License-Identifier: Apache-2.0
"""For `pip install .`: the library without ROS and the `st3r` command. pyproject.toml says it all; colcon uses CMakeLists.txt."""

from setuptools import setup

setup()
