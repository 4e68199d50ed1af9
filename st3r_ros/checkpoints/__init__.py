# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, files of weights: read without trust, told apart by layout and name, found by what a user names."""
