# SPDX-License-Identifier: Apache-2.0
"""Files in and out: image sequences, videos, bags, calibrations, trajectories, point clouds."""
