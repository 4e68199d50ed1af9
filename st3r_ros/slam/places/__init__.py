# SPDX-License-Identifier: Apache-2.0
"""Places that were seen before: found again by similarity and overlap, checked, and used for loops and for queries."""
