# SPDX-License-Identifier: Apache-2.0
"""The pair model without weights: features, epipolar geometry and semi-global stereo from OpenCV."""
