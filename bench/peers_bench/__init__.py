# SPDX-License-Identifier: Apache-2.0
"""Other systems on the same images: the images as files, COLMAP, and ORB-SLAM3 in an environment of its own."""
