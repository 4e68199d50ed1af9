# SPDX-License-Identifier: Apache-2.0
"""The implementation of the `st3r` commands; `cli.py` defines their options."""
