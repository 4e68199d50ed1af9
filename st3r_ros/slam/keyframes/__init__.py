# SPDX-License-Identifier: Apache-2.0
"""The map: keyframes with their pointmaps, how they come into it, are fused, compressed and culled."""
