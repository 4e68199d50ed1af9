# SPDX-License-Identifier: Apache-2.0
"""The viewer in the browser: cloud, path and keyframes on a page served by the library viser. Independent of ROS."""
