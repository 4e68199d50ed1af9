# SPDX-License-Identifier: Apache-2.0
"""Rotations, rigid and similarity transforms, cameras, alignment: pure functions and immutable values on float64 arrays."""
