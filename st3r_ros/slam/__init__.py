# SPDX-License-Identifier: Apache-2.0
"""Tracking, the keyframe map and its optimization. Start reading at `mapper.py`. Pair models are injected."""
