# SPDX-License-Identifier: Apache-2.0
"""Mapping compared with ground truth: the pair model `noisy_depth`, one run, and the table and picture of many."""
