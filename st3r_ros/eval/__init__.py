# SPDX-License-Identifier: Apache-2.0
"""Evaluation of maps: trajectory errors, depth errors, and a picture."""
