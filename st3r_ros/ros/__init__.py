# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes, thin wrappers around the library. The only part that imports rclpy or messages.

nodes: the nodes and their sessions. input: images and calibrations. tf: transforms. outputs: what is published. viewer, demo: two
programs beside them.
"""
