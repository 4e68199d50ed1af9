# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes, thin wrappers around the library. The only part that imports rclpy or messages."""
