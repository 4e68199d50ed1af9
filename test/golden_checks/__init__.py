# SPDX-License-Identifier: Apache-2.0
"""Comparison of this package with recorded outputs of the published models. Used by bench/goldens.py and by the tests."""
