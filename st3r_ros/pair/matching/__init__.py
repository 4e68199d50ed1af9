# SPDX-License-Identifier: Apache-2.0
"""Dense matching in batched torch: reciprocal descriptors or points, projective search, sub-pixel, coarse to fine."""
