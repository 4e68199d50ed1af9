# SPDX-License-Identifier: Apache-2.0
"""The viewer in the browser: cloud, path and keyframes on a page that the library viser serves. Arrays in; it knows no ROS."""
