# SPDX-License-Identifier: Apache-2.0
"""One damped solver for poses of cameras and depths of points; what is minimised is stated by slam."""
