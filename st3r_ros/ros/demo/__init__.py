# SPDX-License-Identifier: Apache-2.0
"""The demonstration over ROS topics, `python -m st3r_ros.ros.demo`."""
