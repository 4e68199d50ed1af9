# SPDX-License-Identifier: Apache-2.0
"""Tracking, the keyframe map and its optimization. Pair models are injected. Start reading at `mapper.py`.

tracking: a frame's pose. keyframes: the map. places: what was seen before. optimization: where everything is.
"""
