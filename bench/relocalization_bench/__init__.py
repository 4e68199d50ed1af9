# SPDX-License-Identifier: Apache-2.0
"""Relocalization measured against the truth: which pairs of images are tried, and what became of each try."""
