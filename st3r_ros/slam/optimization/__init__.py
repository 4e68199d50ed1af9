# SPDX-License-Identifier: Apache-2.0
"""Where everything is: window and pose graph, the metric scale, and whether odometry can be believed."""
