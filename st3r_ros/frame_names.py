# SPDX-License-Identifier: Apache-2.0
"""The one rule for names of TF frames."""


def frame_name(name: str) -> str:
    """A frame's name as tf2 knows it: without the slash that ROS 1 put before it, and without spaces around it.

    `/camera`, `//camera` and `camera` are one frame; `/` alone names none.
    """
    return name.strip().lstrip("/ ")
