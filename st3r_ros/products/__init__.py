# SPDX-License-Identifier: Apache-2.0
"""What is made of a map: point cloud and occupancy grid."""
