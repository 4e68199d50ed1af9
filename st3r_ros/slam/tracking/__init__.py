# SPDX-License-Identifier: Apache-2.0
"""The pose of a frame: images as one stream, the start of a map, a frame against keyframes."""
