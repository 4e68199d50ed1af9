# SPDX-License-Identifier: Apache-2.0
"""The weightless pair model: features, epipolar geometry and semi-global stereo from OpenCV."""
