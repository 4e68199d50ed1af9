# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 face: thin nodes around the library. The only place that imports rclpy or messages."""
