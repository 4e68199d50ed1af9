# SPDX-License-Identifier: Apache-2.0
"""Dense 3-D mapping and relocalization from one RGB camera, for ROS 2. Importing this imports neither torch nor rclpy."""

__version__ = "0.1.0"
